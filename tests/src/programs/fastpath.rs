//! The fast path's maps, as a daemon would write and read them.

use aya::maps::{Array, HashMap, MapData, RingBuf};
use bytemuck::{CheckedBitPattern, NoUninit};
use failover_common::fastpath::TRIES;
use failover_common::{
    Direction, FlowKey, Guard, KeyWords, Lease, NextHop, Offer, OffloadKey, Pair, maps,
};

use super::ProgramsError;
use super::loaded::{Loaded, checked, failed};

const KEY: usize = size_of::<FlowKey>();

impl Loaded {
    /// Says what becomes of packets of one direction, at the first free place of its key or where it is
    /// already.
    ///
    /// # Errors
    /// When the kernel refuses, or there is no room.
    pub fn set_direction(&mut self, way: &Direction) -> Result<u32, ProgramsError> {
        let key = KeyWords(way.key);
        let (home, other) = key.homes();
        for nth in 0..TRIES {
            let place = self.place(KeyWords::place(home, other, nth));
            let there = self.direction_at(place)?;
            if there.id == 0 || there.key == way.key {
                let Direction { displaced, .. } = there;
                let first = self.place(home);
                self.set_way(place, &Direction { displaced, ..*way })?;
                if place != first && there.id == 0 {
                    let mut there = self.direction_at(first)?;
                    there.displaced += 1;
                    self.set_way(first, &there)?;
                }
                return Ok(place);
            }
        }
        Err(ProgramsError::Missing("free place".to_owned()))
    }

    /// Says what becomes of a flow's packets.
    ///
    /// # Errors
    /// When the kernel refuses, or there is no room.
    pub fn set_pair(&mut self, pair: &Pair) -> Result<(), ProgramsError> {
        let out = self.set_direction(&pair.out)?;
        let back = Direction {
            other: out,
            ..pair.back
        };
        let other = self.set_direction(&back)?;
        let out = Direction { other, ..pair.out };
        self.set_direction(&out).map(drop)
    }

    /// What becomes of the packets with these keys, from users first, and what moved.
    ///
    /// # Errors
    /// When the kernel refuses, or there is nothing of the kind.
    pub fn pair(&self, out: &OffloadKey, back: &OffloadKey) -> Result<Pair, ProgramsError> {
        Ok(Pair {
            out: self.direction(out)?.1,
            back: self.direction(back)?.1,
        })
    }

    /// What becomes of packets of one direction, and where that is.
    ///
    /// # Errors
    /// When the kernel refuses, or there is none.
    pub fn direction(&self, key: &OffloadKey) -> Result<(u32, Direction), ProgramsError> {
        let words = key.words();
        let (home, other) = words.homes();
        for nth in 0..TRIES {
            let place = self.place(KeyWords::place(home, other, nth));
            let way = self.direction_at(place)?;
            if way.key == words.0 {
                return Ok((place, way));
            }
        }
        Err(ProgramsError::Missing("direction".to_owned()))
    }

    /// The place of a number of which the low bits count.
    #[must_use]
    pub const fn place(&self, number: u32) -> u32 {
        number & self.place_mask
    }

    /// Writes a place as it is said.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_way(&mut self, place: u32, way: &Direction) -> Result<(), ProgramsError> {
        self.set_entry::<{ size_of::<Direction>() }, _>(maps::OFFLOAD, place, way)
    }

    fn direction_at(&self, place: u32) -> Result<Direction, ProgramsError> {
        self.entry::<{ size_of::<Direction>() }, _>(maps::OFFLOAD, place)
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
