//! Ports, as disjoint ranges.

use std::fmt;

/// Ports from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last, not before the first.
    pub last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self {
        first: 0,
        last: u16::MAX,
    };

    /// The largest blocks that make up the range, ascending: a port, and how many of its bits say
    /// where the block is (16: the port alone).
    pub fn blocks(self) -> impl Iterator<Item = (u16, u32)> {
        let mut next = Some(self.first);
        std::iter::from_fn(move || {
            let first = next.filter(|first| *first <= self.last)?;
            let count = u32::from(self.last - first) + 1;
            let free = first.trailing_zeros().min(count.ilog2());
            next = 1_u32
                .checked_shl(free)
                .and_then(|count| u16::try_from(u32::from(first) + count).ok());
            Some((first, 16 - free))
        })
    }
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

/// Any number of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortSet(Vec<PortRange>);

impl PortSet {
    /// All ports in any of these ranges.
    #[must_use]
    pub fn of(ranges: impl IntoIterator<Item = PortRange>) -> Self {
        let mut ranges: Vec<PortRange> = ranges.into_iter().collect();
        ranges.sort_unstable();
        let mut joined: Vec<PortRange> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match joined.last_mut() {
                Some(before) if range.first <= before.last.saturating_add(1) => {
                    before.last = before.last.max(range.last);
                }
                _ => joined.push(range),
            }
        }
        Self(joined)
    }

    /// The ranges, ascending; none touches another.
    pub fn ranges(&self) -> impl Iterator<Item = PortRange> {
        self.0.iter().copied()
    }

    /// Whether it has this port.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0
            .iter()
            .any(|range| (range.first..=range.last).contains(&port))
    }

    /// Whether it has all ports of another set.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        other.0.iter().all(|theirs| {
            let mut ours = self.0.iter();
            ours.any(|range| range.first <= theirs.first && theirs.last <= range.last)
        })
    }

    /// Whether the two have a port in common.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let mut pairs = self
            .0
            .iter()
            .flat_map(|one| other.0.iter().map(move |two| (one, two)));
        pairs.any(|(one, two)| one.first <= two.last && two.first <= one.last)
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

    #[test]
    fn a_range_is_made_of_the_fewest_blocks() {
        assert_eq!(PortRange::ALL.blocks().collect::<Vec<_>>(), [(0, 0)]);
        assert_eq!(
            range(1000, 1026).blocks().collect::<Vec<_>>(),
            [(1000, 13), (1008, 12), (1024, 15), (1026, 16)]
        );
        assert_eq!(
            range(65535, 65535).blocks().collect::<Vec<_>>(),
            [(65535, 16)]
        );
        assert_eq!(range(1, 65535).blocks().count(), 16);
    }
}
