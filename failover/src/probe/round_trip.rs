//! When an answer is overdue: as TCP knows it of its own segments (RFC 6298).

use std::time::Duration;

/// The shortest time after which an answer is overdue.
const SOONEST: Duration = Duration::from_millis(100);
/// The least that is allowed for above the smoothed time (RFC 6298's G).
const GRANULARITY: Duration = Duration::from_millis(10);

/// The round-trip times of one target.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RoundTrip(Option<Smoothed>);

#[derive(Clone, Copy, Debug)]
struct Smoothed {
    time: Duration,
    variation: Duration,
}

impl RoundTrip {
    /// Takes in the time of an answer.
    pub(super) fn learn(&mut self, sample: Duration) {
        self.0 = Some(match self.0 {
            None => Smoothed {
                time: sample,
                variation: sample / 2,
            },
            Some(Smoothed { time, variation }) => Smoothed {
                time: time - time / 8 + sample / 8,
                variation: variation - variation / 4 + time.abs_diff(sample) / 4,
            },
        });
    }

    /// After which time an answer is overdue: at most `timeout`, which is also what counts before
    /// the first answer.
    pub(super) fn overdue_after(&self, timeout: Duration) -> Duration {
        let Some(Smoothed { time, variation }) = self.0 else {
            return timeout;
        };
        let allowed = variation.saturating_mul(4).max(GRANULARITY);
        time.saturating_add(allowed).max(SOONEST).min(timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    fn overdue_after(samples: impl IntoIterator<Item = u64>) -> Duration {
        let mut times = RoundTrip::default();
        for sample in samples {
            times.learn(Duration::from_millis(sample));
        }
        times.overdue_after(TIMEOUT)
    }

    #[test]
    fn nothing_is_overdue_before_the_timeout_as_long_as_nothing_has_answered() {
        assert_eq!(overdue_after([]), TIMEOUT);
    }

    #[test]
    fn a_near_target_is_given_a_tenth_of_a_second() {
        assert_eq!(overdue_after([4; 20]), SOONEST);
    }

    #[test]
    fn a_far_or_unsteady_one_is_given_more_and_never_more_than_the_timeout() {
        let far = overdue_after([300; 50]);
        assert!(
            far > Duration::from_millis(300) && far < Duration::from_millis(330),
            "{far:?}"
        );
        let unsteady = overdue_after([50, 250].repeat(20));
        assert!(unsteady > Duration::from_millis(350), "{unsteady:?}");
        assert_eq!(overdue_after([900; 3]), TIMEOUT);
    }
}
