//! When what the kernel refused is tried again.

use std::time::{Duration, Instant};

/// The first and the longest wait.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// When a failed change is tried again, and how long the next wait is.
#[derive(Debug)]
pub(super) struct Retry {
    at: Option<Instant>,
    wait: Duration,
}

impl Retry {
    /// Nothing has failed.
    pub(super) const fn new() -> Self {
        Self {
            at: None,
            wait: WAIT.0,
        }
    }

    /// The change failed, perhaps once more: it waits longer each time.
    pub(super) fn failed(&mut self, now: Instant) {
        self.at = Some(now + self.wait);
        self.wait = (self.wait * 2).min(WAIT.1);
    }

    /// The change succeeded, or is no longer wanted.
    pub(super) const fn settled(&mut self) {
        *self = Self::new();
    }

    /// The network is another one than that in which the change failed: it is tried again then at the
    /// latest.
    pub(super) fn hasten(&mut self, then: Instant) {
        if let Some(at) = &mut self.at {
            *at = then.min(*at);
            self.wait = WAIT.0;
        }
    }

    /// Whether the change waits for its time.
    pub(super) const fn is_waiting(&self) -> bool {
        self.at.is_some()
    }

    /// When its time comes.
    pub(super) const fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Its time has come: it waits no more.
    pub(super) fn begin(&mut self, now: Instant) {
        self.at.take_if(|at| *at <= now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(retry: &mut Retry, now: Instant) -> u64 {
        retry.failed(now);
        let wait = retry.at().unwrap() - now;
        retry.begin(now + wait);
        assert!(!retry.is_waiting());
        wait.as_secs()
    }

    #[test]
    fn what_fails_again_waits_longer_until_it_succeeds() {
        let now = Instant::now();
        let mut retry = Retry::new();
        let seen: Vec<u64> = (0..7).map(|_| waits(&mut retry, now)).collect();
        assert_eq!(seen, [1, 2, 4, 8, 16, 30, 30]);
        retry.settled();
        assert_eq!(waits(&mut retry, now), 1);
    }

    #[test]
    fn a_change_of_the_network_ends_the_wait() {
        let now = Instant::now();
        let soon = now + Duration::from_millis(15);
        let mut retry = Retry::new();
        for _ in 0..4 {
            waits(&mut retry, now);
        }
        retry.failed(now);
        retry.hasten(soon);
        assert_eq!(retry.at(), Some(soon));
        retry.begin(soon);
        assert_eq!(
            waits(&mut retry, soon),
            1,
            "the next wait is the first one again"
        );
    }

    #[test]
    fn a_later_moment_puts_nothing_off() {
        let now = Instant::now();
        let mut retry = Retry::new();
        retry.failed(now);
        retry.hasten(now + Duration::from_secs(60));
        assert_eq!(retry.at(), Some(now + WAIT.0));
    }

    #[test]
    fn where_nothing_has_failed_nothing_is_tried() {
        let mut retry = Retry::new();
        retry.hasten(Instant::now());
        assert!(!retry.is_waiting());
    }
}
