//! Which uplink a new flow gets.

#[cfg(feature = "user")]
use bytemuck::{CheckedBitPattern, NoUninit};

use crate::{Family, FlowKey};

/// The number of slots of a selection. Prime, as the table's permutations need it.
pub const SLOTS: usize = 1021;
const SLOT_COUNT: u64 = SLOTS as u64;

/// What makes flows go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(u8)]
pub enum Affinity {
    /// Nothing: each flow on its own.
    Flow = 1,
    /// The same source and destination.
    Pair = 2,
    /// The same source.
    Source = 3,
}

/// Which selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct SelectionKey {
    /// The pool; 0 is that of all flows that no rule names.
    pub pool: u16,
    /// The family.
    pub family: Family,
    /// Zero.
    pub reserved: u8,
}

impl SelectionKey {
    /// The selection of all flows of a family that no rule names.
    #[must_use]
    pub const fn common(family: Family) -> Self {
        Self {
            pool: 0,
            family,
            reserved: 0,
        }
    }
}

/// The uplinks of a pool, by the hash of a flow. Replaced as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct Selection {
    /// What is hashed.
    pub affinity: Affinity,
    /// Zero.
    pub reserved: [u8; 2],
    /// The id of the uplink of each slot.
    pub slots: [u8; SLOTS],
}

/// The slot of a flow, less than [`SLOTS`].
#[must_use]
#[inline(always)]
pub fn slot(key: &FlowKey, affinity: Affinity) -> usize {
    let mut hash = mix(SEED, key.inside);
    if !matches!(affinity, Affinity::Source) {
        hash = mix(hash, key.outside);
    }
    if matches!(affinity, Affinity::Flow) {
        let rest =
            (key.inside_port as u64) << 32 | (key.outside_port as u64) << 16 | key.protocol as u64;
        hash = (hash ^ rest).wrapping_mul(FACTOR);
    }
    // The high bits depend on all bits below them. A multiplication spreads them over the slots like
    // a division would, and the kernel's verifier sees that the result is less than their number.
    let high = hash >> 32;
    ((high * SLOT_COUNT) >> 32) as usize
}

/// Odd, with its bits spread evenly (the golden ratio in 64 bits).
const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
const SEED: u64 = 0x2545_f491_4f6c_dd1d;

#[inline(always)]
fn mix(hash: u64, address: [u8; 16]) -> u64 {
    let [a, b, c, d, e, f, g, h, rest @ ..] = address;
    let first = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    let second = u64::from_ne_bytes(rest);
    let hash = (hash ^ first).wrapping_mul(FACTOR);
    // What the multiplication put into the high bits gets into the low ones, for the next.
    let hash = (hash ^ (hash >> 32) ^ second).wrapping_mul(FACTOR);
    hash ^ (hash >> 32)
}
