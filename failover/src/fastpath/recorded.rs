//! Maps that only note what is done to them, for tests.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{AsFd as _, BorrowedFd};

use failover_common::fastpath::SEEN_SHIFT;
use failover_common::{
    Counters, Direction, FlowKey, Lease, NextHop, Offer, OffloadKey, Pair, Side,
};

use super::plane::{Moved, Plane, Wait};
use super::standing::Uncounted;
use crate::family::Family;
use crate::uplink::UplinkId;

/// The maps as they are.
#[derive(Debug)]
pub(crate) struct Recorded {
    pub(crate) pairs: BTreeMap<u32, Pair>,
    pub(crate) keys: BTreeMap<OffloadKey, u32>,
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
            pairs: BTreeMap::new(),
            keys: BTreeMap::new(),
            refused: BTreeSet::new(),
            hops: BTreeMap::new(),
            lease: Lease::default(),
            generation: 5,
            over: 0,
            capacity,
            nothing: File::open("/dev/null").unwrap(),
        }
    }

    /// The pair to which a key leads, if that is still the key's.
    pub(crate) fn led(&self, key: &OffloadKey) -> Option<&Pair> {
        let pair = self.pairs.get(self.keys.get(key)?)?;
        let way = match key.side {
            Side::Users => &pair.out,
            Side::Provider => &pair.back,
        };
        (way.id != 0 && way.key == key.words().0).then_some(pair)
    }
}

impl Plane for Recorded {
    type Error = Infallible;

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn write(&mut self, slot: u32, pair: &Pair) {
        let former = self.pairs.insert(slot, *pair);
        assert!(
            former.is_none_or(|former| former.out.id == 0 && former.back.id == 0),
            "a pair was written that is another flow's"
        );
    }

    fn give_up(&mut self, slot: u32) {
        if let Some(pair) = self.pairs.get_mut(&slot) {
            pair.out.id = 0;
            pair.back.id = 0;
        }
    }

    fn read(&self, slot: u32) -> Moved {
        let counted = |way: &Direction| Counters {
            packets: way.packets,
            bytes: way.bytes,
        };
        let moved = |pair: &Pair| Moved {
            left: pair.out.left != 0 || pair.back.left != 0,
            seen_ns: u64::from(pair.out.seen.max(pair.back.seen)) << SEEN_SHIFT,
            uncounted: Uncounted {
                out: counted(&pair.out),
                back: counted(&pair.back),
            },
        };
        self.pairs.get(&slot).map(moved).unwrap_or_default()
    }

    fn lead(&mut self, key: &OffloadKey, slot: u32) -> bool {
        self.keys.insert(*key, slot).is_none()
    }

    fn leave(&mut self, key: &OffloadKey, slot: u32) {
        if self.keys.get(key) == Some(&slot) {
            self.keys.remove(key);
        }
    }

    fn refuse(&mut self, key: &FlowKey) -> Result<(), Infallible> {
        self.refused.insert(*key);
        Ok(())
    }

    fn pardon(&mut self, key: &FlowKey) -> Result<(), Infallible> {
        self.refused.remove(key);
        Ok(())
    }

    fn clear(&mut self) -> Result<(), Infallible> {
        self.keys.clear();
        self.pairs.clear();
        self.refused.clear();
        Ok(())
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
