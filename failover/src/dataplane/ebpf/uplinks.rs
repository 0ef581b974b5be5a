//! The uplinks as the programs know them: an array by id, which they look into for each packet. One that
//! is not there has generations of 0.

use std::collections::BTreeMap;

use aya::maps::{Array, Map, MapData};
use failover_common::{Uplink, maps};

use super::maps::MapAccessError;

/// The array.
pub(super) struct UplinkTable<'m>(Array<&'m mut MapData, [u8; size_of::<Uplink>()]>);

impl<'m> UplinkTable<'m> {
    /// # Errors
    /// When it is another kind of map.
    pub(super) fn new(map: &'m mut Map) -> Result<Self, MapAccessError> {
        Array::try_from(map).map(Self).map_err(failed("use"))
    }

    /// One that is there, and makes sense.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn get(&self, id: u32) -> Result<Option<Uplink>, MapAccessError> {
        let bytes = self.0.get(&id, 0).map_err(failed("read"))?;
        Ok(read(&bytes))
    }

    /// All that are there.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn entries(&self) -> Result<BTreeMap<u32, Uplink>, MapAccessError> {
        let mut entries = BTreeMap::new();
        for id in 1..=maps::UPLINK_CAPACITY {
            if let Some(uplink) = self.get(id)? {
                entries.insert(id, uplink);
            }
        }
        Ok(entries)
    }

    /// Writes one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn put(&mut self, id: u32, uplink: &Uplink) -> Result<(), MapAccessError> {
        self.0
            .set(
                id,
                bytemuck::cast::<_, [u8; size_of::<Uplink>()]>(*uplink),
                0,
            )
            .map_err(failed("write"))
    }

    /// Leaves these, and no others; what is so already is not written.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(super) fn set(&mut self, wanted: &BTreeMap<u32, Uplink>) -> Result<(), MapAccessError> {
        const NONE: [u8; size_of::<Uplink>()] = [0; size_of::<Uplink>()];
        for id in 1..=maps::UPLINK_CAPACITY {
            let found = self.0.get(&id, 0).map_err(failed("read"))?;
            match wanted.get(&id) {
                Some(uplink) if read(&found) == Some(*uplink) => {}
                Some(uplink) => self.put(id, uplink)?,
                None if found == NONE => {}
                None => self.0.set(id, NONE, 0).map_err(failed("write"))?,
            }
        }
        Ok(())
    }
}

/// An entry; `None` for one that is not there, or makes no sense.
pub(super) fn read(bytes: &[u8]) -> Option<Uplink> {
    let uplink: Uplink = bytemuck::checked::try_pod_read_unaligned(bytes).ok()?;
    let there = uplink.ipv4.generation != 0 || uplink.ipv6.generation != 0;
    there.then_some(uplink)
}

fn failed(what: &'static str) -> impl Fn(aya::maps::MapError) -> MapAccessError {
    move |source| MapAccessError {
        what,
        map: maps::UPLINKS,
        source,
    }
}
