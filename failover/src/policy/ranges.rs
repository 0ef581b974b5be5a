//! Sets of numbers, such as addresses or ports, as disjoint ranges.

/// A number of which there are ranges.
pub trait Number: Copy + Ord + Into<u128> {
    /// The next one; of the last one, itself.
    #[must_use]
    fn next(self) -> Self;
}

impl Number for u16 {
    fn next(self) -> Self {
        self.saturating_add(1)
    }
}

impl Number for u128 {
    fn next(self) -> Self {
        self.saturating_add(1)
    }
}

/// Numbers from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Range<N> {
    /// The first.
    pub first: N,
    /// The last, not before the first.
    pub last: N,
}

impl<N: Number> Range<N> {
    /// The largest blocks that make up the range, ascending: the first number of each, and how many of
    /// its `bits` say where the block is, where all of them say that it is this number alone.
    pub(super) fn blocks_of(self, bits: u32) -> impl Iterator<Item = (u128, u32)> {
        let (first, last): (u128, u128) = (self.first.into(), self.last.into());
        let mut next = Some(first);
        std::iter::from_fn(move || {
            let first = next.filter(|first| *first <= last)?;
            // As large as the first number allows, and as large as fits.
            let aligned = first.trailing_zeros().min(bits);
            let fits = match (last - first).checked_add(1) {
                Some(count) => count.ilog2(),
                None => u128::BITS,
            };
            let free = aligned.min(fits);
            next = 1_u128
                .checked_shl(free)
                .and_then(|count| first.checked_add(count));
            Some((first, bits - free))
        })
    }
}

/// Any numbers, as ranges: ascending, none touches another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ranges<N>(Vec<Range<N>>);

impl<N> Default for Ranges<N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<N> Ranges<N> {
    /// Whether it has no number.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many ranges it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }
}

impl<N: Number> Ranges<N> {
    /// All numbers in any of these ranges.
    #[must_use]
    pub fn of(ranges: impl IntoIterator<Item = Range<N>>) -> Self {
        let mut ranges: Vec<Range<N>> = ranges.into_iter().collect();
        ranges.sort_unstable();
        let mut joined: Vec<Range<N>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match joined.last_mut() {
                Some(before) if range.first <= before.last.next() => {
                    before.last = before.last.max(range.last);
                }
                _ => joined.push(range),
            }
        }
        Self(joined)
    }

    /// The ranges.
    pub fn ranges(&self) -> impl Iterator<Item = Range<N>> {
        self.0.iter().copied()
    }

    /// The range that begins last of those that do not begin behind a number.
    fn before(&self, number: N) -> Option<&Range<N>> {
        let behind = self.0.partition_point(|range| range.first <= number);
        self.0.get(behind.checked_sub(1)?)
    }

    /// Whether it has this number.
    #[must_use]
    pub fn contains(&self, number: N) -> bool {
        let before = self.before(number);
        before.is_some_and(|range| number <= range.last)
    }

    /// Whether it has all numbers of another set.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        // Ranges never touch: what is covered is covered by one of them.
        other.0.iter().all(|theirs| {
            let before = self.before(theirs.first);
            before.is_some_and(|range| theirs.last <= range.last)
        })
    }

    /// Whether the two have a number in common.
    #[must_use]
    pub fn meets(&self, other: &Self) -> bool {
        let (mut ours, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        while let (Some(one), Some(two)) = (ours.peek(), theirs.peek()) {
            if one.last < two.first {
                ours.next();
            } else if two.last < one.first {
                theirs.next();
            } else {
                return true;
            }
        }
        false
    }
}
