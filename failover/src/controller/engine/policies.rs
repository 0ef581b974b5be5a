//! The user's rules with the addresses of their sets, and who their flows go to.

use std::sync::Arc;

use super::Engine;
use crate::family::{Family, PerFamily};
use crate::policy::loading::LoadedSets;
use crate::policy::{
    AddressSet, Offered, Policy, PoolIdentity, RulePool, SetName, Via, select_via_by,
};
use crate::uplink::{UplinkId, UplinkName};

impl Engine {
    /// The user's rules.
    #[must_use]
    pub fn policy(&self) -> &Arc<Policy> {
        &self.policy
    }

    /// Takes in all sets that come from files.
    pub fn take_sets(&mut self, files: LoadedSets) {
        self.files = files;
        self.renew_policy();
    }

    /// Takes in the addresses of a set whose file changed, or what is wrong with it: then the set
    /// stays as it is. Returns whether anything is another than before.
    pub fn take_set(&mut self, name: &SetName, read: Result<Arc<AddressSet>, String>) -> bool {
        match read {
            Ok(set) => {
                let mended = self.files.problems.remove(name).is_some();
                let before = self.files.sets.insert(name.clone(), Arc::clone(&set));
                let differs = before != Some(set);
                if differs {
                    self.renew_policy();
                }
                mended || differs
            }
            Err(problem) => {
                let before = self.files.problems.insert(name.clone(), problem.clone());
                before != Some(problem)
            }
        }
    }

    /// What is wrong with the files of sets.
    pub fn set_problems(&self) -> impl Iterator<Item = (&SetName, &str)> {
        let problems = self.files.problems.iter();
        problems.map(|(name, problem)| (name, problem.as_str()))
    }

    pub(in crate::controller) fn renew_policy(&mut self) {
        self.policy = Policy::of(&self.config, &self.files.sets);
        self.choose_for_rules();
        self.forget_former_rules();
        self.stale = true;
    }

    /// Chooses who the flows of rules go to.
    pub(super) fn choose_for_rules(&mut self) {
        let pools = self.policy.vias.iter().zip(&self.policy.identities);
        self.rule_pools = pools
            .map(|(via, identity)| self.rule_pool(via, *identity, None))
            .collect();
    }

    /// Who the flows go to of rules that name uplinks so, `without` an uplink or with all as they are.
    pub(super) fn rule_pool(
        &self,
        via: &Via,
        identity: PoolIdentity,
        without: Option<UplinkId>,
    ) -> RulePool {
        let named = |name: &UplinkName| {
            let mut uplinks = self.uplinks.iter();
            uplinks.find_map(|(id, uplink)| (uplink.name == *name).then_some(*id))
        };
        RulePool {
            identity,
            named: via.uplinks().filter_map(named).collect(),
            affinity: via.affinity.unwrap_or(self.config.affinity),
            pools: PerFamily::from_fn(|family| {
                let leader = self.leaders.of_rule(via, family);
                self.measures(family, leader, |measures| {
                    select_via_by(via, &|name| self.offered(name, family, without), measures)
                })
            }),
        }
    }

    pub(super) fn offered(
        &self,
        name: &UplinkName,
        family: Family,
        without: Option<UplinkId>,
    ) -> Option<Offered> {
        let id = self.id_of(name)?;
        Some(Offered {
            id,
            standing: self.standing_for_new(id, self.uplinks.get(&id)?, family, without),
        })
    }
}
