//! Rules: which of them a packet matches, by bitmaps.
//!
//! Each rule has a bit. What a packet says of itself is looked up, once for each kind of condition
//! that any rule has; each answer is the rules whose condition of that kind holds, or that have none.
//! The lowest bit that all of them have is the first rule that matches (Lakshman and Stiliadis, SIGCOMM
//! 1998). So the number of rules costs next to nothing.
//!
//! The values of a kind are a [`Line`] that is cut where the rules that hold change. The pieces of a
//! line are found by their first values, which are a B-tree without pointers: a node is two cache
//! lines, eight values. Trees and bitmaps are blocks of one array, which is made for one rule set.
//!
//! There are two generations of rule sets: one that decides, and one that is being written.

#[cfg(feature = "user")]
use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

/// How many rules there may be.
pub const MOST_RULES: u16 = 1024;
/// The words of a bitmap.
pub const WORDS: usize = MOST_RULES as usize / 64;
/// How many different masks there may be in the rules' conditions on marks.
pub const MOST_MASKS: usize = 4;
/// The number of the block that is the bitmap of no rule.
pub const NO_RULE: u32 = 0;
/// How many generations there are.
pub const GENERATIONS: u32 = 2;

/// A part of what is looked up. One of these:
///
/// - the first values of eight pieces, or of the first pieces below eight nodes, in network order;
/// - for 32 pieces the number of the block that is their bitmap, as [`bitmap_number`] reads it;
/// - a bitmap, with a bit for each rule: that of rule 0 is the lowest of the first word.
///
/// No structure: Linux 6.1 takes an array of these for another kind of array than the programs know if
/// these know a structure from BTF and it does not.
pub type Block = [u64; WORDS];

/// How many values a node has, as a power of two.
const NODE_BITS: u32 = 3;
/// How many values a node has.
pub const NODE: usize = 1 << NODE_BITS;
/// How many pieces share a block with the numbers of their bitmaps, as a power of two.
const NUMBERS_BITS: u32 = 5;
/// How many pieces share a block with the numbers of their bitmaps.
pub const NUMBERS: usize = 1 << NUMBERS_BITS;
const _: () = assert!(NODE * 16 == size_of::<Block>() && NUMBERS * 4 == size_of::<Block>());
/// How many levels a tree has at most: enough for 16 million pieces.
pub const MOST_LEVELS: u32 = 8;

/// The values of a kind of condition. They have 16 bytes, from the first on; what a value leaves is
/// zero.
///
/// The blocks of the tree follow each other level by level, from the root; then come those with the
/// numbers of the bitmaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
#[repr(C)]
pub struct Line {
    /// The root.
    pub root: u32,
    /// The number of the last piece.
    pub last: u32,
    /// The levels of the tree; 0: no rule has a condition of this kind.
    pub levels: u32,
}

impl Line {
    /// A line of so many pieces.
    #[must_use]
    pub const fn new(root: u32, pieces: u32) -> Self {
        let last = pieces.saturating_sub(1);
        let mut levels = 1;
        while last >> (NODE_BITS * levels) != 0 && levels < MOST_LEVELS {
            levels += 1;
        }
        Self { root, last, levels }
    }

    /// Whether some rule has a condition of this kind.
    #[must_use]
    #[inline(always)]
    pub const fn is_asked(&self) -> bool {
        self.levels != 0
    }

    /// The number of the block with the bitmap of a value, of which `high` are the first eight bytes as
    /// a number. The largest value of all, which is no host's address, is taken for the one before it.
    ///
    /// `bit` gives back the 0 or 1 that it is given, in a way that hides from the compiler what that is: it
    /// makes branches of what has none here, and the kernel's verifier follows both ways of each.
    #[must_use]
    #[inline(always)]
    pub fn find<'b>(
        &self,
        block: impl Fn(u32) -> Option<&'b Block>,
        bit: impl Fn(u64) -> u32,
        [high, low]: [u64; 2],
    ) -> Option<u32> {
        let low = low.wrapping_sub(is_all_ones(high & low));
        let mut at = self.root;
        let mut piece = 0_u32;
        let mut bits = NODE_BITS * self.levels;
        // The verifier sees the end of a loop that counts.
        for _ in 0..MOST_LEVELS {
            if bits == 0 {
                break;
            }
            let node = block(at.wrapping_add(piece))?;
            piece = (piece << NODE_BITS) | child(node, &bit, high, low);
            at = at.wrapping_add((self.last >> (bits & 31)) + 1);
            bits = bits.wrapping_sub(NODE_BITS);
        }
        let numbers = block(at.wrapping_add(piece >> NUMBERS_BITS))?;
        bitmap_number(numbers, piece)
    }
}

/// The number of the block that is a piece's bitmap. Each word has two, the lower one first.
#[must_use]
#[inline(always)]
pub fn bitmap_number(numbers: &Block, piece: u32) -> Option<u32> {
    let place = piece as usize & (NUMBERS - 1);
    let word = numbers.get(place / 2)?;
    Some((*word >> (place % 2 * 32) & 0xffff_ffff) as u32)
}

/// The place of the last value of a node that is not beyond a value. The first one never is.
#[inline(always)]
fn child(node: &Block, bit: &impl Fn(u64) -> u32, high: u64, low: u64) -> u32 {
    let mut place = 0_u32;
    for half in [2, 1, 0] {
        let middle = place | 1 << half;
        let number = |part: u32| {
            let word = node.get((2 * middle + part) as usize & (WORDS - 1));
            u64::from_be(word.copied().unwrap_or_default())
        };
        // The difference carries where the value is this one or beyond it.
        let carried = carry(low, !number(1), 1);
        place |= bit(carry(high, !number(0), carried)) << half;
    }
    place
}

/// What `one + other + carried` carries, 0 or 1.
#[inline(always)]
const fn carry(one: u64, other: u64, carried: u64) -> u64 {
    let sum = one.wrapping_add(other).wrapping_add(carried);
    ((one & other) | ((one | other) & !sum)) >> 63
}

/// 1 for a number of ones alone, otherwise 0.
#[inline(always)]
const fn is_all_ones(number: u64) -> u64 {
    ((!number).wrapping_sub(1) & number) >> 63
}

/// A line for each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
#[repr(C)]
pub struct AddressLines {
    /// IPv4.
    pub ipv4: Line,
    /// IPv6.
    pub ipv6: Line,
}

/// The kinds of conditions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
#[repr(C)]
pub struct Lines {
    /// The address that a packet comes from.
    pub source: AddressLines,
    /// The address that it goes to.
    pub destination: AddressLines,
    /// Its protocol, and then the port that it goes to, 0 where the protocol has no ports.
    pub service: Line,
    /// The port that it comes from.
    pub source_port: Line,
    /// The number of the downlink that it came in by.
    pub downlink: Line,
    /// Its code point.
    pub dscp: Line,
    /// A zero and the hardware address that it comes from; a one where it has none.
    pub mac: Line,
    /// The bits of its mark under each of the masks.
    pub mark: [Line; MOST_MASKS],
}

/// The rule set that decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
#[repr(C)]
pub struct RuleSet {
    /// What tells this rule set from others: the daemon's own.
    pub fingerprint: u64,
    /// 0 or 1.
    pub generation: u8,
    /// The words of bitmaps that have rules; 0: there is no rule.
    pub words: u8,
    /// Zero.
    pub reserved: [u8; 2],
    /// The block that is the bitmap of all rules.
    pub all: u32,
    /// The masks of conditions on marks.
    pub mask: [u32; MOST_MASKS],
    /// What is looked up.
    pub lines: Lines,
    /// Zero.
    pub padding: u32,
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
