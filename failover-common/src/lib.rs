//! What the eBPF programs and the daemon share: the layout of the maps.
//!
//! Everything here is `repr(C)` without padding, so that every byte that crosses the border between
//! kernel and daemon is initialised.
#![no_std]

/// The version of the layout of all maps. It goes up with every change that makes a pinned map of an
/// older daemon unreadable; aya itself takes a pinned map of another type or size in silence.
pub const LAYOUT_VERSION: u32 = 1;

/// The way of a packet through an interface, and the index of its [`Counters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Direction {
    /// Into this host.
    Ingress = 0,
    /// Out of this host.
    Egress = 1,
}

impl Direction {
    /// Both directions, in the order of their indexes.
    pub const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    /// The index of the direction in the map `COUNTERS`.
    #[must_use]
    pub const fn index(self) -> u32 {
        self as u32
    }
}

/// What went by in one direction; each processor counts for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters {
    /// Packets; one segment-offloaded packet counts once.
    pub packets: u64,
    /// Bytes, link-layer header included.
    pub bytes: u64,
}

#[cfg(feature = "user")]
#[expect(
    unsafe_code,
    reason = "aya's marker for plain bytes is an unsafe trait"
)]
// SAFETY: aya reads and writes the value as bytes. Two u64 in repr(C) have no padding, and every bit
// pattern is valid.
unsafe impl aya::Pod for Counters {}
