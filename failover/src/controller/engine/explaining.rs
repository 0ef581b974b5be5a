//! What would be chosen for a flow, now and if an uplink were down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Engine;
use crate::config::Affinity;
use crate::explain::{Choice, ChosenPool, Fate, MatchedRule};
use crate::family::Family;
use crate::health::Health;
use crate::policy::{Destination, Facts, Otherwise, PoolIdentity, RulePool};
use crate::select::{Pool, Standing, Strategy, Tier};
use crate::uplink::{UplinkId, UplinkName};

/// A choice, and by what it is remembered.
#[derive(Clone, Debug)]
pub(in crate::controller) struct Chosen {
    pub(in crate::controller) choice: Choice,
    pub(in crate::controller) memory: Option<PoolMemory>,
}

/// What a pool remembers, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controller) struct PoolMemory {
    pub(in crate::controller) identity: PoolIdentity,
    pub(in crate::controller) affinity: Affinity,
    pub(in crate::controller) time: Duration,
    /// All uplinks that may be remembered.
    pub(in crate::controller) named: BTreeSet<UplinkId>,
}

/// The slot of a flow, by what goes together; `None` where it cannot be told.
pub(in crate::controller) type SlotOf<'s> = &'s dyn Fn(Affinity) -> Option<u16>;

impl Engine {
    /// What is chosen for a new flow, `without` an uplink or with all as they are.
    pub(in crate::controller) fn choice(
        &self,
        packet: &Facts,
        slot_of: SlotOf<'_>,
        without: Option<UplinkId>,
    ) -> Chosen {
        let family = Family::of(packet.source);
        let position = self.policy.first_match(packet);
        let matched = position.and_then(|position| {
            let rule = self.policy.rules.get(position)?;
            let pool = *self.policy.pool_of.get(position)?;
            let (via, identity) = (
                self.policy.vias.get(pool)?,
                self.policy.identities.get(pool)?,
            );
            Some((position, rule, self.rule_pool(via, *identity, without)))
        });
        let common = || self.common_pool(family, &self.candidates(family, without));
        let destination = matched
            .as_ref()
            .map_or(Destination::Common, |(_, rule, pool)| {
                pool.destination(family, rule.otherwise)
            });
        let is_own = packet.interface.is_none();
        let memory = |identity, affinity: Affinity, named: BTreeSet<UplinkId>| {
            let time = affinity.remembers().filter(|_| !is_own);
            time.map(|time| PoolMemory {
                identity,
                affinity,
                time,
                named,
            })
        };
        let (pool, slot, fate, memory) = match destination {
            Destination::Pool(pool, affinity) => {
                let (slot, fate) = self.fate_in(pool, affinity, slot_of);
                let memory = matched
                    .as_ref()
                    .and_then(|(_, _, pool)| memory(pool.identity, affinity, pool.named.clone()));
                (self.told(pool, affinity, true), slot, fate, memory)
            }
            Destination::Common => {
                let pool = common();
                let affinity = self.config.affinity;
                let (slot, fate) = self.fate_in(&pool, affinity, slot_of);
                let named = self.uplinks.keys().copied().collect();
                let memory = memory(PoolIdentity::COMMON, affinity, named);
                (self.told(&pool, affinity, false), slot, fate, memory)
            }
            Destination::Nowhere => {
                let pool = ChosenPool {
                    of_rule: true,
                    tier: tier(Tier::Nothing).to_owned(),
                    priority: None,
                    strategy: Strategy::Weight.told(),
                    members: BTreeMap::new(),
                    full: BTreeSet::new(),
                    affinity: self.config.affinity.to_string(),
                };
                (pool, None, Fate::Dropped, None)
            }
        };
        let rule = matched.map(|(position, rule, pool): (usize, _, RulePool)| MatchedRule {
            name: rule.name.clone(),
            position: position + 1,
            line: self
                .config
                .rules
                .get(position)
                .map_or(0, |rule| rule.place.line),
            via: rule.via.to_string(),
            usable: !matches!(
                pool.destination(family, Otherwise::Drop),
                Destination::Nowhere
            ),
        });
        let choice = Choice {
            rule,
            pool,
            slot,
            fate,
        };
        Chosen { choice, memory }
    }

    fn fate_in(&self, pool: &Pool, affinity: Affinity, slot_of: SlotOf<'_>) -> (Option<u16>, Fate) {
        let shares: BTreeMap<UplinkName, f64> = pool
            .shares()
            .into_iter()
            .filter_map(|(id, share)| Some((self.uplinks.get(&id)?.name.clone(), share)))
            .collect();
        let slot = slot_of(affinity).filter(|_| !pool.table.is_empty());
        let chosen = slot.and_then(|slot| {
            let (_, id) = pool.table.iter().find(|(number, _)| *number == slot)?;
            Some(self.uplinks.get(&id)?.name.clone())
        });
        let mut names = shares.keys();
        let fate = match (chosen, names.next(), names.next()) {
            (Some(name), _, _) => Fate::Uplink(name),
            (None, Some(only), None) => Fate::Uplink(only.clone()),
            (None, Some(_), Some(_)) => Fate::OneOf(shares),
            (None, None, _) => Fate::Routed,
        };
        (slot, fate)
    }

    fn told(&self, pool: &Pool, affinity: Affinity, of_rule: bool) -> ChosenPool {
        let member = |id: &UplinkId| self.uplinks.get(id);
        let mut priorities = pool.members.keys().filter_map(member);
        let priority = priorities.next().map(|uplink| uplink.config.priority);
        ChosenPool {
            of_rule,
            tier: tier(pool.tier).to_owned(),
            priority: priority.filter(|_| !of_rule && pool.tier != Tier::LastResort),
            strategy: pool.strategy.told(),
            members: pool
                .members
                .iter()
                .filter_map(|(id, weight)| Some((member(id)?.name.clone(), *weight)))
                .collect(),
            full: pool
                .full
                .iter()
                .filter_map(|id| Some(member(id)?.name.clone()))
                .collect(),
            affinity: affinity.to_string(),
        }
    }
}

/// How an uplink would stand if it were down.
pub(super) const fn fallen(standing: Standing) -> Standing {
    match standing {
        Standing::Routed(_) => Standing::Routed(Health::Down),
        other => other,
    }
}

const fn tier(tier: Tier) -> &'static str {
    match tier {
        Tier::Up => "up",
        Tier::Degraded => "degraded",
        Tier::Unproven => "unproven",
        Tier::LastResort => "last_resort",
        Tier::Nothing => "nothing",
    }
}
