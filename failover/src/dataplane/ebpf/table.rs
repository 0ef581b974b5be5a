//! Reads the pinned flow table, and what belongs to it, beside the daemon's loop.
//!
//! In batches, by buckets: hundreds of thousands of entries take tens of milliseconds. Key by key it
//! would take ten times as long, and begin anew whenever the key at which it stands is evicted.

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use bytemuck::checked::{CheckedBitPattern, try_pod_read_unaligned};
use failover_common::{
    Flow, FlowKey, Remembered, RememberedKey, Totals, Uplink, UplinkConnections, maps,
};
use thiserror::Error;

use super::pins::Pins;
use super::uplinks;
use crate::flows::Lives;
use crate::monotonic::now_ns;
use crate::sys::read_batch;
use crate::uplink::UplinkId;

/// How many entries are read by one system call. Far more than a bucket ever holds.
const BATCH: usize = 4096;

/// The flow table as it is pinned.
#[derive(Debug)]
pub struct FlowTable {
    flows: MapData,
    pins: Pins,
}

/// Why the flow table cannot be read.
#[derive(Debug, Error)]
pub enum TableError {
    /// The map is not there, or is not for this process.
    #[error("cannot open the map {path}; restart the daemon if somebody removed it")]
    Open {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: MapError,
    },
    /// It is another one's, or another version's.
    #[error(
        "the map {path} is not laid out as this version does it: remove it and restart the daemon"
    )]
    Layout {
        /// Where it is.
        path: PathBuf,
    },
    /// The kernel refused.
    #[error("cannot read the map {path}")]
    Read {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// How much of a map could be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Entries that are there.
    pub entries: u64,
    /// Those of them that no program of ours can have written.
    pub senseless: u64,
}

/// The flow table, asked for one flow at a time.
#[derive(Debug)]
pub struct OneByOne {
    flows: HashMap<MapData, [u8; size_of::<FlowKey>()], [u8; size_of::<Flow>()]>,
    path: PathBuf,
}

impl OneByOne {
    /// What the programs know of one flow.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<Flow>, TableError> {
        let path = || self.path.clone();
        match self.flows.get(&bytemuck::cast(*key), 0) {
            Ok(value) => match try_pod_read_unaligned(&value) {
                Ok(flow) => Ok(Some(flow)),
                Err(_) => Err(TableError::Layout { path: path() }),
            },
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(TableError::Open {
                path: path(),
                source,
            }),
        }
    }
}

impl FlowTable {
    /// Opens the table of a daemon that pins its maps under this folder (`bpffs` of the
    /// configuration).
    ///
    /// # Errors
    /// When it is not there, or is another one's.
    pub fn open(bpffs: &Path) -> Result<Self, TableError> {
        let pins = Pins::new(bpffs);
        let flows = open::<FlowKey, Flow>(&pins.map(maps::FLOWS))?;
        Ok(Self { flows, pins })
    }

    /// What the programs know of one flow.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<Flow>, TableError> {
        self.one_by_one()?.flow(key)
    }

    /// The table, to ask for many flows one by one.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn one_by_one(&self) -> Result<OneByOne, TableError> {
        let path = self.pins.map(maps::FLOWS);
        let map = MapData::from_pin(&path).and_then(Map::from_map_data);
        match map.and_then(HashMap::try_from) {
            Ok(flows) => Ok(OneByOne { flows, path }),
            Err(source) => Err(TableError::Open { path, source }),
        }
    }

    /// What the programs remember of a source or a pair.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remembered(&self, key: &RememberedKey) -> Result<Option<Remembered>, TableError> {
        const KEY: usize = size_of::<RememberedKey>();
        let path = self.pins.map(maps::REMEMBERED);
        let failed = |source| TableError::Open {
            path: path.clone(),
            source,
        };
        let map = open::<RememberedKey, Remembered>(&path).map(Map::from_map_data)?;
        let map = map.map_err(failed)?;
        let table = HashMap::<_, [u8; KEY], [u8; size_of::<Remembered>()]>::try_from(map);
        match table.map_err(failed)?.get(&bytemuck::cast(*key), 0) {
            Ok(value) => match try_pod_read_unaligned(&value) {
                Ok(remembered) => Ok(Some(remembered)),
                Err(_) => Err(TableError::Layout { path }),
            },
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(failed(source)),
        }
    }

    /// How many entries fit.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn capacity(&self) -> Result<u32, TableError> {
        let path = self.pins.map(maps::FLOWS);
        match self.flows.info() {
            Ok(info) => Ok(info.max_entries()),
            Err(source) => Err(TableError::Open { path, source }),
        }
    }

    /// Goes through all flows until `take` breaks. An entry that is made meanwhile may be left out,
    /// and no entry comes twice.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn each(
        &self,
        take: impl FnMut(&FlowKey, &Flow) -> ControlFlow<()>,
    ) -> Result<Walked, TableError> {
        walk(&self.flows, take).map_err(|source| TableError::Read {
            path: self.pins.map(maps::FLOWS),
            source,
        })
    }

    /// What decides now which flows are alive.
    ///
    /// # Errors
    /// When the uplinks' map cannot be read.
    pub fn lives(&self) -> Result<Lives, TableError> {
        Ok(Lives {
            uplinks: self.uplinks()?,
            now_ns: now_ns(),
        })
    }

    /// The uplinks as the programs know them, by id.
    fn uplinks(&self) -> Result<BTreeMap<u32, Uplink>, TableError> {
        const LENGTH: usize = size_of::<Uplink>();
        let path = self.pins.map(maps::UPLINKS);
        let failed = |source| TableError::Open {
            path: path.clone(),
            source,
        };
        let map = Map::from_map_data(open::<u32, Uplink>(&path)?).map_err(failed)?;
        let array = Array::<_, [u8; LENGTH]>::try_from(map).map_err(failed)?;
        let mut found = BTreeMap::new();
        for id in 1..=maps::UPLINK_CAPACITY {
            let bytes = array.get(&id, 0).map_err(failed)?;
            found.extend(uplinks::read(&bytes).map(|uplink| (id, uplink)));
        }
        Ok(found)
    }

    /// What became of packets that no known flow decided, on all processors together.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn totals(&self) -> Result<Totals, TableError> {
        const LENGTH: usize = size_of::<Totals>();
        let path = self.pins.map(maps::TOTALS);
        let read = per_processor::<Totals, LENGTH>(&path, [0])?;
        let values = read.into_values().flatten();
        Ok(values.fold(Totals::default(), Totals::plus))
    }

    /// How users' connections fared through these uplinks since the map was made, on all processors
    /// together.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn connections(
        &self,
        uplinks: &[UplinkId],
    ) -> Result<BTreeMap<UplinkId, UplinkConnections>, TableError> {
        const LENGTH: usize = size_of::<UplinkConnections>();
        let path = self.pins.map(maps::CONNECTIONS);
        let ids = uplinks.iter().map(|id| id.get().into());
        let mut read = per_processor::<UplinkConnections, LENGTH>(&path, ids)?;
        let sum = |id: &UplinkId| {
            let values = read.remove(&id.get().into()).unwrap_or_default();
            let none = UplinkConnections::default();
            (*id, values.into_iter().fold(none, UplinkConnections::plus))
        };
        Ok(uplinks.iter().map(sum).collect())
    }
}

/// Reads entries of a pinned array that each processor has for itself.
fn per_processor<V: CheckedBitPattern, const LENGTH: usize>(
    path: &Path,
    indices: impl IntoIterator<Item = u32>,
) -> Result<BTreeMap<u32, Vec<V>>, TableError> {
    const { assert!(LENGTH == size_of::<V>()) };
    let failed = |source| TableError::Open {
        path: path.to_owned(),
        source,
    };
    let layout = |_| TableError::Layout {
        path: path.to_owned(),
    };
    let map = MapData::from_pin(path)
        .and_then(Map::from_map_data)
        .map_err(failed)?;
    let array = PerCpuArray::<_, [u8; LENGTH]>::try_from(map).map_err(failed)?;
    let mut entries = BTreeMap::new();
    for index in indices {
        let values = array.get(&index, 0).map_err(failed)?;
        let values: Result<Vec<V>, _> = values
            .iter()
            .map(|bytes| try_pod_read_unaligned(bytes))
            .collect();
        entries.insert(index, values.map_err(layout)?);
    }
    Ok(entries)
}

/// Opens a pinned map with such keys and values.
fn open<K, V>(path: &Path) -> Result<MapData, TableError> {
    let failed = |source| TableError::Open {
        path: path.to_owned(),
        source,
    };
    let map = MapData::from_pin(path).map_err(failed)?;
    let info = map.info().map_err(failed)?;
    let is = |found: u32, wanted: usize| usize::try_from(found) == Ok(wanted);
    if is(info.key_size(), size_of::<K>()) && is(info.value_size(), size_of::<V>()) {
        Ok(map)
    } else {
        Err(TableError::Layout {
            path: path.to_owned(),
        })
    }
}

/// Goes through a hash map of such keys and values.
fn walk<K: CheckedBitPattern, V: CheckedBitPattern>(
    map: &MapData,
    mut take: impl FnMut(&K, &V) -> ControlFlow<()>,
) -> io::Result<Walked> {
    let mut keys = vec![0; BATCH * size_of::<K>()];
    let mut values = vec![0; BATCH * size_of::<V>()];
    let mut walked = Walked::default();
    let mut from = None;
    loop {
        let batch = read_batch(map, from, &mut keys, &mut values)?;
        let entries = keys
            .chunks_exact(size_of::<K>())
            .zip(values.chunks_exact(size_of::<V>()));
        for (key, value) in entries.take(batch.count) {
            walked.entries += 1;
            match (try_pod_read_unaligned(key), try_pod_read_unaligned(value)) {
                (Ok(key), Ok(value)) => {
                    if take(&key, &value).is_break() {
                        return Ok(walked);
                    }
                }
                _ => walked.senseless += 1,
            }
        }
        match batch.next {
            Some(next) => from = Some(next),
            None => return Ok(walked),
        }
    }
}
