//! Medians, and how far apart what was measured is.

use serde::Serialize;

/// What several rounds found.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// Half are less and half are more; of an even number the mean of the two in the middle.
    pub median: f64,
    /// The most.
    pub max: f64,
}

impl Spread {
    /// `None` if there are no values.
    #[must_use]
    pub fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        Some(Self {
            min: *sorted.first()?,
            median: median(values)?,
            max: *sorted.last()?,
        })
    }
}

/// How many times the lower the upper quartile is: what a few rounds that are far off do not change.
#[must_use]
pub(super) fn unrest(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let last = sorted.len().checked_sub(1)?;
    let (lower, upper) = (sorted.get(last / 4)?, sorted.get(last - last / 4)?);
    Some(upper / lower)
}

/// Between which values the middle of ever more such values would lie, 19 times of 20: the order of
/// those there are, each of which is above or below it by the toss of a coin.
#[must_use]
pub(super) fn middle_between(values: &[f64]) -> Option<(f64, f64)> {
    let sorted = sorted(values);
    let number = sorted.len();
    // 1.96 standard deviations of so many tosses, each of half a value.
    let chance = |outside: &usize| (number - 2 * outside).pow(2) * 100 >= number * 384;
    let outside = (0..=number / 2).take_while(chance).last().unwrap_or(0);
    let last = sorted.len().checked_sub(1)?;
    Some((*sorted.get(outside)?, *sorted.get(last - outside)?))
}

/// The value in the middle.
#[must_use]
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values);
    let at = |index: usize| sorted.get(index).copied();
    let lower = at(sorted.len().checked_sub(1)? / 2)?;
    let upper = at(sorted.len() / 2)?;
    Some(f64::midpoint(lower, upper))
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_values_the_less_the_middle_is_between() {
        let values = |number: u32| (1..=number).map(f64::from).collect::<Vec<_>>();
        assert_eq!(middle_between(&[]), None);
        assert_eq!(middle_between(&values(1)), Some((1.0, 1.0)));
        assert_eq!(middle_between(&values(5)), Some((1.0, 5.0)));
        assert_eq!(middle_between(&values(15)), Some((4.0, 12.0)));
        assert_eq!(middle_between(&values(100)), Some((41.0, 60.0)));
    }

    #[test]
    fn the_middle_of_odd_and_even_numbers() {
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), Some(3.0));
        assert_eq!(median(&[]), None);
    }

    #[test]
    fn a_few_that_are_far_off_are_no_unrest() {
        let calm = [
            100.0, 100.0, 110.0, 105.0, 105.0, 100.0, 105.0, 100.0, 900.0,
        ];
        assert_eq!(unrest(&calm), Some(1.05));
        assert_eq!(
            unrest(&[650.0, 1100.0, 650.0, 1100.0, 650.0]),
            Some(1100.0 / 650.0)
        );
        assert_eq!(unrest(&[]), None);
    }

    #[test]
    fn one_that_is_far_off_moves_the_spread_and_not_the_median() {
        let found = Spread::of(&[100.0, 101.0, 99.0, 5000.0, 98.0]).expect("there are values");
        assert_eq!((found.min, found.median, found.max), (98.0, 100.0, 5000.0));
        assert_eq!(Spread::of(&[]), None);
    }
}
