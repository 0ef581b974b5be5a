//! What the fast path does to the programs' maps, behind a trait.

use std::os::fd::BorrowedFd;

use failover_common::{FlowKey, Lease, NextHop, Offer, OffloadKey, Pair};

use super::standing::Uncounted;
use crate::family::Family;
use crate::uplink::UplinkId;

/// The maps.
pub trait Plane: Send {
    /// Why an operation failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// For how many flows there is room.
    fn capacity(&self) -> u32;

    /// Writes a pair that no program can be looking at; its ids last.
    fn write(&mut self, slot: u32, pair: &Pair);

    /// Takes a pair's ids: no program that looks at it from now on takes it.
    fn give_up(&mut self, slot: u32);

    /// What the programs wrote of a pair.
    fn read(&self, slot: u32) -> Moved;

    /// Leads packets to a pair; returns whether there was room for that.
    fn lead(&mut self, key: &OffloadKey, slot: u32) -> bool;

    /// Leads them there no more.
    fn leave(&mut self, key: &OffloadKey, slot: u32);

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

    /// Takes away all keys and pairs that somebody left, and what was refused.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn clear(&mut self) -> Result<(), Self::Error>;

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

/// What the programs wrote of a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// A packet ended the flow, or began another one.
    pub left: bool,
    /// When a packet last took the fast path, in nanoseconds of `CLOCK_MONOTONIC`, up to a second ago;
    /// 0 for none.
    pub seen_ns: u64,
    /// What moved and is not counted with the flow yet.
    pub uncounted: Uncounted,
}

/// A wait for all programs that may still look at what was given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wait(pub u64);
