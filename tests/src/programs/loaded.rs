//! The object in the kernel, and its maps with their real types.

use std::cell::{Ref, RefCell};
use std::collections::BTreeMap;

use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray};
use aya::programs::SchedClassifier;
use aya::{Ebpf, EbpfLoader};
use bytemuck::{CheckedBitPattern, NoUninit};
use failover_common::{
    Affinity, Family, Flow, FlowKey, Gateway, GatewayKey, Interface, SLOTS, Selection,
    SelectionKey, Totals, Uplink, UplinkCounters, globals, maps,
};

use super::ProgramsError;

/// What is fixed when the programs are loaded.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Our bits of marks, in one run of 2 to 8.
    pub mark_mask: u32,
    /// Entries of the flow table.
    pub capacity: u32,
    /// How many new flows may wait for their first answer.
    pub unanswered: u32,
    /// The level of the programs' log, 0 for none (`aya_log_common::Level`).
    pub log_level: u8,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            mark_mask: 0xff00_0000,
            capacity: 8192,
            unanswered: u32::MAX,
            log_level: 0,
        }
    }
}

/// The programs and maps of one object. They are gone with it.
#[derive(Debug)]
pub struct Loaded {
    /// Which of them are in the kernel changes with what is asked of them.
    ebpf: RefCell<Ebpf>,
    maps: BTreeMap<String, Map>,
    /// Which bits of a key's homes count.
    pub(super) place_mask: u32,
}

type Bytes<const LENGTH: usize> = [u8; LENGTH];

/// A table that gives slot by slot to these uplinks, again and again.
pub(super) fn slots(uplinks: &[u8]) -> [u8; SLOTS as usize] {
    let mut slots = [0; SLOTS as usize];
    for (slot, uplink) in slots.iter_mut().zip(uplinks.iter().cycle()) {
        *slot = *uplink;
    }
    slots
}

impl Loaded {
    /// Makes the maps. A program is loaded when it is first asked for: the kernel's verifier takes its
    /// time, and hardly a test needs all of them.
    ///
    /// # Errors
    /// When the object is unreadable or the kernel refuses it.
    pub fn new(object: &[u8], settings: Settings) -> Result<Self, ProgramsError> {
        let Settings {
            mark_mask,
            capacity,
            unanswered,
            log_level,
        } = settings;
        let shift = mark_mask.trailing_zeros();
        let ask = 1_u32 << (31 - mark_mask.leading_zeros());
        let places = maps::place_count(maps::offload_capacity(capacity));
        let place_mask = places - 1;
        let mut ebpf = EbpfLoader::new()
            .override_global(globals::MARK_MASK, &mark_mask, true)
            .override_global(globals::MARK_SHIFT, &shift, true)
            .override_global(globals::MARK_ASK, &ask, true)
            .override_global(globals::UNANSWERED, &unanswered, true)
            .override_global(globals::PLACE_MASK, &place_mask, true)
            .override_global("AYA_LOG_LEVEL", &log_level, true)
            .map_max_entries(maps::FLOWS, capacity)
            .map_max_entries(maps::REMEMBERED, maps::remembered_capacity(capacity))
            .map_max_entries(maps::OFFLOAD, places)
            .load(object)?;
        let names: Vec<String> = ebpf.maps().map(|(name, _)| name.to_owned()).collect();
        let maps = names
            .into_iter()
            .filter_map(|name| ebpf.take_map(&name).map(|map| (name, map)))
            .collect();
        Ok(Self {
            ebpf: RefCell::new(ebpf),
            maps,
            place_mask,
        })
    }

    /// The names of all programs.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let ebpf = self.ebpf.borrow();
        ebpf.programs().map(|(name, _)| name.to_owned()).collect()
    }

    /// How many instructions the verifier looked at in a program.
    ///
    /// # Errors
    /// When there is no such program, or the kernel does not tell (before Linux 5.16).
    pub fn verified_instructions(&self, name: &str) -> Result<u32, ProgramsError> {
        self.program(name)?
            .info()
            .map_err(|source| ProgramsError::Program {
                name: name.to_owned(),
                source,
            })?
            .verified_instruction_count()
            .ok_or_else(|| ProgramsError::Missing("count of verified instructions".to_owned()))
    }

    /// Sets what the programs know of an uplink.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_uplink(&mut self, id: u8, uplink: &Uplink) -> Result<(), ProgramsError> {
        self.write_uplink(id, bytemuck::cast(*uplink))
    }

    /// What the programs know of an uplink.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn uplink(&self, id: u8) -> Result<Uplink, ProgramsError> {
        let map: Array<&MapData, Bytes<UPLINK>> =
            Array::try_from(self.map(maps::UPLINKS)?).map_err(failed(maps::UPLINKS))?;
        let bytes = map.get(&id.into(), 0).map_err(failed(maps::UPLINKS))?;
        checked(maps::UPLINKS, &bytes)
    }

    /// Forgets an uplink.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_uplink(&mut self, id: u8) -> Result<(), ProgramsError> {
        self.write_uplink(id, [0; UPLINK])
    }

    fn write_uplink(&mut self, id: u8, bytes: Bytes<UPLINK>) -> Result<(), ProgramsError> {
        let map = self.map_mut(maps::UPLINKS)?;
        let mut map: Array<&mut MapData, Bytes<UPLINK>> =
            Array::try_from(map).map_err(failed(maps::UPLINKS))?;
        map.set(id.into(), bytes, 0).map_err(failed(maps::UPLINKS))
    }

    /// Sets what the programs know of an interface.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_interface(
        &mut self,
        index: u32,
        interface: &Interface,
    ) -> Result<(), ProgramsError> {
        self.put(maps::INTERFACES, &index.to_ne_bytes(), interface)
    }

    /// Sets whose a gateway is; 0 for several uplinks'.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_gateway(&mut self, key: &GatewayKey, uplink: u8) -> Result<(), ProgramsError> {
        let gateway = Gateway {
            uplink,
            reserved: [0; 3],
        };
        let key: Bytes<{ size_of::<GatewayKey>() }> = bytemuck::cast(*key);
        let map = self.map_mut(maps::GATEWAYS)?;
        insert::<_, { size_of::<Gateway>() }>(map, &key, bytemuck::bytes_of(&gateway))
            .map_err(failed(maps::GATEWAYS))
    }

    /// Sets who new flows of a family go to: slot by slot these uplinks, again and again.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn select(
        &mut self,
        family: Family,
        affinity: Affinity,
        uplinks: &[u8],
    ) -> Result<(), ProgramsError> {
        let selection = Selection::new(affinity, slots(uplinks));
        let key: Bytes<{ size_of::<SelectionKey>() }> =
            bytemuck::cast(SelectionKey::common(family));
        self.put(maps::SELECTION, &key, &selection)
    }

    /// Leaves new flows of a family without a selection.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn deselect(&mut self, family: Family) -> Result<(), ProgramsError> {
        let key: Bytes<{ size_of::<SelectionKey>() }> =
            bytemuck::cast(SelectionKey::common(family));
        self.remove::<_, { size_of::<Selection>() }>(maps::SELECTION, &key)
    }

    /// A flow.
    ///
    /// # Errors
    /// When the kernel refuses, or the entry makes no sense.
    pub fn flow(&self, key: &FlowKey) -> Result<Option<Flow>, ProgramsError> {
        const LENGTH: usize = size_of::<Flow>();
        let key: Bytes<{ size_of::<FlowKey>() }> = bytemuck::cast(*key);
        self.get::<{ size_of::<FlowKey>() }, LENGTH, _>(maps::FLOWS, &key)
    }

    /// Sets a flow.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_flow(&mut self, key: &FlowKey, flow: &Flow) -> Result<(), ProgramsError> {
        let key: Bytes<{ size_of::<FlowKey>() }> = bytemuck::cast(*key);
        self.put(maps::FLOWS, &key, flow)
    }

    /// Forgets a flow.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_flow(&mut self, key: &FlowKey) -> Result<(), ProgramsError> {
        let key: Bytes<{ size_of::<FlowKey>() }> = bytemuck::cast(*key);
        self.remove::<_, { size_of::<Flow>() }>(maps::FLOWS, &key)
    }

    /// The keys of all flows.
    ///
    /// # Errors
    /// When the kernel refuses, or a key makes no sense.
    pub fn flows(&self) -> Result<Vec<FlowKey>, ProgramsError> {
        let map: HashMap<&MapData, Bytes<{ size_of::<FlowKey>() }>, Bytes<{ size_of::<Flow>() }>> =
            HashMap::try_from(self.map(maps::FLOWS)?).map_err(failed(maps::FLOWS))?;
        map.keys()
            .map(|key| checked(maps::FLOWS, &key.map_err(failed(maps::FLOWS))?))
            .collect()
    }

    /// What was counted for an uplink, over all processors.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn counters(&self, id: u8) -> Result<UplinkCounters, ProgramsError> {
        let map: PerCpuArray<_, Bytes<{ size_of::<UplinkCounters>() }>> =
            PerCpuArray::try_from(self.map(maps::COUNTERS)?).map_err(failed(maps::COUNTERS))?;
        let values = map.get(&id.into(), 0).map_err(failed(maps::COUNTERS))?;
        values
            .iter()
            .try_fold(UplinkCounters::default(), |sum, bytes| {
                Ok(sum.plus(checked(maps::COUNTERS, bytes)?))
            })
    }

    /// What became of packets that no known flow decided.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn totals(&self) -> Result<Totals, ProgramsError> {
        let map: PerCpuArray<_, Bytes<{ size_of::<Totals>() }>> =
            PerCpuArray::try_from(self.map(maps::TOTALS)?).map_err(failed(maps::TOTALS))?;
        let values = map.get(&0, 0).map_err(failed(maps::TOTALS))?;
        values.iter().try_fold(Totals::default(), |sum, bytes| {
            Ok(sum.plus(checked(maps::TOTALS, bytes)?))
        })
    }

    /// A program as aya knows it, loaded.
    ///
    /// # Errors
    /// When there is none of that name, or the kernel refuses it.
    pub fn program_mut(&mut self, name: &str) -> Result<&mut SchedClassifier, ProgramsError> {
        loaded(self.ebpf.get_mut(), name)
    }

    /// A program as aya knows it, loaded.
    ///
    /// # Errors
    /// When there is none of that name, or the kernel refuses it.
    pub fn program(&self, name: &str) -> Result<Ref<'_, SchedClassifier>, ProgramsError> {
        loaded(&mut self.ebpf.borrow_mut(), name)?;
        Ref::filter_map(self.ebpf.borrow(), |ebpf| {
            ebpf.program(name)?.try_into().ok()
        })
        .map_err(|_| missing(name))
    }

    pub(super) fn map(&self, name: &str) -> Result<&Map, ProgramsError> {
        self.maps
            .get(name)
            .ok_or_else(|| ProgramsError::Missing(format!("map {name}")))
    }

    pub(super) fn map_mut(&mut self, name: &str) -> Result<&mut Map, ProgramsError> {
        self.maps
            .get_mut(name)
            .ok_or_else(|| ProgramsError::Missing(format!("map {name}")))
    }

    fn put<const KEY: usize, V: NoUninit>(
        &mut self,
        name: &str,
        key: &Bytes<KEY>,
        value: &V,
    ) -> Result<(), ProgramsError> {
        let map = self.map_mut(name)?;
        let value = bytemuck::bytes_of(value);
        match value.len() {
            INTERFACE => insert::<KEY, INTERFACE>(map, key, value),
            SELECTION => insert::<KEY, SELECTION>(map, key, value),
            FLOW => insert::<KEY, FLOW>(map, key, value),
            _ => return Err(ProgramsError::Missing(format!("value of map {name}"))),
        }
        .map_err(failed(name))
    }

    pub(super) fn put_bytes<const KEY: usize, const VALUE: usize>(
        &mut self,
        name: &str,
        key: &Bytes<KEY>,
        value: &[u8],
    ) -> Result<(), ProgramsError> {
        let map = self.map_mut(name)?;
        insert::<KEY, VALUE>(map, key, value).map_err(failed(name))
    }

    pub(super) fn get<const KEY: usize, const VALUE: usize, V: CheckedBitPattern>(
        &self,
        name: &str,
        key: &Bytes<KEY>,
    ) -> Result<Option<V>, ProgramsError> {
        let map: HashMap<&MapData, Bytes<KEY>, Bytes<VALUE>> =
            HashMap::try_from(self.map(name)?).map_err(failed(name))?;
        match map.get(key, 0) {
            Ok(bytes) => Ok(Some(checked(name, &bytes)?)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(failed(name)(error)),
        }
    }

    fn remove<const KEY: usize, const VALUE: usize>(
        &mut self,
        name: &str,
        key: &Bytes<KEY>,
    ) -> Result<(), ProgramsError> {
        let map = self.map_mut(name)?;
        let mut map: HashMap<&mut MapData, Bytes<KEY>, Bytes<VALUE>> =
            HashMap::try_from(map).map_err(failed(name))?;
        map.remove(key).map_err(failed(name))
    }
}

const UPLINK: usize = size_of::<Uplink>();
const INTERFACE: usize = size_of::<Interface>();
const SELECTION: usize = size_of::<Selection>();
const FLOW: usize = size_of::<Flow>();

fn insert<const KEY: usize, const VALUE: usize>(
    map: &mut Map,
    key: &Bytes<KEY>,
    value: &[u8],
) -> Result<(), MapError> {
    let mut map: HashMap<&mut MapData, Bytes<KEY>, Bytes<VALUE>> = HashMap::try_from(map)?;
    let mut bytes = [0; VALUE];
    bytes.copy_from_slice(value);
    map.insert(key, bytes, 0)
}

pub(super) fn checked<T: CheckedBitPattern>(name: &str, bytes: &[u8]) -> Result<T, ProgramsError> {
    bytemuck::checked::try_pod_read_unaligned(bytes).map_err(|_| ProgramsError::Nonsense {
        name: name.to_owned(),
        found: bytes.to_vec(),
    })
}

pub(super) fn failed(name: &str) -> impl FnOnce(MapError) -> ProgramsError {
    let name = name.to_owned();
    |source| ProgramsError::Map { name, source }
}

fn loaded<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut SchedClassifier, ProgramsError> {
    let program = ebpf.program_mut(name).ok_or_else(|| missing(name))?;
    let program: &mut SchedClassifier = program.try_into().map_err(|_| missing(name))?;
    if program.fd().is_err() {
        program.load().map_err(|source| ProgramsError::Program {
            name: name.to_owned(),
            source,
        })?;
    }
    Ok(program)
}

fn missing(name: &str) -> ProgramsError {
    ProgramsError::Missing(format!("program {name}"))
}
