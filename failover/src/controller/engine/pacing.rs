//! How often each uplink is probed: at full rate where its verdict matters now, and less often where
//! it does not, or where every byte is paid for.

use std::time::Duration;

use super::Engine;
use crate::controller::uplink::Uplink;
use crate::family::Family;
use crate::meter::{LONGEST_IDLE, LONGEST_IN_USE};
use crate::select::Tier;

/// So much longer is the interval of an uplink that nobody uses and nobody is about to need.
const IDLE: u32 = 5;
/// The same where bytes are paid for.
const IDLE_METERED: u32 = 60;
/// That of an uplink in use where bytes are paid for, as long as it answers.
const METERED: u32 = 10;

impl Engine {
    /// From one round to the next, for now.
    pub(super) fn interval(&self, uplink: &Uplink, family: Family) -> Duration {
        let interval = uplink.config.probe.interval;
        // What is disabled is not needed before somebody says so.
        let disabled = uplink.families.get(family).is_disabled();
        // Without a verdict on those in use nobody knows who will be needed.
        let certain =
            disabled || self.pools.get(family).tier == Tier::Up && !self.is_doubtful(family);
        let settled = !uplink.families.get(family).is_in_question();
        // It is used, or would be if it were up.
        let wanted = !disabled
            && self
                .priority_in_use(family)
                .is_none_or(|used| uplink.config.priority <= used);
        let slower = match (settled, certain, wanted, uplink.config.metered) {
            (false, ..) | (true, false, false, _) | (true, _, true, false) => 1,
            (true, _, true, true) => METERED,
            (true, true, false, false) => IDLE,
            (true, true, false, true) => IDLE_METERED,
        };
        let interval = interval.saturating_mul(slower);
        // What may be needed at any moment is asked whatever it costs.
        match uplink.spread.filter(|_| settled && (certain || wanted)) {
            Some(spread) if wanted => spread.interval(interval, LONGEST_IN_USE),
            Some(spread) => spread.interval(interval, LONGEST_IDLE),
            None => interval,
        }
    }

    fn priority_in_use(&self, family: Family) -> Option<u32> {
        self.in_use(family)
            .map(|uplink| uplink.config.priority)
            .min()
    }

    fn in_use(&self, family: Family) -> impl Iterator<Item = &Uplink> {
        let members = self.pools.get(family).members.keys();
        members.filter_map(|id| self.uplinks.get(id))
    }

    /// Whether one of those in use may be about to fail.
    fn is_doubtful(&self, family: Family) -> bool {
        self.in_use(family)
            .any(|uplink| uplink.families.get(family).is_doubtful())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::engine::tests::{Bench, YAML, id};

    /// The interval of an uplink in milliseconds.
    fn interval(bench: &Bench, uplink: u8) -> u128 {
        let plans = bench.engine.probe_plans();
        let plan = plans.get(&(id(uplink), Family::Ipv4)).unwrap();
        plan.interval.as_millis()
    }

    fn up(yaml: &str) -> Bench {
        let mut bench = Bench::new(yaml);
        bench.rounds(10, &[]);
        bench.decide();
        bench
    }

    #[test]
    fn the_reserve_is_asked_less_often_until_it_may_be_needed() {
        let mut bench = up(YAML);
        assert_eq!([1, 2, 3].map(|n| interval(&bench, n)), [500, 500, 2500]);
        bench.rounds(1, &[(1, Family::Ipv4)]);
        bench.decide();
        assert_eq!(interval(&bench, 3), 500);
        bench.rounds(1, &[]);
        bench.decide();
        assert_eq!(interval(&bench, 3), 2500);
        let both = [(1, Family::Ipv4), (2, Family::Ipv4)];
        bench.rounds(10, &both);
        bench.decide();
        assert_eq!([1, 2, 3].map(|n| interval(&bench, n)), [500, 500, 500]);
    }

    #[test]
    fn a_reserve_in_question_is_asked_at_full_rate() {
        let mut bench = up(YAML);
        let reserve = [(3, Family::Ipv4)];
        bench.rounds(1, &reserve);
        bench.decide();
        assert_eq!(interval(&bench, 3), 500);
        bench.rounds(9, &reserve);
        bench.decide();
        assert_eq!(interval(&bench, 3), 2500, "it is dead, and nobody needs it");
        bench.rounds(1, &[]);
        bench.decide();
        assert_eq!(interval(&bench, 3), 500, "it is about to return");
    }

    #[test]
    fn a_metered_uplink_is_asked_sparingly() {
        let bench = up(&YAML.replace("id: 2}", "id: 2, metered: true}"));
        assert_eq!([1, 2].map(|n| interval(&bench, n)), [500, 5000]);
        let mut bench = up(&YAML.replace("priority: 2", "priority: 2, metered: true"));
        assert_eq!(interval(&bench, 3), 30_000);
        bench.rounds(10, &[(1, Family::Ipv4), (2, Family::Ipv4)]);
        bench.decide();
        assert_eq!(interval(&bench, 3), 5000, "it is in use");
        bench.rounds(1, &[1, 2, 3].map(|n| (n, Family::Ipv4)));
        bench.decide();
        assert_eq!(interval(&bench, 3), 500, "it is in question");
    }
}
