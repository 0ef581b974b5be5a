//! What the fast path does to the programs' maps, behind a trait.

use std::os::fd::BorrowedFd;

use failover_common::{Counters, Direction, FlowKey, Lease, NextHop, Offer};

use super::places::Displaced;
use crate::family::Family;
use crate::uplink::UplinkId;

/// The maps.
pub trait Plane: Send {
    /// Why an operation failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// For how many flows there is room.
    fn capacity(&self) -> u32;

    /// How many places there are for their directions: a power of two.
    fn places(&self) -> u32;

    /// Writes a direction into a place that no program can be looking at; its id last.
    fn write(&mut self, place: u32, way: &Direction);

    /// Takes a direction's id: no program that looks at it from now on takes it.
    fn give_up(&mut self, place: u32);

    /// Tells the programs how many directions are elsewhere that are looked for here first.
    fn displace(&mut self, displaced: Displaced);

    /// What the programs wrote of a direction.
    fn read(&self, place: u32) -> Moved;

    /// Adds to what a flow of the flow table has counted, if it is there.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn credit(&mut self, key: &FlowKey, moved: [Counters; 2]) -> Result<(), Self::Error>;

    /// Has the programs not offer a flow.
    ///
    /// # Errors
    /// When the kernel refuses, as when there is no room.
    fn refuse(&mut self, key: &FlowKey) -> Result<(), Self::Error>;

    /// Has them offer it again; that it was not refused is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn pardon(&mut self, key: &FlowKey) -> Result<(), Self::Error>;

    /// Has them offer all flows again.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn pardon_all(&mut self) -> Result<(), Self::Error>;

    /// Takes away all directions and next hops that somebody left.
    fn clear(&mut self);

    /// Writes a next hop that no program can be looking at; its interface last.
    fn open_hop(&mut self, index: u32, hop: &NextHop);

    /// Takes a next hop's interface: its packets are the stack's from now on.
    fn close_hop(&mut self, index: u32);

    /// What the programs were told last.
    fn lease(&self) -> Lease;

    /// Tells them.
    fn set_lease(&mut self, lease: Lease);

    /// The generation of an uplink, if it is there.
    fn generation(&self, uplink: UplinkId, family: Family) -> Option<u32>;

    /// Offers that came in, at most so many.
    fn offers(&mut self, most: usize) -> Vec<Offer>;

    /// Is readable when there are offers.
    fn offered(&self) -> BorrowedFd<'_>;

    /// The number of the next wait for all programs that are running now: what is given up now can be
    /// written again when that number is over.
    fn wait_for_programs(&mut self) -> Wait;

    /// The last wait that is over.
    fn waited(&self) -> Wait;
}

/// What the programs wrote of a direction. It can be read until the place is somebody else's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// A packet ended the flow, or began another one.
    pub left: bool,
    /// When a packet last took the fast path, in nanoseconds of `CLOCK_MONOTONIC`, up to a second ago;
    /// 0 for none.
    pub seen_ns: u64,
    /// What moved and is not counted with the flow yet.
    pub uncounted: Counters,
}

/// A wait for all programs that may still look at what was given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait(pub u64);
