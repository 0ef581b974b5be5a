//! What the programs remember of sources and pairs.

use failover_common::{Affinity, Family, Remembered, RememberedKey, Selection, SelectionKey, maps};

use super::ProgramsError;
use super::loaded::{Loaded, slots};

/// How a pool remembers.
#[derive(Clone, Copy, Debug)]
pub struct Remembering {
    /// What goes together.
    pub affinity: Affinity,
    /// For how long.
    pub memory_ns: u64,
    /// What the pool is known by.
    pub identity: u32,
}

const KEY: usize = size_of::<RememberedKey>();
const VALUE: usize = size_of::<Remembered>();

impl Loaded {
    /// Sets who new flows of a family go to, as [`Self::select`] does, and what is remembered.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn select_remembering(
        &mut self,
        family: Family,
        memory: Remembering,
        uplinks: &[u8],
    ) -> Result<(), ProgramsError> {
        self.set_selection(SelectionKey::common(family), &selection(memory, uplinks))
    }

    /// Sets who the flows of a rule's pool go to, as [`Self::select_for_rules`] does, and what is
    /// remembered.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn select_for_rules_remembering(
        &mut self,
        (pool, generation): (u16, u8),
        family: Family,
        memory: Remembering,
        uplinks: &[u8],
    ) -> Result<(), ProgramsError> {
        let key = SelectionKey {
            pool,
            family,
            generation,
        };
        self.set_selection(key, &selection(memory, uplinks))
    }

    /// What is remembered.
    ///
    /// # Errors
    /// When the kernel refuses, or the entry makes no sense.
    pub fn remembered(&self, key: &RememberedKey) -> Result<Option<Remembered>, ProgramsError> {
        let key: [u8; KEY] = bytemuck::cast(*key);
        self.get::<KEY, VALUE, _>(maps::REMEMBERED, &key)
    }

    /// Has something remembered.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_remembered(
        &mut self,
        key: &RememberedKey,
        value: &Remembered,
    ) -> Result<(), ProgramsError> {
        let key: [u8; KEY] = bytemuck::cast(*key);
        self.put_bytes::<KEY, VALUE>(maps::REMEMBERED, &key, bytemuck::bytes_of(value))
    }

    fn set_selection(
        &mut self,
        key: SelectionKey,
        selection: &Selection,
    ) -> Result<(), ProgramsError> {
        const KEY: usize = size_of::<SelectionKey>();
        const VALUE: usize = size_of::<Selection>();
        let key: [u8; KEY] = bytemuck::cast(key);
        self.put_bytes::<KEY, VALUE>(maps::SELECTION, &key, bytemuck::bytes_of(selection))
    }
}

fn selection(memory: Remembering, uplinks: &[u8]) -> Selection {
    Selection {
        memory_ns: memory.memory_ns,
        identity: memory.identity,
        ..Selection::new(memory.affinity, slots(uplinks))
    }
}
