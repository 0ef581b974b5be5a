//! Flows that rules name: an earlier group of their `via` is to them what a better priority is to all
//! others.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Best, Departure, DrainNotice, Rank, Stage};
use crate::controller::engine::{Engine, Forget, Moment};
use crate::controller::uplink::Uplink;
use crate::family::{Family, PerFamily};
use crate::policy::{Keeping, Open, RulePool, Via, choose_via};
use crate::select::{Measures, Pool, Tier};
use crate::state::{RememberedDrains, RememberedRuleDrains};
use crate::uplink::{UplinkId, UplinkName};

impl Engine {
    /// Takes up what an earlier daemon began, for rules that name their uplinks as they did then. To be
    /// called before the first decision, and once the rules are known.
    pub fn resume_rule_drains(&mut self, remembered: &RememberedRuleDrains, now: Moment) {
        for via in &self.policy.vias {
            let Some(drains) = remembered.get(&via.to_string()) else {
                continue;
            };
            for uplink in self.uplinks.values_mut() {
                let since = drains.get(&uplink.name).copied().unwrap_or_default();
                for family in Family::ALL {
                    if let Some(since) = *since.get(family) {
                        let departures = uplink.departures_of_rules.entry(via.clone());
                        let departure = departures.or_default().get_mut(family);
                        departure.resume(since, now);
                    }
                }
            }
        }
    }

    /// The rules whose flows may finish, by how they name their uplinks, to be remembered over a restart.
    #[must_use]
    pub fn remembered_rule_drains(&self) -> RememberedRuleDrains {
        let mut drains: BTreeMap<String, RememberedDrains> = BTreeMap::new();
        for uplink in self.uplinks.values() {
            for (via, departures) in &uplink.departures_of_rules {
                let since = PerFamily::from_fn(|family| departures.get(family).remembered());
                if since != PerFamily::default() {
                    let of_via = drains.entry(via.to_string()).or_default();
                    of_via.insert(uplink.name.clone(), since);
                }
            }
        }
        drains
    }

    /// What stays of the flows of uplinks that are to be forgotten in part.
    #[must_use]
    pub fn keeping(&self, flows: &BTreeSet<Forget>) -> BTreeMap<(UplinkId, Family), Keeping> {
        let in_part = flows.iter().filter_map(|flows| match *flows {
            Forget::Leaving { uplink, family, .. } => Some((uplink, family)),
            _ => None,
        });
        in_part
            .filter_map(|(id, family)| {
                let uplink = self.uplinks.get(&id)?;
                let pools = self.policy.vias.iter().zip(&self.rule_pools);
                let open = pools.map(|(via, pool)| open(uplink, id, via, pool, family));
                let others_go = uplink.departures.get(family).goes();
                let keeping = Keeping::new(&self.policy, open.collect(), !others_go);
                Some(((id, family), keeping))
            })
            .collect()
    }

    /// What is known of flows of rules that are no more.
    pub(in crate::controller::engine) fn forget_former_rules(&mut self) {
        let vias: BTreeSet<&Via> = self.policy.vias.iter().collect();
        for uplink in self.uplinks.values_mut() {
            uplink
                .departures_of_rules
                .retain(|via, _| vias.contains(via));
        }
    }

    pub(super) fn settle_departures_of_rules(&mut self, family: Family, now: Moment) {
        let policy = Arc::clone(&self.policy);
        let mut ranks: Vec<(&Via, UplinkId, Rank, bool)> = Vec::new();
        for (via, pool) in policy.vias.iter().zip(&self.rule_pools) {
            // None is better than another.
            if via.groups.len() < 2 {
                continue;
            }
            let pool = pool.pools.get(family).as_ref();
            let best = self.best_group(via, pool, family);
            let is_member = |id| pool.is_some_and(|pool| pool.members.contains_key(&id));
            for (group, name) in via.places() {
                let Some(id) = self.id_of(name) else { continue };
                let uplink = self.uplinks.get(&id);
                let works = uplink.is_some_and(|uplink| uplink.families.get(family).is_alive());
                ranks.push((
                    via,
                    id,
                    best.rank(group, is_member(id), works),
                    best.trusted,
                ));
            }
        }
        for (via, id, rank, trusted) in ranks {
            let Some(uplink) = self.uplinks.get_mut(&id) else {
                continue;
            };
            let policy = (uplink.config.on_up, uplink.config.on_down);
            let departures = uplink.departures_of_rules.entry(via.clone()).or_default();
            let change = departures.get_mut(family).step(rank, trusted, policy, now);
            self.drain_notices.extend(change.map(|change| DrainNotice {
                uplink: uplink.name.clone(),
                family,
                via: Some(via.to_string()),
                change,
            }));
        }
    }

    fn best_group(&self, via: &Via, pool: Option<&Pool>, family: Family) -> Best {
        let offered = |name: &UplinkName| self.offered(name, family, None);
        let up = choose_via(via, &offered, &Measures::NONE);
        let chosen = pool.filter(|pool| pool.tier == Tier::Up).and_then(|pool| {
            let members = via.places().filter(|(_, name)| {
                let id = self.id_of(name);
                id.is_some_and(|id| pool.members.contains_key(&id))
            });
            members.map(|(group, _)| group).min()
        });
        Best {
            chosen,
            unless_full: up.priority.filter(|_| up.tier == Tier::Up),
            trusted: pool.is_some_and(|pool| self.is_trusted(pool, family, None)),
        }
    }
}

/// What becomes of the open flows of a pool on an uplink.
fn open(uplink: &Uplink, id: UplinkId, via: &Via, pool: &RulePool, family: Family) -> Open {
    let uses = |pool: &Pool| pool.members.contains_key(&id) || pool.resting.contains(&id);
    if pool.pools.get(family).as_ref().is_some_and(uses) {
        return Open::Stay;
    }
    let departure = uplink.departures_of_rules.get(via);
    departure.map_or(Open::AsOthers, |departures| departures.get(family).open())
}

impl Departure {
    const fn open(&self) -> Open {
        if self.goes() {
            Open::Go
        } else if self.outranked && matches!(self.stage, Stage::Draining(_) | Stage::Owed(_)) {
            Open::Stay
        } else {
            Open::AsOthers
        }
    }
}

#[cfg(test)]
#[path = "of_rules_tests.rs"]
mod tests;
