//! The fast path's maps, as a daemon would write and read them.

use aya::maps::{Array, HashMap, MapData, RingBuf};
use bytemuck::{CheckedBitPattern, NoUninit};
use failover_common::fastpath::{cell, tag_of};
use failover_common::{Bucket, FlowKey, Guard, Lease, NextHop, Offer, OffloadKey, Pair, maps};

use super::ProgramsError;
use super::loaded::{Loaded, checked, failed};

const KEY: usize = size_of::<FlowKey>();

impl Loaded {
    /// Says where packets of one direction find out what becomes of them.
    ///
    /// # Errors
    /// When the kernel refuses, or there is no room in their bucket.
    pub fn lead(&mut self, key: &OffloadKey, slot: u32) -> Result<(), ProgramsError> {
        self.change_bucket(key, |bucket, tag| {
            let mut cells = bucket.cells.iter_mut();
            let free = cells.find(|place| **place == 0 || tag_of(**place) == tag);
            let place = free.ok_or_else(|| ProgramsError::Missing("free cell".to_owned()))?;
            *place = cell(tag, slot);
            Ok(())
        })
    }

    /// Packets of one direction lead nowhere any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn leave(&mut self, key: &OffloadKey) -> Result<(), ProgramsError> {
        self.change_bucket(key, |bucket, tag| {
            let others = bucket.cells.into_iter().filter(|cell| tag_of(*cell) != tag);
            let mut left = Bucket::default();
            for (place, cell) in left.cells.iter_mut().zip(others) {
                *place = cell;
            }
            *bucket = left;
            Ok(())
        })
    }

    fn change_bucket(
        &mut self,
        key: &OffloadKey,
        change: impl FnOnce(&mut Bucket, u32) -> Result<(), ProgramsError>,
    ) -> Result<(), ProgramsError> {
        let (place, tag) = key.words().place();
        let place = place & self.bucket_mask;
        let mut bucket: Bucket = self.entry::<{ size_of::<Bucket>() }, _>(maps::OFFLOAD, place)?;
        change(&mut bucket, tag)?;
        self.set_entry::<{ size_of::<Bucket>() }, _>(maps::OFFLOAD, place, &bucket)
    }

    /// Says that a flow is not for the fast path.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn refuse(&mut self, key: &FlowKey) -> Result<(), ProgramsError> {
        self.put_bytes::<KEY, 1>(maps::REFUSED, &bytemuck::cast(*key), &[0])
    }

    /// Says that it may be.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn pardon(&mut self, key: &FlowKey) -> Result<(), ProgramsError> {
        let key: [u8; KEY] = bytemuck::cast(*key);
        let map = self.map_mut(maps::REFUSED)?;
        let mut map: HashMap<&mut MapData, [u8; KEY], u8> =
            HashMap::try_from(map).map_err(failed(maps::REFUSED))?;
        map.remove(&key).map_err(failed(maps::REFUSED))
    }

    /// Sets what becomes of a flow's packets.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_pair(&mut self, slot: u32, pair: &Pair) -> Result<(), ProgramsError> {
        self.set_entry::<{ size_of::<Pair>() }, _>(maps::PAIRS, slot, pair)
    }

    /// What becomes of a flow's packets, and what moved.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn pair(&self, slot: u32) -> Result<Pair, ProgramsError> {
        self.entry::<{ size_of::<Pair>() }, _>(maps::PAIRS, slot)
    }

    /// Sets where packets are sent.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_next_hop(&mut self, index: u32, hop: &NextHop) -> Result<(), ProgramsError> {
        self.set_entry::<{ size_of::<NextHop>() }, _>(maps::NEXT_HOPS, index, hop)
    }

    /// Sets until when the fast path may be taken.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_lease(&mut self, lease: &Lease) -> Result<(), ProgramsError> {
        self.set_entry::<{ size_of::<Lease>() }, _>(maps::LEASE, 0, lease)
    }

    /// How many new flows wait for an answer.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn guard(&self) -> Result<Guard, ProgramsError> {
        self.entry::<{ size_of::<Guard>() }, _>(maps::GUARD, 0)
    }

    /// The flows that were offered since this was last asked.
    ///
    /// # Errors
    /// When one makes no sense, or there is no such map.
    pub fn take_offers(&mut self) -> Result<Vec<Offer>, ProgramsError> {
        let name = maps::OFFERS;
        let mut ring = RingBuf::try_from(self.map_mut(name)?).map_err(failed(name))?;
        let mut offers = Vec::new();
        while let Some(bytes) = ring.next() {
            offers.push(checked(name, &bytes)?);
        }
        Ok(offers)
    }

    fn set_entry<const LENGTH: usize, V: NoUninit>(
        &mut self,
        name: &str,
        index: u32,
        value: &V,
    ) -> Result<(), ProgramsError> {
        let mut bytes = [0; LENGTH];
        bytes.copy_from_slice(bytemuck::bytes_of(value));
        let map = self.map_mut(name)?;
        let mut map: Array<&mut MapData, [u8; LENGTH]> =
            Array::try_from(map).map_err(failed(name))?;
        map.set(index, bytes, 0).map_err(failed(name))
    }

    fn entry<const LENGTH: usize, V: CheckedBitPattern>(
        &self,
        name: &str,
        index: u32,
    ) -> Result<V, ProgramsError> {
        let map: Array<&MapData, [u8; LENGTH]> =
            Array::try_from(self.map(name)?).map_err(failed(name))?;
        checked(name, &map.get(&index, 0).map_err(failed(name))?)
    }
}
