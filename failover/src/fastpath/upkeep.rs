//! When connection tracking is told that a flow lives whose packets it does not see.

use std::time::Duration;

/// A flow that is silent for so long is the stack's again: what is left to it is what it would be left
/// anyway.
pub const IDLE: Duration = Duration::from_secs(30);
/// Connection tracking is told at least so often, and says whether it knows the flow at all.
const CHECK: Duration = Duration::from_secs(30);

/// How a flow stands to connection tracking. Moments are nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// How long it lives without a packet.
    pub timeout: Duration,
    /// When its last packet was seen, as far as that is known.
    pub seen_ns: u64,
    /// When connection tracking forgets it.
    pub until_ns: u64,
    /// When it was last told.
    pub told_ns: u64,
}

/// What is to be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing.
    Nothing,
    /// It lives so long from now on.
    Renew(Duration),
    /// It is silent: it lives so long from now on, and is the stack's again.
    Release(Duration),
}

impl Life {
    /// A packet was seen just now.
    #[must_use]
    pub fn new(timeout: Duration, now_ns: u64) -> Self {
        Self {
            timeout,
            seen_ns: now_ns,
            until_ns: after(now_ns, timeout),
            told_ns: now_ns,
        }
    }

    /// Notes when packets were seen, and says what is due. A flow that moves always has half of its
    /// timeout left, and is asked for now and then.
    pub fn due(&mut self, seen_ns: u64, now_ns: u64) -> Due {
        self.seen_ns = self.seen_ns.max(seen_ns);
        let silent = Duration::from_nanos(now_ns.saturating_sub(self.seen_ns));
        let left = self.timeout.saturating_sub(silent);
        if silent >= IDLE {
            return Due::Release(left);
        }
        let known = Duration::from_nanos(self.until_ns.saturating_sub(now_ns));
        let untold = Duration::from_nanos(now_ns.saturating_sub(self.told_ns));
        if known >= self.timeout / 2 && untold < CHECK {
            return Due::Nothing;
        }
        self.told_ns = now_ns;
        self.until_ns = after(now_ns, left);
        Due::Renew(left)
    }
}

fn after(now_ns: u64, time: Duration) -> u64 {
    now_ns.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn life(timeout_s: u64) -> Life {
        Life::new(Duration::from_secs(timeout_s), 100 * SECOND)
    }

    #[test]
    fn a_flow_that_moves_is_renewed_when_half_is_left_or_nobody_was_told_for_long() {
        let mut short = life(40);
        for second in 101..=120 {
            let now_ns = second * SECOND;
            assert_eq!(short.due(now_ns, now_ns), Due::Nothing, "{second}");
        }
        let renewed = short.due(120 * SECOND, 121 * SECOND);
        assert_eq!(renewed, Due::Renew(Duration::from_secs(39)));
        assert_eq!(short.until_ns, 160 * SECOND);

        let mut long = life(432_000);
        for second in 101..=129 {
            let now_ns = second * SECOND;
            assert_eq!(long.due(now_ns, now_ns), Due::Nothing, "{second}");
        }
        let renewed = long.due(130 * SECOND, 130 * SECOND);
        assert_eq!(renewed, Due::Renew(Duration::from_secs(432_000)));
    }

    #[test]
    fn a_silent_flow_is_released_with_what_is_left() {
        let mut life = life(120);
        let renewed = Due::Renew(Duration::from_secs(91));
        assert_eq!(life.due(110 * SECOND, 139 * SECOND), renewed);
        let due = life.due(110 * SECOND, 141 * SECOND);
        assert_eq!(due, Due::Release(Duration::from_secs(89)));
    }
}
