//! Maps that only note what is done to them, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};

use failover_common::fastpath::SEEN_SHIFT;
use failover_common::{Counters, Direction, FlowKey, Lease, NextHop, Offer, OffloadKey};

use super::places::Displaced;
use super::plane::{Moved, Plane, Wait};
use crate::family::Family;
use crate::uplink::UplinkId;

/// The maps as they are.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) ways: BTreeMap<u32, Direction>,
    pub(crate) displaced: BTreeMap<u32, u8>,
    pub(crate) credited: Vec<(FlowKey, [Counters; 2])>,
    pub(crate) refused: BTreeSet<FlowKey>,
    pub(crate) hops: BTreeMap<u32, NextHop>,
    pub(crate) lease: Lease,
    pub(crate) generation: u32,
    pub(crate) over: u64,
    pub(crate) capacity: u32,
    nothing: File,
}

impl Recorded {
    pub(crate) fn new(capacity: u32) -> Self {
        Self {
            ways: BTreeMap::new(),
            displaced: BTreeMap::new(),
            credited: Vec::new(),
            refused: BTreeSet::new(),
            hops: BTreeMap::new(),
            lease: Lease::default(),
            generation: 5,
            over: 0,
            capacity,
            nothing: File::open("/dev/null").unwrap(),
        }
    }

    /// The direction of a key, if that is somebody's.
    pub(crate) fn led(&self, key: &OffloadKey) -> Option<&Direction> {
        let words = key.words().0;
        let mut ways = self.ways.values();
        ways.find(|way| way.id != 0 && way.key == words)
    }

    /// As [`Self::led`], for what the programs write.
    pub(crate) fn led_mut(&mut self, key: &OffloadKey) -> Option<&mut Direction> {
        let words = key.words().0;
        let mut ways = self.ways.values_mut();
        ways.find(|way| way.id != 0 && way.key == words)
    }

    /// Whether nobody's direction is found.
    pub(crate) fn is_empty(&self) -> bool {
        self.ways.values().all(|way| way.id == 0)
    }
}

impl Plane for Recorded {
    type Error = Infallible;

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn places(&self) -> u32 {
        failover_common::maps::place_count(self.capacity)
    }

    fn write(&mut self, place: u32, way: &Direction) {
        let former = self.ways.insert(place, *way);
        assert!(
            former.is_none_or(|former| former.id == 0),
            "a direction was written that is another flow's"
        );
    }

    fn give_up(&mut self, place: u32) {
        if let Some(way) = self.ways.get_mut(&place) {
            way.id = 0;
        }
    }

    fn displace(&mut self, displaced: Displaced) {
        self.displaced.insert(displaced.home, displaced.count);
    }

    fn read(&self, place: u32) -> Moved {
        let moved = |way: &Direction| Moved {
            left: way.left != 0,
            seen_ns: u64::from(way.seen) << SEEN_SHIFT,
            uncounted: Counters {
                packets: way.packets,
                bytes: way.bytes,
            },
        };
        self.ways.get(&place).map(moved).unwrap_or_default()
    }

    fn credit(&mut self, key: &FlowKey, moved: [Counters; 2]) -> Result<(), Infallible> {
        self.credited.push((*key, moved));
        Ok(())
    }

    fn refuse(&mut self, key: &FlowKey) -> Result<(), Infallible> {
        self.refused.insert(*key);
        Ok(())
    }

    fn pardon(&mut self, key: &FlowKey) -> Result<(), Infallible> {
        self.refused.remove(key);
        Ok(())
    }

    fn pardon_all(&mut self) -> Result<(), Infallible> {
        self.refused.clear();
        Ok(())
    }

    fn clear(&mut self) {
        self.ways.clear();
        self.displaced.clear();
    }

    fn open_hop(&mut self, index: u32, hop: &NextHop) {
        let former = self.hops.insert(index, *hop);
        assert!(
            former.is_none_or(|former| former.interface == 0),
            "a next hop was written that is open"
        );
    }

    fn close_hop(&mut self, index: u32) {
        if let Some(hop) = self.hops.get_mut(&index) {
            hop.interface = 0;
        }
    }

    fn lease(&self) -> Lease {
        self.lease
    }

    fn set_lease(&mut self, lease: Lease) {
        self.lease = lease;
    }

    fn generation(&self, _uplink: UplinkId, _family: Family) -> Option<u32> {
        Some(self.generation)
    }

    fn offers(&mut self, _most: usize) -> Vec<Offer> {
        Vec::new()
    }

    fn offered(&self) -> BorrowedFd<'_> {
        self.nothing.as_fd()
    }

    fn wait_for_programs(&mut self) -> Wait {
        Wait(self.over + 1)
    }

    fn waited(&self) -> Wait {
        Wait(self.over)
    }
}
