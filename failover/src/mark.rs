//! Our bits of packet and connection marks.
//!
//! The mask is one run of bits. Its top bit says "probe"; the bits below it hold an uplink's id.

use std::fmt;

use thiserror::Error;

use crate::uplink::UplinkId;

/// Which bits of a mark are ours. At least two bits in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkMask(u32);

/// Why a number is no mark mask.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidMarkMask {
    /// Fewer than two bits: none is left for an id beside the probe bit.
    #[error(
        "{found:#010x} has too few bits: at least 2 are needed, one for probes and one for the uplink's id"
    )]
    TooNarrow {
        /// What was found.
        found: u32,
    },
    /// The bits are not one run.
    #[error("{found:#010x} has holes: the bits must be one run, such as 0xff000000 or 0x00000f00")]
    Holes {
        /// What was found.
        found: u32,
    },
    /// More bits than ids exist for.
    #[error(
        "{found:#010x} has more than 8 bits: uplink ids go up to 127, more bits are taken from others for nothing"
    )]
    TooWide {
        /// What was found.
        found: u32,
    },
}

impl MarkMask {
    /// `0xff000000`, which none of the programs known to set marks uses.
    pub const DEFAULT: Self = Self(0xff00_0000);

    /// Takes a mask of 2 to 8 bits in one run.
    ///
    /// # Errors
    /// When the bits are too few, too many, or not one run.
    pub const fn new(bits: u32) -> Result<Self, InvalidMarkMask> {
        let width = bits.count_ones();
        if width < 2 {
            Err(InvalidMarkMask::TooNarrow { found: bits })
        } else if bits.leading_zeros() + width + bits.trailing_zeros() != 32 {
            Err(InvalidMarkMask::Holes { found: bits })
        } else if width > 8 {
            Err(InvalidMarkMask::TooWide { found: bits })
        } else {
            Ok(Self(bits))
        }
    }

    /// Our bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Everyone else's bits.
    #[must_use]
    pub const fn others(self) -> u32 {
        !self.0
    }

    /// The bit that says "probe".
    #[must_use]
    pub const fn probe_bit(self) -> u32 {
        1 << (31 - self.0.leading_zeros())
    }

    /// The largest id that fits, which is also how many uplinks fit.
    #[must_use]
    pub const fn max_id(self) -> u32 {
        (1 << (self.0.count_ones() - 1)) - 1
    }

    /// Whether an uplink of this id can be told by a mark.
    #[must_use]
    pub fn holds(self, id: UplinkId) -> bool {
        u32::from(id.get()) <= self.max_id()
    }

    /// The mark of an uplink's flows: its id in our bits, nothing elsewhere.
    #[must_use]
    pub fn flow(self, id: UplinkId) -> Mark {
        Mark(u32::from(id.get()) << self.0.trailing_zeros())
    }

    /// The mark of probes through an uplink.
    #[must_use]
    pub fn probe(self, id: UplinkId) -> Mark {
        Mark(self.flow(id).0 | self.probe_bit())
    }
}

impl fmt::Display for MarkMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

/// A value of our bits of a mark, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mark(pub u32);

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#010x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_mask_holds_127_uplinks() {
        let mask = MarkMask::DEFAULT;
        let id = UplinkId::try_from(127).unwrap();
        assert_eq!(mask.max_id(), 127);
        assert!(mask.holds(id));
        assert_eq!(mask.flow(id), Mark(0x7f00_0000));
        assert_eq!(mask.probe(id), Mark(0xff00_0000));
    }

    #[test]
    fn a_narrow_mask_in_the_middle_keeps_to_its_bits() {
        let mask = MarkMask::new(0x0000_0700).unwrap();
        let id = UplinkId::try_from(3).unwrap();
        assert_eq!(mask.max_id(), 3);
        assert_eq!(mask.probe_bit(), 0x400);
        assert_eq!(mask.probe(id), Mark(0x700));
        assert!(!mask.holds(UplinkId::try_from(4).unwrap()));
    }

    #[test]
    fn masks_that_cannot_work_are_refused() {
        assert!(matches!(
            MarkMask::new(0),
            Err(InvalidMarkMask::TooNarrow { .. })
        ));
        assert!(matches!(
            MarkMask::new(0x10),
            Err(InvalidMarkMask::TooNarrow { .. })
        ));
        assert!(matches!(
            MarkMask::new(0x0f0f_0000),
            Err(InvalidMarkMask::Holes { .. })
        ));
        assert!(matches!(
            MarkMask::new(0xffff_0000),
            Err(InvalidMarkMask::TooWide { .. })
        ));
    }
}
