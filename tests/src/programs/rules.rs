//! The user's rules in the maps of loaded programs.

use aya::maps::{Array, ArrayOfMaps, HashMap, MapData};
use failover::dataplane::ebpf::conditions::Conditions;
use failover::policy::{Otherwise, Policy};
use failover::wanted::dataplane::DownlinkNumbers;
use failover_common::rules::{
    Action, Block, MOST_RULES, Otherwise as LayoutOtherwise, RuleSet, action_index,
};
use failover_common::{Affinity, Family, Selection, SelectionKey, maps};

use super::ProgramsError;
use super::loaded::{Loaded, failed, slots};

const BLOCK: usize = size_of::<Block>();
const ACTION: usize = size_of::<Action>();
/// `BPF_F_INNER_MAP` (`include/uapi/linux/bpf.h`).
const ANY_SIZE: u32 = 1 << 12;
const RULE_SET: usize = size_of::<RuleSet>();
const SELECTION_KEY: usize = size_of::<SelectionKey>();
const SELECTION: usize = size_of::<Selection>();

impl Loaded {
    /// Has rules decide, under a generation, 0 or 1. The pool of each is numbered by its position,
    /// from 1 on.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_rules(
        &mut self,
        policy: &Policy,
        downlinks: &DownlinkNumbers,
        generation: u8,
    ) -> Result<(), ProgramsError> {
        let conditions = Conditions::new(policy, downlinks);
        self.write_rules(&conditions, policy, generation)?;
        self.switch_rules(&conditions, generation)
    }

    /// Writes rules under a generation, and has those decide on that did.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn write_rules(
        &mut self,
        conditions: &Conditions,
        policy: &Policy,
        generation: u8,
    ) -> Result<(), ProgramsError> {
        let count = u32::try_from(conditions.blocks.len()).unwrap_or(u32::MAX);
        let mut blocks: Array<MapData, [u8; BLOCK]> =
            Array::create(count, ANY_SIZE).map_err(failed(maps::CONDITIONS))?;
        for (number, block) in (0..count).zip(&conditions.blocks) {
            blocks
                .set(number, bytemuck::cast::<_, [u8; BLOCK]>(*block), 0)
                .map_err(failed(maps::CONDITIONS))?;
        }
        let map = self.map_mut(maps::CONDITIONS)?;
        let mut generations: ArrayOfMaps<&mut MapData, Array<MapData, [u8; BLOCK]>> =
            ArrayOfMaps::try_from(map).map_err(failed(maps::CONDITIONS))?;
        generations
            .set(u32::from(generation), &blocks, 0)
            .map_err(failed(maps::CONDITIONS))?;
        let map = self.map_mut(maps::RULE_ACTIONS)?;
        let mut actions: Array<&mut MapData, [u8; ACTION]> =
            Array::try_from(map).map_err(failed(maps::RULE_ACTIONS))?;
        for (number, (rule, pool)) in (0..MOST_RULES).zip(policy.iter()) {
            let action = Action {
                pool: u16::try_from(pool + 1).unwrap_or(u16::MAX),
                otherwise: match rule.otherwise {
                    Otherwise::Any => LayoutOtherwise::Any,
                    Otherwise::Drop => LayoutOtherwise::Drop,
                },
                reserved: 0,
            };
            let bytes: [u8; ACTION] = bytemuck::cast(action);
            actions
                .set(action_index(generation, number), bytes, 0)
                .map_err(failed(maps::RULE_ACTIONS))?;
        }
        Ok(())
    }

    /// Has the rules decide that were written under a generation.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn switch_rules(
        &mut self,
        conditions: &Conditions,
        generation: u8,
    ) -> Result<(), ProgramsError> {
        let map = self.map_mut(maps::RULE_SET)?;
        let mut deciding: HashMap<&mut MapData, [u8; 4], [u8; RULE_SET]> =
            HashMap::try_from(map).map_err(failed(maps::RULE_SET))?;
        let bytes: [u8; RULE_SET] = bytemuck::cast(conditions.rule_set(generation));
        deciding
            .insert([0; 4], bytes, 0)
            .map_err(failed(maps::RULE_SET))
    }

    /// Sets who the flows of a rule's pool go to: slot by slot these uplinks, again and again; nobody
    /// where there is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn select_for_rules(
        &mut self,
        (pool, generation): (u16, u8),
        family: Family,
        affinity: Affinity,
        uplinks: &[u8],
    ) -> Result<(), ProgramsError> {
        let key = SelectionKey {
            pool,
            family,
            generation,
        };
        let key: [u8; SELECTION_KEY] = bytemuck::cast(key);
        let map = self.map_mut(maps::SELECTION)?;
        let mut selections: HashMap<&mut MapData, [u8; SELECTION_KEY], [u8; SELECTION]> =
            HashMap::try_from(map).map_err(failed(maps::SELECTION))?;
        if uplinks.is_empty() {
            return match selections.remove(&key) {
                Err(error) if !matches!(error, aya::maps::MapError::KeyNotFound) => {
                    Err(failed(maps::SELECTION)(error))
                }
                _ => Ok(()),
            };
        }
        let selection = Selection::new(affinity, slots(uplinks));
        let bytes: [u8; SELECTION] = bytemuck::cast(selection);
        selections
            .insert(key, bytes, 0)
            .map_err(failed(maps::SELECTION))
    }
}
