//! When the service manager is to hear that the daemon lives.

use std::time::{Duration, Instant};

/// Parts of the time after which it takes the daemon for hung. In the longest single piece of work,
/// which is half of that time in our unit, one sign may be missed.
const PARTS: u32 = 4;

/// The moments of the signs of life.
#[derive(Debug)]
pub(super) struct Watchdog {
    every: Duration,
    last: Option<Instant>,
}

impl Watchdog {
    /// For a manager that waits so long for a sign.
    pub(super) fn new(patience: Duration) -> Self {
        Self {
            every: patience / PARTS,
            last: None,
        }
    }

    /// Whether a sign is due, which is given then.
    pub(super) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next().is_none_or(|next| next <= now);
        if due {
            self.last = Some(now);
        }
        due
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.last.map(|last| last + self.every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_are_given_several_times_within_the_managers_patience() {
        let mut watchdog = Watchdog::new(Duration::from_secs(60));
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        assert!(watchdog.is_due(at(0)));
        assert_eq!(watchdog.next(), Some(at(15)));
        assert!(!watchdog.is_due(at(14)));
        assert!(watchdog.is_due(at(20)), "whenever the loop gets there");
        assert_eq!(watchdog.next(), Some(at(35)));
    }
}
