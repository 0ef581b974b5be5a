//! Targets whose silence is their own fault.

use super::{Engine, Moment, tracing_transition};
use crate::family::Family;
use crate::health::{Asked, Blamed, Round};
use crate::uplink::UplinkId;

impl Engine {
    /// Finds out by a round whose fault a silence is, before the uplink is judged by it.
    pub(super) fn blame(&mut self, id: UplinkId, family: Family, round: &Round, now: Moment) {
        let Some(uplink) = self.uplinks.get(&id) else {
            return;
        };
        let asked = Asked {
            required: uplink.config.probe.required,
            down_after: uplink.config.probe.down_after,
        };
        let changes = self.blame.learn(id, family, asked, round);
        self.set_aside(changes, now);
        // By another plan the same targets have other places.
        self.judge_without(id, family, now);
    }

    /// Who is not probed has nothing to say about a target.
    pub(super) fn blame_nobody_unasked(&mut self, now: Moment) {
        let mut changes = Vec::new();
        for (&id, uplink) in &self.uplinks {
            for (family, state) in uplink.families.iter() {
                if state.path().is_none() {
                    changes.extend(self.blame.forget(id, family));
                }
            }
        }
        self.set_aside(changes, now);
    }

    /// Targets that were set aside, or count again, since this was last asked.
    pub fn take_blamed(&mut self) -> Vec<Blamed> {
        std::mem::take(&mut self.blamed)
    }

    fn set_aside(&mut self, changes: Vec<Blamed>, now: Moment) {
        if changes.is_empty() {
            return;
        }
        let ids: Vec<UplinkId> = self.uplinks.keys().copied().collect();
        for id in ids {
            for family in Family::ALL {
                self.judge_without(id, family, now);
            }
        }
        self.stale = true;
        self.blamed.extend(changes);
    }

    fn judge_without(&mut self, id: UplinkId, family: Family, now: Moment) {
        let aside = self.blame.aside(id, family);
        let Some(uplink) = self.uplinks.get_mut(&id) else {
            return;
        };
        let machine = uplink.families.get_mut(family).machine();
        let transition = machine.set_aside(now.at, aside);
        tracing_transition(id, family, transition.as_ref());
        if transition.is_some() {
            self.stale = true;
            self.tell(now);
        }
    }
}
