//! Maps that a daemon has pinned, as a test meddles with them.

use aya::maps::{HashMap, Map, MapData, MapError};
use failover::dataplane::ebpf::pins::Pins;
use failover_common::{Flow, FlowKey, maps};

/// The flow table, its entries as bytes.
pub type FlowMap = HashMap<MapData, [u8; size_of::<FlowKey>()], [u8; size_of::<Flow>()]>;

/// Opens the pinned flow table.
///
/// # Errors
/// When it is not there, or the kernel refuses.
pub fn flow_map(pins: &Pins) -> Result<FlowMap, MapError> {
    let map = MapData::from_pin(pins.map(maps::FLOWS))?;
    HashMap::try_from(Map::LruHashMap(map))
}

/// Deletes all entries of a map; returns how many there were. Some may be evicted meanwhile.
///
/// # Errors
/// When the kernel refuses.
pub fn empty<const KEY: usize, const VALUE: usize>(
    mut map: HashMap<MapData, [u8; KEY], [u8; VALUE]>,
) -> Result<usize, MapError> {
    let keys: Vec<[u8; KEY]> = map.keys().collect::<Result<_, _>>()?;
    for key in &keys {
        match map.remove(key) {
            Ok(()) | Err(MapError::KeyNotFound) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(keys.len())
}
