//! What the track file says of the uplinks.

use super::Engine;
use crate::family::{Family, PerFamily};
use crate::select::Tier;
use crate::status::State;
use crate::track::{self, Reach};

impl Engine {
    /// The number for the track file, of what was last decided. An uplink that has had no verdict yet
    /// does not count: a router that has just been started waits until it knows.
    #[must_use]
    pub fn track_value(&self) -> u8 {
        track::value(PerFamily::from_fn(|family| self.reach(family)))
    }

    fn reach(&self, family: Family) -> Reach {
        let mut states = self.uplinks.values().map(|uplink| {
            let state = uplink.families.get(family);
            state.state()
        });
        match self.pools.get(family).tier {
            Tier::Up | Tier::Degraded => Reach::Usable,
            Tier::Unproven | Tier::LastResort | Tier::Nothing => {
                if states.all(|state| state == State::Absent) {
                    Reach::Absent
                } else {
                    Reach::Lost
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::controller::engine::tests::{Bench, YAML, view};
    use crate::family::Family;
    use crate::state::RememberedHealth;

    #[test]
    fn it_says_whether_anybody_can_still_be_brought_out() {
        let both = |id: u8| Family::ALL.map(|family| (id, family));
        let two = [both(1), both(2)].concat();
        let all = [both(1), both(2), both(3)].concat();
        let ipv4 = [1, 2, 3].map(|id| (id, Family::Ipv4));
        let mut bench = Bench::new(YAML);
        bench.decide();
        assert_eq!(bench.engine.track_value(), 2, "nothing is known yet");
        bench.rounds(1, &[]);
        bench.decide();
        assert_eq!(bench.engine.track_value(), 0);
        bench.rounds(5, &two);
        bench.decide();
        assert_eq!(bench.engine.track_value(), 0, "the third one works");
        bench.rounds(5, &ipv4);
        bench.decide();
        assert_eq!(bench.engine.track_value(), 1);
        bench.rounds(5, &all);
        bench.decide();
        assert_eq!(bench.engine.track_value(), 2);
        bench.rounds(20, &two);
        bench.decide();
        assert_eq!(bench.engine.track_value(), 0);
    }

    #[test]
    fn a_family_that_nobody_has_is_not_missed() {
        let mut ipv4 = view();
        ipv4.addresses.retain(|own| own.address.is_ipv4());
        let mut bench = Bench::with(YAML, ipv4, &RememberedHealth::new());
        bench.rounds(1, &[]);
        bench.decide();
        assert_eq!(bench.engine.track_value(), 0);
        // One uplink has it after all, and it is out of order there.
        bench.view = view();
        bench
            .view
            .addresses
            .retain(|own| Family::of(own.address) == Family::Ipv4 || own.interface.0 == 1);
        bench.look();
        bench.rounds(5, &[(1, Family::Ipv6)]);
        bench.decide();
        assert_eq!(bench.engine.track_value(), 1);
    }
}
