//! When connection tracking is told that a flow lives whose packets it does not see.
//!
//! A connection may end by packets of the stack at any moment, and connection tracking then forgets it
//! soon. So it is told a time only where a packet has taken the fast path since it was told last:
//! otherwise it knows better.

use std::time::Duration;

/// A flow that is silent for so long is the stack's again: what is left to it is what it would be left
/// anyway.
pub const IDLE: Duration = Duration::from_secs(30);
/// Connection tracking is asked at least so often whether it knows the flow at all.
const CHECK: Duration = Duration::from_secs(30);
/// It is first asked so soon. Until all programs saw the flow on the fast path its packets passed
/// connection tracking, and what was wanted of it (`relax`) may have been undone by them.
const FIRST_CHECK: Duration = Duration::from_secs(2);

/// How a flow stands to connection tracking. Moments are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// How long it lives without a packet.
    pub timeout: Duration,
    /// When its last packet was seen, as far as that is known.
    pub seen_ns: u64,
    /// When connection tracking forgets it.
    pub until_ns: u64,
    /// When its time was last told.
    pub told_ns: u64,
    /// When connection tracking is next asked for it at the latest.
    pub check_ns: u64,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// It lives so long from now on, or as long as it does anyway; it is asked whether it is there.
    Renew(Option<Duration>),
    /// It is silent: it lives so long from now on, likewise, and is the stack's again.
    Release(Option<Duration>),
}

impl Life {
    /// A packet was seen just now; connection tracking has so long left for it.
    #[must_use]
    pub fn new(timeout: Duration, left: Duration, now_ns: u64) -> Self {
        Self {
            timeout,
            seen_ns: now_ns,
            until_ns: after(now_ns, left),
            told_ns: now_ns,
            check_ns: after(now_ns, FIRST_CHECK),
        }
    }

    /// Whether connection tracking knows it is to be asked at once.
    pub const fn doubt(&mut self) {
        self.check_ns = 0;
    }

    /// Notes when packets were seen, and says what is due. A flow that moves always has half of its
    /// timeout left, and is asked for now and then.
    pub fn due(&mut self, seen_ns: u64, now_ns: u64) -> Due {
        self.seen_ns = self.seen_ns.max(seen_ns);
        let silent = Duration::from_nanos(now_ns.saturating_sub(self.seen_ns));
        let left = (self.seen_ns > self.told_ns).then(|| self.timeout.saturating_sub(silent));
        if silent >= IDLE {
            return Due::Release(left);
        }
        let known = Duration::from_nanos(self.until_ns.saturating_sub(now_ns));
        let needed = left.filter(|_| known < self.timeout / 2);
        if needed.is_none() && now_ns < self.check_ns {
            return Due::Nothing;
        }
        self.check_ns = after(now_ns, CHECK);
        if let Some(left) = needed {
            self.told_ns = now_ns;
            self.until_ns = after(now_ns, left);
        }
        Due::Renew(needed)
    }
}

fn after(now_ns: u64, time: Duration) -> u64 {
    now_ns.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const BEGAN: u64 = 100 * SECOND;

    fn life(timeout_s: u64) -> Life {
        let timeout = Duration::from_secs(timeout_s);
        Life::new(timeout, timeout, BEGAN)
    }

    /// What is due of a flow that moves, second by second.
    fn moving(life: &mut Life, seconds: std::ops::RangeInclusive<u64>) -> Vec<(u64, Due)> {
        seconds
            .map(|second| (second, life.due(second * SECOND, second * SECOND)))
            .filter(|(_, due)| *due != Due::Nothing)
            .collect()
    }

    #[test]
    fn a_flow_that_moves_is_renewed_when_half_is_left() {
        let mut short = life(40);
        let due = moving(&mut short, 101..=120);
        assert_eq!(due, [(102, Due::Renew(None))]);
        let renewed = short.due(120 * SECOND, 121 * SECOND);
        assert_eq!(renewed, Due::Renew(Some(Duration::from_secs(39))));
        assert_eq!(short.until_ns, 160 * SECOND);
    }

    #[test]
    fn one_of_which_much_is_left_is_only_asked_for() {
        let mut long = life(432_000);
        let asked = [102, 132, 162].map(|second| (second, Due::Renew(None)));
        assert_eq!(moving(&mut long, 101..=190), asked);
        long.doubt();
        let asked = [(191, Due::Renew(None))];
        assert_eq!(moving(&mut long, 191..=195), asked);
    }

    #[test]
    fn a_connection_that_awaited_an_acknowledgement_is_given_its_time_when_it_moves() {
        let timeout = Duration::from_secs(432_000);
        let mut life = Life::new(timeout, Duration::from_secs(300), BEGAN);
        assert_eq!(life.due(0, 101 * SECOND), Due::Nothing);
        let renewed = Due::Renew(Some(timeout));
        assert_eq!(life.due(102 * SECOND, 102 * SECOND), renewed);
    }

    #[test]
    fn a_silent_flow_is_released_with_what_is_left() {
        let mut life = life(120);
        assert_eq!(life.due(110 * SECOND, 139 * SECOND), Due::Renew(None));
        let due = life.due(110 * SECOND, 141 * SECOND);
        assert_eq!(due, Due::Release(Some(Duration::from_secs(89))));
    }

    #[test]
    fn one_of_which_no_packet_took_the_fast_path_is_left_what_connection_tracking_gives_it() {
        let mut life = life(432_000);
        assert_eq!(life.due(0, 131 * SECOND), Due::Release(None));
    }
}
