//! What the programs count; each processor counts for itself.

#[cfg(feature = "user")]
use bytemuck::{CheckedBitPattern, NoUninit};

/// Where on a packet's way a program stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(u8)]
pub enum Point {
    /// A packet comes from users: it is given its uplink.
    LanIngress = 1,
    /// A packet goes to users.
    LanEgress = 2,
    /// A packet comes from a provider.
    WanIngress = 3,
}

impl Point {
    /// All points, in the order of a packet out and its answer.
    pub const ALL: [Self; 3] = [Self::LanIngress, Self::WanIngress, Self::LanEgress];
}

/// What is counted: packets of an uplink at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct CounterKey {
    /// The id of the uplink that the packet was given, or that it came by.
    pub uplink: u8,
    /// Where it was seen.
    pub point: Point,
    /// Zero.
    pub reserved: [u8; 2],
}

/// What went by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct Counters {
    /// Packets; segments of an offloaded packet count each.
    pub packets: u64,
    /// Bytes, link-layer headers included where the interface has them.
    pub bytes: u64,
}

/// What became of packets that no known flow decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct Totals {
    /// Entries made in the flow table.
    pub entered: u64,
    /// Entries that the flow table did not take.
    pub refused: u64,
    /// Entries that were given an uplink anew: the old one's flows were forgotten, or the flow had
    /// ended.
    pub renewed: u64,
    /// Entries that were moved to the uplink by which their packets come back.
    pub corrected: u64,
    /// Packets that the kernel sends elsewhere than to an uplink.
    pub elsewhere: u64,
    /// Packets for which there was no selection or no uplink.
    pub unpicked: u64,
    /// Packets whose headers make no sense, or go on beyond what is looked at.
    pub unread: u64,
}
