//! What users' traffic says about uplinks: who hears of it, and how much less an uplink is probed for
//! it.

use std::time::Duration;

use super::{Engine, Moment};
use crate::config::Passive;
use crate::controller::uplink::Uplink;
use crate::family::Family;
use crate::health::{Health, Traffic};
use crate::uplink::UplinkId;

/// So many intervals are left out at most while users are answered.
const RESTS: u32 = 10;
/// Where turns come as often as answers are looked for there is nothing to be left out.
const SHORT: Duration = Duration::from_millis(100);

impl Engine {
    /// Takes in what users' traffic says. Returns whether the uplink is to be probed at once.
    pub fn traffic(&mut self, id: UplinkId, family: Family, news: Traffic, now: Moment) -> bool {
        let Some(uplink) = self.uplinks.get_mut(&id) else {
            return false;
        };
        let state = uplink.families.get_mut(family);
        if uplink.config.probe.passive == Passive::Off || state.path().is_none() {
            return false;
        }
        state.machine().traffic(now.at, news);
        matches!(news, Traffic::Unanswered(_)) && state.health() != Health::Down
    }

    /// The longest time from one round to the next while users are answered. Nothing is left out
    /// where answers are missed, or are measured by the user's limits or for a strategy, or where
    /// flows wait for the word of others before they are forgotten.
    pub(super) fn rest(
        &self,
        uplink: &Uplink,
        family: Family,
        interval: Duration,
    ) -> Option<Duration> {
        let probe = &uplink.config.probe;
        let state = uplink.families.get(family);
        let may = probe.passive == Passive::Auto
            && !probe.quality.has_limits()
            && !self.wants_latency(uplink)
            && state.health() == Health::Up
            && !state.is_in_question()
            && self.owed.iter().all(|(_, owed)| *owed != family)
            && probe.interval > SHORT;
        may.then(|| interval.saturating_mul(RESTS))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::controller::engine::tests::{Bench, YAML, id};
    use crate::health::Unanswered;

    fn up(yaml: &str) -> Bench {
        let mut bench = Bench::new(yaml);
        bench.rounds(10, &[]);
        bench.decide();
        bench
    }

    fn rest(bench: &Bench, uplink: u8) -> Option<Duration> {
        let plans = bench.engine.probe_plans();
        plans.get(&(id(uplink), Family::Ipv4)).unwrap().rest
    }

    fn unanswered(since: Instant, hosts: u32) -> Traffic {
        Traffic::Unanswered(Unanswered {
            since,
            hosts,
            packets: 20,
        })
    }

    #[test]
    fn rounds_are_left_out_while_all_is_well_and_nobody_wants_to_know_more() {
        let bench = up(YAML);
        assert_eq!(rest(&bench, 1), Some(Duration::from_secs(5)));
        for key in [
            "passive: off",
            "max_loss: 25%",
            "max_latency: 1s",
            "interval: 100ms",
        ] {
            let bench = up(&YAML.replace("id: 1}", &format!("id: 1, probe: {{{key}}}}}")));
            assert_eq!(rest(&bench, 1), None, "{key}");
        }
        let mut bench = up(YAML);
        bench.rounds(1, &[(1, Family::Ipv4)]);
        bench.decide();
        assert_eq!(rest(&bench, 1), None, "it is in question");
        assert_eq!(rest(&bench, 2), Some(Duration::from_secs(5)));
    }

    #[test]
    fn who_is_not_to_heed_traffic_is_not_told() {
        let mut bench = up(&YAML.replace("id: 1}", "id: 1, probe: {passive: off}}"));
        let now = bench.now();
        let news = unanswered(now.at, 9);
        assert!(!bench.engine.traffic(id(1), Family::Ipv4, news, now));
        assert!(bench.engine.traffic(id(2), Family::Ipv4, news, now));
        let answered = Traffic::Answered {
            at: now.at,
            hosts: 9,
        };
        assert!(!bench.engine.traffic(id(2), Family::Ipv4, answered, now));
    }

    #[test]
    fn a_dead_uplink_is_not_probed_for_what_late_packets_of_users_want() {
        let mut bench = up(YAML);
        bench.rounds(10, &[(1, Family::Ipv4)]);
        bench.decide();
        let now = bench.now();
        let news = unanswered(now.at, 9);
        assert!(!bench.engine.traffic(id(1), Family::Ipv4, news, now));
    }
}
