//! The fast path's maps, as the daemon has them: the arrays in its own memory.

use std::fmt;
use std::io;
use std::mem::offset_of;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData, MapError, RingBuf};
use bytemuck::checked::try_pod_read_unaligned;
use failover_common::fastpath::SEEN_SHIFT;
use failover_common::{Counters, Direction, Flow, FlowKey, Lease, NextHop, Offer, Uplink, maps};
use nix::errno::Errno;
use thiserror::Error;
use tracing::warn;

use super::load::{LoadError, Programs};
use super::pins::Pins;
use super::uplinks;
use crate::family::Family;
use crate::fastpath::places::Displaced;
use crate::fastpath::plane::{Moved, Plane, Wait};
use crate::flows::layout_family;
use crate::sys::{self, MappedArray};
use crate::uplink::UplinkId;

/// Why the fast path's maps cannot be used.
#[derive(Debug, Error)]
pub enum OffloadError {
    /// The object lacks a map.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A map cannot be used.
    #[error("cannot use the eBPF map {map}: {source}")]
    Map {
        /// The map.
        map: &'static str,
        /// Why.
        source: MapError,
    },
    /// A map cannot be had in memory.
    #[error("cannot map the eBPF map {map} into memory: {source}")]
    Memory {
        /// The map.
        map: &'static str,
        /// Why.
        source: io::Error,
    },
    /// There is no thread.
    #[error("cannot start a thread of the fast path: {0}")]
    Thread(#[source] io::Error),
}

const KEY: usize = size_of::<FlowKey>();
const FLOW: usize = size_of::<Flow>();

/// The maps.
pub(super) struct OffloadMaps {
    ways: MappedArray,
    flows: HashMap<MapData, [u8; KEY], [u8; FLOW]>,
    refused: HashMap<MapData, [u8; KEY], u8>,
    next_hops: MappedArray,
    lease: MappedArray,
    uplinks: aya::maps::Array<MapData, [u8; size_of::<Uplink>()]>,
    offers: RingBuf<MapData>,
    waits: Arc<Waits>,
    begin: mpsc::Sender<()>,
}

impl fmt::Debug for OffloadMaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OffloadMaps").finish_non_exhaustive()
    }
}

/// Waits for programs, by number: those that were asked for, began, and are over.
#[derive(Debug, Default)]
struct Waits {
    asked: AtomicU64,
    begun: AtomicU64,
    over: AtomicU64,
}

/// How long it is waited where the kernel does not tell when all programs have ended: none runs for a
/// thousandth of that.
const LONG: Duration = Duration::from_secs(10);

impl Waits {
    /// Waits whenever that is asked for, until nobody can ask any more.
    fn serve(&self, begin: &mpsc::Receiver<()>) {
        let mut refused = false;
        while begin.recv().is_ok() {
            let asked = self.asked.load(Ordering::SeqCst);
            let next = self.begun.load(Ordering::SeqCst) + 1;
            if asked < next {
                continue;
            }
            self.begun.store(next, Ordering::SeqCst);
            if let Err(error) = sys::wait_for_processors() {
                if !refused {
                    warn!(%error, "the kernel does not tell when programs have ended: places of the fast path are free again 10 s after they were left");
                    refused = true;
                }
                std::thread::sleep(LONG);
            }
            self.over.store(next, Ordering::SeqCst);
        }
    }
}

impl Programs {
    /// Opens the fast path's maps.
    pub(super) fn offload_maps(&self, pins: &Pins) -> Result<OffloadMaps, OffloadError> {
        let open = |map: &'static str| {
            MapData::from_pin(pins.map(map)).map_err(|source| OffloadError::Map { map, source })
        };
        let mapped = |map: &'static str, value| {
            MappedArray::new(&open(map)?, value).map_err(failed_memory(map))
        };
        let failed = |map| move |source| OffloadError::Map { map, source };
        let flows = Map::from_map_data(open(maps::FLOWS)?)
            .and_then(HashMap::try_from)
            .map_err(failed(maps::FLOWS))?;
        let refused = Map::from_map_data(open(maps::REFUSED)?)
            .and_then(HashMap::try_from)
            .map_err(failed(maps::REFUSED))?;
        let uplinks = Map::from_map_data(open(maps::UPLINKS)?)
            .and_then(aya::maps::Array::try_from)
            .map_err(failed(maps::UPLINKS))?;
        // A copy of the descriptor: a later worker has another one.
        let ring = self.map(maps::OFFERS)?;
        let Map::RingBuf(ring) = ring else {
            return Err(LoadError::Missing {
                name: format!("ring {}", maps::OFFERS),
            }
            .into());
        };
        let memory = failed_memory(maps::OFFERS);
        let ring = ring.fd().as_fd().try_clone_to_owned().map_err(memory)?;
        let offers = MapData::from_fd(ring)
            .and_then(Map::from_map_data)
            .and_then(RingBuf::try_from)
            .map_err(failed(maps::OFFERS))?;
        let waits = Arc::new(Waits::default());
        let (begin, begun) = mpsc::channel();
        let serving = Arc::clone(&waits);
        std::thread::Builder::new()
            .name("fast path wait".to_owned())
            .spawn(move || serving.serve(&begun))
            .map_err(OffloadError::Thread)?;
        Ok(OffloadMaps {
            ways: mapped(maps::OFFLOAD, size_of::<Direction>())?,
            flows,
            refused,
            next_hops: mapped(maps::NEXT_HOPS, size_of::<NextHop>())?,
            lease: mapped(maps::LEASE, size_of::<Lease>())?,
            uplinks,
            offers,
            waits,
            begin,
        })
    }
}

fn failed_memory(map: &'static str) -> impl FnOnce(io::Error) -> OffloadError {
    move |source| OffloadError::Memory { map, source }
}

/// Where the id stands among the words of a direction, with the ingress interface in the other half of
/// its word, and what else the daemon and the programs write on its own.
const ID: usize = offset_of!(Direction, id) / 8;
const LEFT: usize = offset_of!(Direction, left) / 8;
const PACKETS: usize = offset_of!(Direction, packets) / 8;
const BYTES: usize = offset_of!(Direction, bytes) / 8;
const SEEN: usize = offset_of!(Direction, seen) / 8;
/// How far bytes are shifted in their word.
const LEFT_SHIFT: usize = offset_of!(Direction, left) % 8 * 8;
const DISPLACED_SHIFT: usize = offset_of!(Direction, displaced) % 8 * 8;
const DISPLACED: u64 = 0xff << DISPLACED_SHIFT;
const _: () = assert!(offset_of!(Direction, id) % 8 == 0 && offset_of!(Direction, seen) % 8 == 0);
const _: () = assert!(offset_of!(Direction, displaced) / 8 == LEFT);
/// The half of a word that the id is in; that the interface of a next hop is in.
const FIRST_HALF: u64 = 0xffff_ffff;

/// Writes all but the first half of some words, and that at last.
fn store(words: &[AtomicU64], values: &[u64], firsts: &[usize]) {
    for (index, (word, value)) in words.iter().zip(values).enumerate() {
        let value = if firsts.contains(&index) {
            *value & !FIRST_HALF
        } else {
            *value
        };
        word.store(value, Ordering::Relaxed);
    }
    for index in firsts {
        if let (Some(word), Some(value)) = (words.get(*index), values.get(*index)) {
            word.store(*value, Ordering::Release);
        }
    }
}

/// Takes the first half of a word away.
fn take_first(words: &[AtomicU64], index: usize) {
    if let Some(word) = words.get(index) {
        word.fetch_and(!FIRST_HALF, Ordering::SeqCst);
    }
}

/// That an entry is not there any more is no error.
fn or_gone(done: Result<(), MapError>) -> Result<(), MapError> {
    match done {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.raw_os_error() == Some(Errno::ENOENT as i32) =>
        {
            Ok(())
        }
        done => done,
    }
}

impl Plane for OffloadMaps {
    type Error = MapError;

    fn capacity(&self) -> u32 {
        maps::place_capacity(self.places())
    }

    fn places(&self) -> u32 {
        u32::try_from(self.ways.entries()).unwrap_or(u32::MAX)
    }

    fn write(&mut self, place: u32, way: &Direction) {
        let words = self.ways.entry(place);
        let mut values: [u64; size_of::<Direction>() / 8] = bytemuck::cast(*way);
        // It is the place's, not the direction's, and nobody else writes it.
        if let (Some(value), Some(word)) = (values.get_mut(LEFT), words.get(LEFT)) {
            *value |= word.load(Ordering::Relaxed) & DISPLACED;
        }
        store(words, &values, &[ID]);
    }

    fn give_up(&mut self, place: u32) {
        take_first(self.ways.entry(place), ID);
    }

    fn displace(&mut self, Displaced { home, count }: Displaced) {
        // The programs write other bytes of the word.
        if let Some(word) = self.ways.entry(home).get(LEFT) {
            let count = u64::from(count) << DISPLACED_SHIFT;
            let known = word.load(Ordering::Relaxed) & DISPLACED;
            word.fetch_xor(known ^ count, Ordering::SeqCst);
        }
    }

    fn read(&self, place: u32) -> Moved {
        let words = self.ways.entry(place);
        let word = |index: usize| {
            let word = words.get(index);
            word.map_or(0, |word| word.load(Ordering::Relaxed))
        };
        let seen = word(SEEN) & FIRST_HALF;
        Moved {
            left: word(LEFT) >> LEFT_SHIFT & 0xff != 0,
            seen_ns: seen << SEEN_SHIFT,
            uncounted: Counters {
                packets: word(PACKETS),
                bytes: word(BYTES),
            },
        }
    }

    fn credit(&mut self, key: &FlowKey, moved: [Counters; 2]) -> Result<(), MapError> {
        /// `BPF_EXIST` (`include/uapi/linux/bpf.h`).
        const ONLY_WHERE_IT_IS: u64 = 2;
        let key: [u8; KEY] = bytemuck::cast(*key);
        let known = match self.flows.get(&key, 0) {
            Ok(known) => known,
            Err(MapError::KeyNotFound) => return Ok(()),
            Err(error) => return Err(error),
        };
        // What makes no sense somebody else wrote.
        let Ok(mut flow) = try_pod_read_unaligned::<Flow>(&known) else {
            return Ok(());
        };
        let [out, back] = moved;
        flow.out_packets = flow.out_packets.wrapping_add(out.packets);
        flow.out_bytes = flow.out_bytes.wrapping_add(out.bytes);
        flow.in_packets = flow.in_packets.wrapping_add(back.packets);
        flow.in_bytes = flow.in_bytes.wrapping_add(back.bytes);
        // What a packet changed of the entry since it was read is lost: one that the programs count or
        // pick anew, as when two of them write it at once.
        let value: [u8; FLOW] = bytemuck::cast(flow);
        or_gone(self.flows.insert(key, value, ONLY_WHERE_IT_IS))
    }

    fn refuse(&mut self, key: &FlowKey) -> Result<(), MapError> {
        let key: [u8; KEY] = bytemuck::cast(*key);
        self.refused.insert(key, 0, 0)
    }

    fn pardon(&mut self, key: &FlowKey) -> Result<(), MapError> {
        let key: [u8; KEY] = bytemuck::cast(*key);
        or_gone(self.refused.remove(&key))
    }

    fn pardon_all(&mut self) -> Result<(), MapError> {
        let keys: Vec<[u8; KEY]> = self.refused.keys().collect::<Result<_, _>>()?;
        for key in keys {
            or_gone(self.refused.remove(&key))?;
        }
        Ok(())
    }

    fn clear(&mut self) {
        for place in 0..self.places() {
            self.give_up(place);
            self.displace(Displaced {
                home: place,
                count: 0,
            });
        }
        for index in 0..maps::NEXT_HOP_CAPACITY {
            self.close_hop(index);
        }
        // What is written next may be what a program still looks at.
        if let Err(error) = sys::wait_for_processors() {
            warn!(%error, "the kernel does not tell when programs have ended");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn open_hop(&mut self, index: u32, hop: &NextHop) {
        let values: [u64; size_of::<NextHop>() / 8] = bytemuck::cast(*hop);
        store(self.next_hops.entry(index), &values, &[0]);
    }

    fn close_hop(&mut self, index: u32) {
        take_first(self.next_hops.entry(index), 0);
    }

    fn lease(&self) -> Lease {
        let mut values = [0; size_of::<Lease>() / 8];
        for (value, word) in values.iter_mut().zip(self.lease.entry(0)) {
            *value = word.load(Ordering::Relaxed);
        }
        bytemuck::cast(values)
    }

    fn set_lease(&mut self, lease: Lease) {
        let values: [u64; size_of::<Lease>() / 8] = bytemuck::cast(lease);
        for (word, value) in self.lease.entry(0).iter().zip(values) {
            word.store(value, Ordering::Release);
        }
    }

    fn generation(&self, uplink: UplinkId, family: Family) -> Option<u32> {
        let bytes = self.uplinks.get(&uplink.get().into(), 0).ok()?;
        let uplink = uplinks::read(&bytes)?;
        Some(uplink.family(layout_family(family)).generation)
    }

    fn offers(&mut self, most: usize) -> Vec<Offer> {
        let mut offers = Vec::new();
        while offers.len() < most
            && let Some(bytes) = self.offers.next()
        {
            offers.extend(try_pod_read_unaligned::<Offer>(&bytes).ok());
        }
        offers
    }

    fn offered(&self) -> BorrowedFd<'_> {
        self.offers.as_fd()
    }

    fn wait_for_programs(&mut self) -> Wait {
        let next = self.waits.begun.load(Ordering::SeqCst) + 1;
        if self.waits.asked.fetch_max(next, Ordering::SeqCst) < next {
            // Its thread ends with the process alone.
            let _ended = self.begin.send(());
        }
        Wait(next)
    }

    fn waited(&self) -> Wait {
        Wait(self.waits.over.load(Ordering::SeqCst))
    }
}
