//! Writes the user's rules into the maps.
//!
//! Packets meet either all of the old rules or all of the new ones: these are written under the
//! generation that does not decide, and then one entry makes it the one that does. What was replaced
//! is removed when no packet can be in it any more, which is when programs are seen to next.

use std::collections::BTreeMap;
use std::sync::Arc;

use aya::maps::{Array, ArrayOfMaps, MapData, MapError};
use failover_common::rules::{
    Action, Block, MOST_RULES, Otherwise as LayoutOtherwise, RuleSet, WORDS, action_index,
};
use failover_common::{Selection, SelectionKey, maps};
use tracing::info;

use super::conditions::Conditions;
use super::load::Programs;
use super::maps::{MapAccessError, Table};
use super::publish::{PublishError, Selections, selection};
use crate::flows::layout_family;
use crate::policy::{Otherwise, Policy};
use crate::wanted::dataplane::RuleTable;

type RuleSets<'m> = Table<'m, u32, RuleSet, 4, { size_of::<RuleSet>() }>;
type Generations<'m> = ArrayOfMaps<&'m mut MapData, Blocks>;
type Blocks = Array<MapData, [u8; size_of::<Block>()]>;
type Actions<'m> = Array<&'m mut MapData, [u8; ACTION]>;

const ACTION: usize = size_of::<Action>();

/// `BPF_F_INNER_MAP` (`include/uapi/linux/bpf.h`): an array of any size may take another's place.
const ANY_SIZE: u32 = 1 << 12;

/// The key under which the rule set stands.
const DECIDING: u32 = 0;

/// What is known of the rules in the maps.
#[derive(Debug, Default)]
pub struct Written {
    /// What was last made of rules, so that it is made once.
    conditions: Option<(Arc<Policy>, Arc<Conditions>)>,
    /// There may be entries of the generation that does not decide.
    stale: bool,
    /// What was left by an earlier daemon is looked for.
    begun: bool,
}

impl Written {
    fn conditions(&mut self, wanted: &RuleTable) -> Arc<Conditions> {
        match &self.conditions {
            Some((policy, conditions))
                if *policy == wanted.policy && conditions.downlinks == wanted.downlinks =>
            {
                Arc::clone(conditions)
            }
            _ => {
                let made = Arc::new(Conditions::new(&wanted.policy, &wanted.downlinks));
                self.conditions = Some((Arc::clone(&wanted.policy), Arc::clone(&made)));
                made
            }
        }
    }
}

impl Programs {
    /// Brings rules, their pools and the pool of all other flows into the maps.
    pub(super) fn publish_rules(
        &mut self,
        written: &mut Written,
        wanted: &RuleTable,
        common: &BTreeMap<SelectionKey, Selection>,
    ) -> Result<(), PublishError> {
        let conditions = written.conditions(wanted);
        let found = self.rule_set()?;
        let rules_before = found.is_some_and(|found| found.words != 0);
        if wanted.policy.rules.is_empty() && !rules_before {
            Ok(self.selections()?.set(common).map(drop)?)
        } else if let Some(found) =
            found.filter(|found| *found == conditions.rule_set(found.generation))
        {
            self.write_actions(found.generation, wanted)?;
            let mut selections = of_pools(wanted, found.generation);
            selections.extend(common);
            Ok(self.selections()?.set(&selections).map(drop)?)
        } else {
            let generation = found.map_or(0, |found| 1 - (found.generation & 1));
            if written.stale || !std::mem::replace(&mut written.begun, true) {
                self.sweep(generation)?;
            }
            written.stale = true;
            self.write_conditions(generation, &conditions)?;
            self.write_actions(generation, wanted)?;
            let mut selections = of_pools(wanted, generation);
            selections.extend(common);
            self.selections()?.add(&selections)?;
            let rule_set = BTreeMap::from([(DECIDING, conditions.rule_set(generation))]);
            RuleSets::new(maps::RULE_SET, self.map_mut(maps::RULE_SET)?)?.set(&rule_set)?;
            self.selections()?.set(&selections)?;
            info!(
                rules = wanted.policy.rules.len(),
                blocks = conditions.blocks.len(),
                "rules are in place"
            );
            Ok(())
        }
    }

    /// Removes what was replaced.
    pub(super) fn tidy_rules(&mut self, written: &mut Written) -> Result<(), PublishError> {
        if !written.stale {
            return Ok(());
        }
        if let Some(found) = self.rule_set()? {
            self.sweep(1 - (found.generation & 1))?;
        }
        written.stale = false;
        Ok(())
    }

    fn rule_set(&mut self) -> Result<Option<RuleSet>, PublishError> {
        let table = RuleSets::new(maps::RULE_SET, self.map_mut(maps::RULE_SET)?)?;
        Ok(table.get(&DECIDING)?)
    }

    fn selections(&mut self) -> Result<Selections<'_>, PublishError> {
        Ok(Selections::new(
            maps::SELECTION,
            self.map_mut(maps::SELECTION)?,
        )?)
    }

    fn write_conditions(
        &mut self,
        generation: u8,
        conditions: &Conditions,
    ) -> Result<(), PublishError> {
        self.put(generation, &conditions.blocks)
    }

    /// Removes all conditions of a generation.
    fn sweep(&mut self, generation: u8) -> Result<(), PublishError> {
        self.put(generation, &[[0; WORDS]])
    }

    /// Puts a new array of blocks in the place of a generation's.
    fn put(&mut self, generation: u8, blocks: &[Block]) -> Result<(), PublishError> {
        let count = u32::try_from(blocks.len()).unwrap_or(u32::MAX);
        let mut made = Blocks::create(count, ANY_SIZE)
            .map_err(failed("make an array for", maps::CONDITIONS))?;
        for (number, block) in (0..count).zip(blocks) {
            made.set(number, bytemuck::cast::<_, [u8; _]>(*block), 0)
                .map_err(failed("write", maps::CONDITIONS))?;
        }
        let map = self.map_mut(maps::CONDITIONS)?;
        let mut generations =
            Generations::try_from(map).map_err(failed("use", maps::CONDITIONS))?;
        generations
            .set(u32::from(generation & 1), &made, 0)
            .map_err(failed("write", maps::CONDITIONS))?;
        Ok(())
    }

    fn write_actions(&mut self, generation: u8, wanted: &RuleTable) -> Result<(), PublishError> {
        let map = self.map_mut(maps::RULE_ACTIONS)?;
        let mut actions = Actions::try_from(map).map_err(failed("use", maps::RULE_ACTIONS))?;
        for (number, (rule, pool)) in (0..MOST_RULES).zip(wanted.policy.iter()) {
            let action = Action {
                pool: pool_number(pool),
                otherwise: match rule.otherwise {
                    Otherwise::Any => LayoutOtherwise::Any,
                    Otherwise::Drop => LayoutOtherwise::Drop,
                },
                reserved: 0,
            };
            let mut bytes = [0; ACTION];
            bytes.copy_from_slice(bytemuck::bytes_of(&action));
            let index = action_index(generation, number);
            let found = actions.get(&index, 0);
            if found.map_err(failed("read", maps::RULE_ACTIONS))? != bytes {
                actions
                    .set(index, bytes, 0)
                    .map_err(failed("write", maps::RULE_ACTIONS))?;
            }
        }
        Ok(())
    }
}

/// The selections of the rules' pools.
fn of_pools(wanted: &RuleTable, generation: u8) -> BTreeMap<SelectionKey, Selection> {
    let pools = wanted.pools.iter().enumerate();
    pools
        .flat_map(|(position, families)| {
            families.iter().filter_map(move |(family, entry)| {
                let key = SelectionKey {
                    pool: pool_number(position),
                    family: layout_family(family),
                    generation,
                };
                Some((key, selection(entry)?))
            })
        })
        .collect()
}

/// Pools of rules are numbered from 1; there are no more of them than rules.
fn pool_number(position: usize) -> u16 {
    u16::try_from(position + 1).unwrap_or(u16::MAX)
}

fn failed(what: &'static str, map: &'static str) -> impl Fn(MapError) -> MapAccessError {
    move |source| MapAccessError { what, map, source }
}
