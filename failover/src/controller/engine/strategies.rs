//! What strategies go by: which uplink answers soonest, and which are full.
//!
//! Of each pool it is kept who led it by latency at the last decision: near equals do not take turns.
//! How much uplinks carry is told once a second where a strategy wants to know.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Engine, Moment};
use crate::config::Percent;
use crate::controller::uplink::Uplink;
use crate::family::{Family, PerFamily};
use crate::interface::InterfaceName;
use crate::load::{Capacity, Load};
use crate::network::Link;
use crate::policy::{Via, choose_via};
use crate::select::{Candidate, Chosen, Measures, Pool, Strategy, choose, select_by};
use crate::uplink::{UplinkId, UplinkName};

/// Who gets all new flows of pools since they answer soonest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Leaders {
    /// Of flows that no rule names.
    common: PerFamily<Option<UplinkId>>,
    /// Of rules, by how they name uplinks; those that go by latency.
    rules: BTreeMap<Via, PerFamily<Option<UplinkId>>>,
}

impl Leaders {
    /// The leader of a rule's pool.
    pub(super) fn of_rule(&self, via: &Via, family: Family) -> Option<UplinkId> {
        *self.rules.get(via)?.get(family)
    }
}

impl Engine {
    /// Takes in what the interfaces of uplinks counted, as of now.
    pub fn loads(&mut self, links: &BTreeMap<InterfaceName, Link>, now: Moment) {
        for (id, capacity, shares) in self.measured() {
            if let Some(uplink) = self.uplinks.get_mut(&id) {
                let link = links.get(&uplink.config.interface);
                let counted = link.map(|link| link.traffic);
                self.stale |= uplink.load.read(counted, capacity, &shares, now.at);
            }
        }
    }

    /// Whether a strategy goes by how much uplinks carry.
    #[must_use]
    pub fn wants_loads(&self) -> bool {
        !self.measured().is_empty()
    }

    /// Of uplinks that are measured no more, nothing is known from now on.
    pub(in crate::controller) fn forget_loads(&mut self) {
        let measured: BTreeSet<UplinkId> = self.measured().into_iter().map(|(id, ..)| id).collect();
        for (id, uplink) in &mut self.uplinks {
            if !measured.contains(id) {
                uplink.load = Load::default();
            }
        }
    }

    /// Uplinks that strategies want to know to be full, and the shares of their capacities from
    /// which they are.
    fn measured(&self) -> Vec<(UplinkId, Capacity, BTreeSet<Percent>)> {
        let share = |strategy| match strategy {
            Strategy::Overflow(share) => Some(share),
            Strategy::Weight | Strategy::LeastLatency => None,
        };
        let measured = self.uplinks.iter().filter_map(|(id, uplink)| {
            let capacity = uplink.config.capacity?;
            let naming = self.policy.vias.iter().filter(|via| {
                share(via.strategy).is_some() && via.uplinks().any(|name| *name == uplink.name)
            });
            let mut shares: BTreeSet<Percent> =
                naming.filter_map(|via| share(via.strategy)).collect();
            shares.extend(share(self.config.strategies.of(uplink.config.priority)));
            (!shares.is_empty()).then_some((*id, capacity, shares))
        });
        measured.collect()
    }

    /// Whether a strategy goes by how soon an uplink answers.
    pub(super) fn wants_latency(&self, uplink: &Uplink) -> bool {
        let common = self.config.strategies.of(uplink.config.priority);
        common == Strategy::LeastLatency
            || self.policy.vias.iter().any(|via| {
                via.strategy == Strategy::LeastLatency
                    && via.uplinks().any(|name| *name == uplink.name)
            })
    }

    /// The pool of the flows that no rule names.
    pub(super) fn common_pool(&self, family: Family, candidates: &[Candidate]) -> Pool {
        let leader = *self.leaders.common.get(family);
        self.measures(family, leader, |measures| select_by(candidates, measures))
    }

    fn common_choice(&self, family: Family) -> Chosen {
        let leader = *self.leaders.common.get(family);
        let candidates = self.candidates(family, None);
        self.measures(family, leader, |measures| choose(&candidates, measures))
    }

    /// Does something by what is measured.
    pub(super) fn measures<T>(
        &self,
        family: Family,
        leader: Option<UplinkId>,
        act: impl FnOnce(&Measures<'_>) -> T,
    ) -> T {
        act(&Measures {
            strategy: &|priority| self.config.strategies.of(priority),
            latency: &|id| self.latency(id, family),
            is_full: &|id, share| {
                let uplink = self.uplinks.get(&id);
                uplink.is_some_and(|uplink| uplink.load.is_full(share))
            },
            leader,
        })
    }

    fn latency(&self, id: UplinkId, family: Family) -> Option<Duration> {
        let (_, measured) = self.uplinks.get(&id)?.families.get(family).measured();
        measured.latency
    }

    /// Who leads now, where somebody else may have up to now.
    fn leaders_now(&self) -> Leaders {
        let by_latency = |via: &&Via| via.strategy == Strategy::LeastLatency;
        let rules = self.policy.vias.iter().filter(by_latency).map(|via| {
            let leaders = PerFamily::from_fn(|family| {
                let present = self.leaders.of_rule(via, family);
                let offered = |name: &UplinkName| self.offered(name, family, None);
                self.measures(family, present, |measures| {
                    choose_via(via, &offered, measures).leader()
                })
            });
            (via.clone(), leaders)
        });
        Leaders {
            common: PerFamily::from_fn(|family| self.common_choice(family).leader()),
            rules: rules.collect(),
        }
    }

    /// Follows whoever answers soonest now.
    pub(super) fn follow_leaders(&mut self) {
        self.leaders = self.leaders_now();
    }

    /// Whether a decision would follow somebody else, since this uplink answered.
    pub(super) fn has_other_leaders(&self, answered: UplinkId) -> bool {
        let uplink = self.uplinks.get(&answered);
        uplink.is_some_and(|uplink| self.wants_latency(uplink))
            && self.leaders_now() != self.leaders
    }

    /// The best priority of those that are up in a family, whether they are full or not.
    pub(super) fn best_priority_up(&self, family: Family) -> Option<u32> {
        let chosen = choose(&self.candidates(family, None), &Measures::NONE);
        chosen
            .priority
            .filter(|_| chosen.tier == crate::select::Tier::Up)
    }
}

#[cfg(test)]
#[path = "strategies_tests.rs"]
mod tests;
