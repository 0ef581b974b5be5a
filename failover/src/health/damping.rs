//! For how long an uplink that fails again and again is held back when it answers again.
//!
//! As with BGP's route flap damping (RFC 2439): each failure adds to a penalty, which doubles with
//! it, decays by half in a quarter of an hour, and is bounded. A first failure after a good while
//! costs nothing beyond the good rounds that the configuration asks for; a second one soon after it
//! costs a wait, a third one twice as much.
//!
//! It outlives the daemon: one that is started anew, or that crashed, has no reason to trust more.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What a failure leaves behind at least.
const FIRST: Duration = Duration::from_secs(60);
/// In which time half of it is forgotten.
const HALF_LIFE: Duration = Duration::from_secs(15 * 60);
/// A penalty that is not worth remembering.
const FORGOTTEN: Duration = Duration::from_secs(1);

/// The penalty of one uplink in one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damping {
    /// The longest wait; zero: there is none.
    most: Duration,
    /// The penalty as it was then.
    penalty: Duration,
    #[serde(with = "super::stored::moment_if_any")]
    as_of: Option<Instant>,
    /// Failures since it was last forgotten.
    failures: u32,
    /// How long it has to be good before it is trusted again.
    hold: Duration,
    /// Since when it is.
    #[serde(with = "super::stored::moment_if_any")]
    good_since: Option<Instant>,
}

/// A penalty as it is kept over a restart: moments of the clock that people read, since those of the
/// other one end with the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptDamping {
    /// The penalty as it was then, in milliseconds.
    penalty_ms: u64,
    as_of: Timestamp,
    failures: u32,
    /// How long it has to be good before it is trusted again, in milliseconds.
    hold_ms: u64,
    good_since: Option<Timestamp>,
}

/// That an uplink is held back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// For how much longer, if it goes on answering.
    pub left: Duration,
    /// How often it failed lately.
    pub failures: u32,
}

impl Damping {
    pub(super) const fn new(most: Duration) -> Self {
        Self {
            most,
            penalty: Duration::ZERO,
            as_of: None,
            failures: 0,
            hold: Duration::ZERO,
            good_since: None,
        }
    }

    /// The longest wait is another one; it holds at once.
    pub(super) fn set(&mut self, most: Duration) {
        self.most = most;
        self.hold = self.hold.min(most);
    }

    /// It failed.
    pub(super) fn failed(&mut self, now: Instant) {
        let before = self.penalty(now);
        if before < FORGOTTEN {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        self.hold = before.saturating_mul(2).min(self.most);
        self.penalty = self.hold.max(FIRST).min(self.most);
        self.as_of = Some(now);
        self.good_since = None;
    }

    /// It is good again.
    pub(super) const fn returned(&mut self, now: Instant) {
        self.good_since = Some(now);
    }

    /// Whether it is to be held back still.
    pub(super) fn hold(&self, now: Instant) -> Option<Hold> {
        let good_for = now.saturating_duration_since(self.good_since?);
        let left = self.hold.saturating_sub(good_for);
        (!left.is_zero()).then_some(Hold {
            left,
            failures: self.failures,
        })
    }

    /// Whether there is anything to answer for.
    #[must_use]
    pub const fn ever_failed(&self) -> bool {
        self.as_of.is_some()
    }

    /// What the next daemon has to know, told at a moment on both clocks; `None` when it never failed.
    #[must_use]
    pub fn kept(&self, now: Instant, wall: Timestamp) -> Option<KeptDamping> {
        let on_the_wall = |moment: Instant| {
            let ago = now.saturating_duration_since(moment);
            wall.checked_sub(ago).unwrap_or(wall)
        };
        Some(KeptDamping {
            penalty_ms: milliseconds(self.penalty),
            as_of: on_the_wall(self.as_of?),
            failures: self.failures,
            hold_ms: milliseconds(self.hold),
            good_since: self.good_since.map(on_the_wall),
        })
    }

    /// Goes on where an earlier daemon was. Whatever was kept, and whatever became of the clock since:
    /// no wait is longer than the longest, and a moment that is still to come is now.
    pub(super) fn resume(&mut self, kept: &KeptDamping, now: Instant, wall: Timestamp) {
        let moment = |kept: Timestamp| {
            let passed = Duration::try_from(wall.duration_since(kept)).unwrap_or_default();
            now.checked_sub(passed).unwrap_or(now)
        };
        self.penalty = Duration::from_millis(kept.penalty_ms).min(self.most);
        self.as_of = Some(moment(kept.as_of));
        self.failures = kept.failures;
        self.hold = Duration::from_millis(kept.hold_ms).min(self.most);
        self.good_since = kept.good_since.map(moment);
    }

    /// Trusts it at once, and forgets its failures.
    pub(super) const fn forgive(&mut self) {
        *self = Self::new(self.most);
    }

    /// What is left of the penalty.
    pub(super) fn penalty(&self, now: Instant) -> Duration {
        let Some(as_of) = self.as_of else {
            return Duration::ZERO;
        };
        let halves = now.saturating_duration_since(as_of).as_secs_f64() / HALF_LIFE.as_secs_f64();
        self.penalty.mul_f64((-halves).exp2())
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(30 * 60);
    const MINUTE: Duration = Duration::from_secs(60);

    /// Fails, is good again two seconds later, and is held back for as long as is returned.
    fn waits(damping: &mut Damping, now: Instant) -> Duration {
        damping.failed(now);
        let good = now + Duration::from_secs(2);
        damping.returned(good);
        damping.hold(good).map_or(Duration::ZERO, |hold| hold.left)
    }

    #[test]
    fn each_failure_waits_longer_up_to_a_bound() {
        let start = Instant::now();
        let mut damping = Damping::new(MOST);
        let mut last = waits(&mut damping, start);
        assert_eq!(last, Duration::ZERO);
        for failure in 1..=5 {
            let wait = waits(&mut damping, start + MINUTE * 4 * failure);
            assert!(
                wait > last.mul_f64(1.5) && wait < last.max(MINUTE) * 2,
                "{wait:?}"
            );
            last = wait;
        }
        for failure in 6..50 {
            last = waits(&mut damping, start + MINUTE * 4 * failure);
        }
        assert_eq!(last, MOST);
    }

    #[test]
    fn a_failure_is_forgotten_in_time() {
        let start = Instant::now();
        let mut damping = Damping::new(MOST);
        waits(&mut damping, start);
        let soon = waits(&mut damping.clone(), start + MINUTE);
        let late = waits(&mut damping.clone(), start + MINUTE * 60);
        let forgotten = waits(&mut damping, start + MINUTE * 60 * 24);
        assert!(soon > MINUTE + MINUTE / 2, "{soon:?}");
        assert!(late < Duration::from_secs(9), "{late:?}");
        assert_eq!(forgotten, Duration::ZERO);
    }

    #[test]
    fn the_wait_runs_while_it_is_good_and_may_be_remitted() {
        let start = Instant::now();
        let mut damping = Damping::new(MOST);
        waits(&mut damping, start);
        let wait = waits(&mut damping, start + MINUTE);
        let good = start + MINUTE + Duration::from_secs(2);
        let hold = damping.hold(good + wait / 2).unwrap();
        assert_eq!(hold.failures, 2);
        assert!(hold.left <= wait / 2);
        assert_eq!(damping.hold(good + wait), None);
        let mut forgiven = damping.clone();
        forgiven.forgive();
        assert_eq!(forgiven.hold(good), None);
        damping.set(Duration::ZERO);
        assert_eq!(damping.hold(good), None);
    }

    #[test]
    fn time_that_goes_backwards_or_jumps_does_no_harm() {
        let start = Instant::now() + MINUTE * 60;
        let mut damping = Damping::new(MOST);
        waits(&mut damping, start);
        waits(&mut damping, start - MINUTE * 30);
        assert!(damping.penalty(start - MINUTE * 59) <= MOST);
        assert!(damping.penalty(start + MINUTE * 60 * 24 * 365) < FORGOTTEN);
    }

    /// One that failed twice and is held back, and what is kept of it.
    fn held_back() -> (Damping, Instant, Timestamp, KeptDamping) {
        let start = Instant::now();
        let wall: Timestamp = "2026-11-21T12:00:00Z".parse().unwrap();
        let mut damping = Damping::new(MOST);
        waits(&mut damping, start);
        waits(&mut damping, start + MINUTE);
        let (now, wall) = (start + MINUTE * 2, wall + MINUTE * 2);
        let kept = damping.kept(now, wall).unwrap();
        (damping, now, wall, kept)
    }

    #[test]
    fn another_process_goes_on_where_this_one_was() {
        let (damping, now, wall, kept) = held_back();
        let text = serde_json::to_string(&kept).unwrap();
        let kept: KeptDamping = serde_json::from_str(&text).unwrap();
        // Its clock for deciding began at another moment.
        let there = now + MINUTE * 12345;
        let mut other = Damping::new(MOST);
        other.resume(&kept, there + MINUTE / 2, wall + MINUTE / 2);
        let (before, after) = (
            damping.hold(now + MINUTE / 2).unwrap(),
            other.hold(there + MINUTE / 2).unwrap(),
        );
        assert_eq!(before.failures, after.failures);
        assert!(before.left.abs_diff(after.left) < Duration::from_millis(10));
        let penalties = (
            damping.penalty(now + MINUTE * 20),
            other.penalty(there + MINUTE * 20),
        );
        assert!(penalties.0.abs_diff(penalties.1) < Duration::from_millis(10));
        assert_eq!(Damping::new(MOST).kept(now, wall), None);
    }

    #[test]
    fn a_clock_that_jumped_makes_no_wait_longer_than_the_longest() {
        let (_, now, wall, kept) = held_back();
        let mut most = Duration::from_secs(30);
        for jump in [-20, -1, 1, 20] {
            let mut other = Damping::new(most);
            other.resume(
                &kept,
                now,
                wall + jiff::SignedDuration::from_hours(24 * 365 * jump),
            );
            assert!(other.hold(now).is_none_or(|hold| hold.left <= most));
            assert!(other.penalty(now) <= most);
            assert_eq!(other.hold(now).is_some(), jump < 0, "{jump}");
            most /= 2;
        }
        let mut off = Damping::new(Duration::ZERO);
        off.resume(&kept, now, wall);
        assert_eq!(off.hold(now), None);
    }
}
