//! Rules: which of them a packet matches, by bitmaps.
//!
//! Each rule has a bit. What a packet says of itself is looked up in one trie, one lookup for each
//! kind of condition that any rule has; each gives the rules whose condition of that kind holds, or
//! that have none. The lowest bit that all of them have is the first rule that matches (Lakshman and
//! Stiliadis, SIGCOMM 1998). So the number of rules costs next to nothing.
//!
//! There are two generations of everything: one that decides, and one that is being written.

#[cfg(feature = "user")]
use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

/// How many rules there may be.
pub const MOST_RULES: u16 = 1024;
/// The words of a bitmap.
pub const WORDS: usize = MOST_RULES as usize / 64;
/// How many different masks there may be in the rules' conditions on marks.
pub const MOST_MASKS: usize = 4;
/// How many generations there are.
pub const GENERATIONS: u32 = 2;

/// A bit for each rule: that of rule 0 is the lowest of the first word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
#[repr(C)]
pub struct Bitmap(pub [u64; WORDS]);

/// The kinds of conditions.
pub mod kind {
    /// None: all rules.
    pub const ANY: u8 = 0;
    /// The address that a packet comes from.
    pub const SOURCE: u8 = 1;
    /// The address that it goes to.
    pub const DESTINATION: u8 = 2;
    /// Its protocol, and the port that it goes to.
    pub const SERVICE: u8 = 3;
    /// The port that it comes from.
    pub const SOURCE_PORT: u8 = 4;
    /// The downlink that it came in by.
    pub const DOWNLINK: u8 = 5;
    /// Its code point.
    pub const DSCP: u8 = 6;
    /// The hardware address that it comes from.
    pub const MAC: u8 = 7;
    /// Its mark, under each of the masks.
    pub const MARK: u8 = 8;
}

/// What is looked up: the generation, the kind of condition, a selector, and the value, from the
/// first byte on. What the value leaves is zero. Each generation has an entry for each kind alone,
/// with the rules that have no condition of that kind; [`kind::ANY`] has all rules.
///
/// | kind | selector | value |
/// | --- | --- | --- |
/// | source, destination | 4 or 6, the family | the address in network order |
/// | service | the protocol | the port, big-endian, where the protocol has ports |
/// | source port | 0 | the port, big-endian |
/// | downlink | 0 | its number, big-endian |
/// | DSCP | 0 | the code point |
/// | hardware address | 0; 1 where a packet has none | the address |
/// | mark | the position of the mask | the bits under it, big-endian |
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct Condition {
    /// 0 or 1.
    pub generation: u8,
    /// One of [`kind`].
    pub kind: u8,
    /// As in the table.
    pub selector: u8,
    /// Zero.
    pub reserved: u8,
    /// As in the table.
    pub value: [u8; 16],
    /// Zero: what the kernel keeps behind a key is aligned then.
    pub padding: [u8; 4],
}

/// The bits of a [`Condition`] that say generation and kind.
pub const KIND_BITS: u32 = 16;
/// The bits before the value.
pub const VALUE_AT: u32 = 32;

/// The rule set that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct RuleSet {
    /// What tells this rule set from others: the daemon's own.
    pub fingerprint: u64,
    /// A bit for each kind of condition that some rule has.
    pub kinds: u16,
    /// 0 or 1.
    pub generation: u8,
    /// The words of bitmaps that have rules; 0: there is no rule.
    pub words: u8,
    /// How many masks there are.
    pub masks: u8,
    /// Zero.
    pub reserved: [u8; 3],
    /// The masks of conditions on marks.
    pub mask: [u32; MOST_MASKS],
}

impl RuleSet {
    /// Whether some rule has a condition of a kind.
    #[must_use]
    #[inline(always)]
    pub const fn has(&self, kind: u8) -> bool {
        self.kinds & 1 << (kind & 15) != 0
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct Action {
    /// Its pool, 1 and above.
    pub pool: u16,
    /// What becomes of a flow while the pool has no selection.
    pub otherwise: Otherwise,
    /// Zero.
    pub reserved: u8,
}

/// What becomes of a flow whose rule has no usable uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(u8)]
pub enum Otherwise {
    /// It goes where all go that no rule names.
    Any = 0,
    /// It is dropped.
    Drop = 1,
}

/// The position of a rule's action in the map of actions.
#[must_use]
#[inline(always)]
pub const fn action_index(generation: u8, rule: u16) -> u32 {
    generation as u32 * MOST_RULES as u32 + rule as u32
}
