//! What uplinks have to answer for that failed again and again, over a restart of the daemon.

use std::collections::BTreeMap;

use super::{Engine, Moment};
use crate::family::{Family, PerFamily};
use crate::health::Damping;
use crate::state::RememberedDamping;
use crate::uplink::UplinkName;

/// What uplinks have to answer for, of those that ever failed.
pub type Dampings = BTreeMap<UplinkName, PerFamily<Damping>>;

impl Engine {
    /// Uplinks failed as often when an earlier daemon ran. To be told before the first decision.
    pub fn resume_damping(&mut self, remembered: &RememberedDamping, now: Moment) {
        for uplink in self.uplinks.values_mut() {
            let Some(kept) = remembered.get(&uplink.name) else {
                continue;
            };
            for (family, kept) in kept.iter() {
                if let Some(kept) = kept {
                    let machine = uplink.families.get_mut(family).machine();
                    machine.resume_damping(kept, now.at, now.wall);
                }
            }
        }
    }

    /// What uplinks have to answer for, to be remembered over a restart.
    #[must_use]
    pub fn dampings(&self) -> Dampings {
        self.uplinks
            .values()
            .map(|uplink| {
                let of = |family| uplink.families.get(family).damping().clone();
                (uplink.name.clone(), PerFamily::from_fn(of))
            })
            .filter(|(_, dampings)| Family::ALL.iter().any(|f| dampings.get(*f).ever_failed()))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::engine::tests::{Bench, YAML, both, view};
    use crate::state::RememberedHealth;

    /// A bench whose first uplink failed twice, and answers again.
    fn flapped() -> Bench {
        let mut bench = Bench::new(YAML);
        for dead in [&[][..], &both(1), &[], &both(1), &[]] {
            bench.rounds(5, dead);
            bench.decide();
        }
        assert_eq!(bench.members(Family::Ipv4), [2], "it is held back");
        bench
    }

    #[test]
    fn the_next_daemon_holds_back_what_this_one_did() {
        let bench = flapped();
        let dampings = bench.engine.dampings();
        let now = bench.now();
        let kept: RememberedDamping = dampings
            .into_iter()
            .map(|(name, families)| (name, families.map(|one| one.kept(now.at, now.wall))))
            .collect();
        let names: Vec<&str> = kept.keys().map(UplinkName::as_str).collect();
        assert_eq!(names, ["fiber"]);

        let health: RememberedHealth = bench.engine.remembered();
        let mut next = Bench::with(YAML, view(), &health);
        let now = next.now();
        next.engine.resume_damping(&kept, now);
        next.rounds(20, &[]);
        next.decide();
        assert_eq!(next.members(Family::Ipv4), [2], "it is held back still");
        let held = next.engine.trust(&"fiber".parse().unwrap(), next.now());
        assert_eq!(held, Family::ALL);
        assert!(next.engine.is_stale(), "it is to be written down");
        next.decide();
        assert_eq!(next.members(Family::Ipv4), [1, 2]);
        assert!(next.engine.dampings().is_empty());
        // It would be trusted at once without.
        let mut forgetful = Bench::with(YAML, view(), &health);
        forgetful.rounds(20, &[]);
        forgetful.decide();
        assert_eq!(forgetful.members(Family::Ipv4), [1, 2]);
    }
}
