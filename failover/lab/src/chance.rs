//! Random numbers for the lab's own choices, repeatable by their seed.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A sequence of random numbers.
#[derive(Clone, Debug)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The sequence of a seed.
    #[must_use]
    pub const fn from_seed(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A seed that differs from run to run.
    #[must_use]
    pub fn any_seed() -> u64 {
        // The standard library seeds its hashers from the system.
        RandomState::new().hash_one(0)
    }

    /// The next number: `SplitMix64`, as its authors published it into the public domain.
    pub const fn number(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.state;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number().checked_rem(limit).unwrap_or_default()
    }

    /// Whether something happens that does in so many of a hundred cases.
    pub fn percent(&mut self, cases: u64) -> bool {
        self.below(100) < cases
    }

    /// A reference to one of the things given; `None` if there are none.
    pub fn pick<'t, T>(&mut self, things: &'t [T]) -> Option<&'t T> {
        let index = self.below(u64::try_from(things.len()).ok()?);
        things.get(usize::try_from(index).ok()?)
    }

    /// One of the things given; `None` if there are none.
    pub fn one_of<T: Copy>(&mut self, things: &[T]) -> Option<T> {
        let count = u64::try_from(things.len()).ok()?;
        let index = self.number().checked_rem(count)?;
        things.get(usize::try_from(index).ok()?).copied()
    }

    /// A duration from nothing to `limit`, in whole microseconds.
    pub fn up_to(&mut self, limit: Duration) -> Duration {
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.number().checked_rem(micros).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_choices_and_all_of_them() {
        let draw = |seed| {
            let mut chance = Chance::from_seed(seed);
            let choices = (0..50).map(move |_| chance.one_of(&[1, 2, 3]));
            choices.collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        for wanted in [1, 2, 3] {
            assert!(draw(7).contains(&Some(wanted)));
        }
        assert_eq!(Chance::from_seed(1).one_of::<u8>(&[]), None);
    }

    #[test]
    fn a_phase_is_anywhere_below_the_limit() {
        let mut chance = Chance::from_seed(1);
        let limit = Duration::from_millis(500);
        let drawn: Vec<Duration> = (0..100).map(|_| chance.up_to(limit)).collect();
        assert!(drawn.iter().all(|phase| *phase < limit));
        assert!(drawn.iter().any(|phase| *phase < limit / 4));
        assert!(drawn.iter().any(|phase| *phase > limit * 3 / 4));
        assert_eq!(chance.up_to(Duration::ZERO), Duration::ZERO);
    }
}
