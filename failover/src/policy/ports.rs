//! Ports, as disjoint ranges.

use std::fmt;

use super::ranges::{Range, Ranges};

/// Ports from one to another, both included.
pub type PortRange = Range<u16>;

/// Any number of ports.
pub type PortSet = Ranges<u16>;

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self {
        first: 0,
        last: u16::MAX,
    };
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn range(first: u16, last: u16) -> PortRange {
        PortRange { first, last }
    }

    #[test]
    fn ports_are_joined_found_and_compared() {
        let set = PortSet::of([
            range(80, 80),
            range(1000, 1999),
            range(81, 90),
            range(1500, 2500),
        ]);
        assert_eq!(
            set.ranges().collect::<Vec<_>>(),
            [range(80, 90), range(1000, 2500)]
        );
        assert!(set.contains(90) && set.contains(2500));
        assert!(!set.contains(91) && !set.contains(999));
        assert!(set.covers(&PortSet::of([range(85, 86)])));
        assert!(!set.covers(&PortSet::of([range(85, 91)])));
        assert!(set.meets(&PortSet::of([range(85, 91)])));
        assert!(!set.meets(&PortSet::of([range(91, 999)])));
    }
}
