//! How measured durations are distributed.

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::terminal::Short;

/// Minimum, median, 90th percentile and maximum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Distribution {
    /// The shortest.
    #[serde(serialize_with = "milliseconds")]
    pub min: Duration,
    /// Half are shorter and half are longer; of an even number the mean of the two in the middle.
    #[serde(serialize_with = "milliseconds")]
    pub median: Duration,
    /// The shortest that nine of ten do not exceed.
    #[serde(serialize_with = "milliseconds")]
    pub p90: Duration,
    /// The longest.
    #[serde(serialize_with = "milliseconds")]
    pub max: Duration,
}

impl Distribution {
    /// `None` if there are no values.
    #[must_use]
    pub fn of(values: &[Duration]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_unstable();
        let count = sorted.len();
        let at = |index: usize| sorted.get(index).copied();
        let lower = at(count.checked_sub(1)? / 2)?;
        let upper = at(count / 2)?;
        // The nearest rank: ninety percent of the count, rounded up, counted from 1.
        let p90 = at((count * 9).div_ceil(10).checked_sub(1)?)?;
        Some(Self {
            min: at(0)?,
            median: (lower + upper) / 2,
            p90,
            max: at(count - 1)?,
        })
    }
}

pub(super) fn milliseconds<S: serde::Serializer>(
    duration: &Duration,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64() * 1e3)
}

/// How many values fall into each of some classes of equal width; shown as a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    /// Where the first class begins.
    begin: Duration,
    /// The width of a class.
    step: Duration,
    counts: Vec<usize>,
}

/// Widths that a person can add up.
const STEPS_MS: [u64; 16] = [
    1, 2, 5, 10, 20, 50, 100, 200, 250, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000,
];
/// The most classes.
const CLASSES: u128 = 10;

impl Histogram {
    /// Classes of a round width, ten at most, from the shortest value to the longest.
    #[must_use]
    pub fn of(values: &[Duration]) -> Self {
        let nanos = |step: u64| u128::from(step) * 1_000_000;
        let min = values.iter().min().map_or(0, Duration::as_nanos);
        let max = values.iter().max().map_or(0, Duration::as_nanos);
        let classes = |step: u64| max / nanos(step) - min / nanos(step) + 1;
        let step = STEPS_MS
            .into_iter()
            .find(|step| classes(*step) <= CLASSES)
            .unwrap_or(u64::MAX / 1_000_000);
        let first = min / nanos(step);
        let class = |value: &Duration| value.as_nanos() / nanos(step) - first;
        let counts = (0..classes(step).min(CLASSES))
            .map(|number| values.iter().filter(|value| class(value) == number).count());
        Self {
            begin: Duration::from_millis(
                u64::try_from(first)
                    .unwrap_or(u64::MAX)
                    .saturating_mul(step),
            ),
            step: Duration::from_millis(step),
            counts: counts.collect(),
        }
    }
}

impl fmt::Display for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut low = self.begin;
        for count in &self.counts {
            let high = low + self.step;
            let bar = "█".repeat(*count);
            let line = format!("{:>7} to {:>7}  {bar}", Short(low), Short(high));
            writeln!(f, "{}", line.trim_end())?;
            low = high;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(values: &[u64]) -> Vec<Duration> {
        values.iter().copied().map(Duration::from_millis).collect()
    }

    #[test]
    fn figures_of_an_even_number() {
        let values: Vec<u64> = (1..=20).rev().collect();
        let found = Distribution::of(&millis(&values)).expect("there are values");
        assert_eq!(found.min, Duration::from_millis(1));
        assert_eq!(found.median, Duration::from_micros(10_500));
        assert_eq!(found.p90, Duration::from_millis(18));
        assert_eq!(found.max, Duration::from_millis(20));
    }

    #[test]
    fn figures_of_one_and_of_none() {
        let one = Distribution::of(&millis(&[7])).expect("there is a value");
        let seven = Duration::from_millis(7);
        assert_eq!(
            (one.min, one.median, one.p90, one.max),
            (seven, seven, seven, seven)
        );
        assert_eq!(Distribution::of(&[]), None);
    }

    #[test]
    fn classes_are_round_and_hold_every_value() {
        let histogram = Histogram::of(&millis(&[2010, 2090, 2110, 2290]));
        assert_eq!(
            histogram.to_string().lines().collect::<Vec<_>>(),
            [
                " 2.00 s to  2.05 s  █",
                " 2.05 s to  2.10 s  █",
                " 2.10 s to  2.15 s  █",
                " 2.15 s to  2.20 s",
                " 2.20 s to  2.25 s",
                " 2.25 s to  2.30 s  █",
            ]
        );
    }

    #[test]
    fn values_that_are_all_alike_are_one_class() {
        let histogram = Histogram::of(&millis(&[30, 30, 30]));
        assert_eq!(histogram.counts, [3]);
        assert_eq!(Histogram::of(&[]).counts, [0]);
    }
}
