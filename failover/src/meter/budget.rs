//! How often may be asked for what is left of a day's budget.
//!
//! What is left is spread over what is left of the day. So a budget that is too small for the pace
//! that is wanted makes probes rarer all day long, and never stops them: an uplink that nobody asks
//! is one of which nobody knows whether it works.

use std::time::Duration;

/// From one round to the next, at most, of an uplink in use: what users notice is found out within
/// this time whatever it costs.
pub const LONGEST_IN_USE: Duration = Duration::from_secs(60);

/// The same of one that nobody uses.
pub const LONGEST_IDLE: Duration = Duration::from_secs(10 * 60);

/// What may be spent, and on what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread {
    /// What is left, in bytes.
    pub left: u64,
    /// Until when that is to last.
    pub rest: Duration,
    /// What a round of all families costs, in bytes; zero where nobody knows.
    pub round: u64,
}

impl Spread {
    /// From one round to the next, so that what is left lasts: `wanted`, or longer up to `longest`.
    #[must_use]
    pub fn interval(&self, wanted: Duration, longest: Duration) -> Duration {
        let longest = longest.max(wanted);
        if self.left == 0 {
            return longest;
        }
        let Some(rounds) = self.left.checked_div(self.round) else {
            return wanted;
        };
        let rest = u64::try_from(self.rest.as_millis()).unwrap_or(u64::MAX);
        rest.checked_div(rounds)
            .map_or(longest, Duration::from_millis)
            .clamp(wanted, longest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const DAY: Duration = Duration::from_secs(24 * 3600);
    const MINUTE: Duration = Duration::from_secs(60);

    /// What a day costs in which the interval is decided each minute, and the intervals of its
    /// hours. In `trouble` full rate is needed.
    fn a_day(
        budget: u64,
        wanted: Duration,
        longest: Duration,
        trouble: impl Fn(u64) -> bool,
    ) -> (u64, Vec<Duration>) {
        const ROUND: u64 = 432;
        let (mut spent, mut due, mut hours) = (0_u64, Duration::ZERO, Vec::new());
        for minute in 0..24 * 60 {
            let now = MINUTE * u32::try_from(minute).unwrap();
            let spread = Spread {
                left: budget.saturating_sub(spent),
                rest: DAY - now,
                round: ROUND,
            };
            let spread = spread.interval(wanted, longest);
            let interval = if trouble(minute) { SECOND / 2 } else { spread };
            if minute % 60 == 0 {
                hours.push(spread);
            }
            due = due.min(now + interval).max(now);
            while due < now + MINUTE {
                spent += ROUND;
                due += interval;
            }
        }
        (spent, hours)
    }

    #[test]
    fn a_budget_that_is_enough_changes_nothing() {
        let (spent, hours) = a_day(10_000_000, SECOND * 5, LONGEST_IN_USE, |_| false);
        assert!(hours.iter().all(|interval| *interval == SECOND * 5));
        assert_eq!(spent, 24 * 3600 / 5 * 432);
    }

    #[test]
    fn a_small_one_is_spread_over_the_whole_day_and_not_exceeded() {
        let (spent, hours) = a_day(1_000_000, SECOND * 5, LONGEST_IN_USE, |_| false);
        assert!((990_000..=1_000_500).contains(&spent), "{spent}");
        for interval in hours {
            assert!(
                interval > SECOND * 35 && interval < SECOND * 40,
                "{interval:?}"
            );
        }
    }

    #[test]
    fn one_that_is_far_too_small_leaves_an_eye_open() {
        for (longest, least) in [(LONGEST_IN_USE, 1440), (LONGEST_IDLE, 144)] {
            let (spent, hours) = a_day(10_000, SECOND * 30, longest, |_| false);
            assert!(hours.iter().all(|interval| *interval <= longest));
            assert!(spent / 432 >= least, "{}", spent / 432);
            assert!(spent / 432 <= least + 2, "{}", spent / 432);
        }
    }

    #[test]
    fn what_a_doubt_costs_is_saved_afterwards() {
        let trouble = |minute| (600..660).contains(&minute);
        let (spent, hours) = a_day(8_000_000, SECOND * 5, LONGEST_IN_USE, trouble);
        assert!((7_900_000..=8_001_000).contains(&spent), "{spent}");
        let (before, after) = (hours.get(9).unwrap(), hours.get(12).unwrap());
        assert_eq!(*before, SECOND * 5);
        assert!(*after > SECOND * 8 && *after < SECOND * 12, "{after:?}");
    }

    #[test]
    fn nothing_is_asked_more_often_than_is_wanted() {
        for (left, rest, round) in [(1, DAY, 0), (u64::MAX, DAY, 1), (100, Duration::ZERO, 1)] {
            let spread = Spread { left, rest, round };
            for wanted in [SECOND, LONGEST_IDLE * 2] {
                assert_eq!(spread.interval(wanted, LONGEST_IDLE), wanted, "{spread:?}");
            }
        }
    }
}
