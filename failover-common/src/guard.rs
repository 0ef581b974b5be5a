//! The guard of the flow table against floods of packets that nobody answers.
//!
//! A scan or a flood makes a new flow with each packet. If all of them were entered, they would push out
//! flows that are silent for a while. So only so many new flows may wait for their first answer; more are
//! steered without an entry, as by a program that has just been loaded: connection tracking keeps them on
//! their uplink, and the first answer enters them.

#[cfg(feature = "user")]
use bytemuck::{Pod, Zeroable};

/// After how long half of those that wait count as gone: no silent flow that waits lives much longer.
pub const HALVED_NS: u64 = 30_000_000_000;

/// How many wait. Written once for a new flow and once for its first answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
#[repr(C)]
pub struct Guard {
    /// New flows that were entered and not answered yet. What several processors count at once may be
    /// lost, and it is halved every now and then.
    pub unanswered: u64,
    /// When it was last halved, in nanoseconds of `CLOCK_MONOTONIC`.
    pub halved_ns: u64,
}

impl Guard {
    /// One more flow waits, if so many may; returns whether.
    #[inline(always)]
    pub fn admit(&mut self, most: u32, now_ns: u64) -> bool {
        if now_ns.saturating_sub(self.halved_ns) >= HALVED_NS {
            self.halved_ns = now_ns;
            self.unanswered >>= 1;
        }
        let room = self.unanswered < most as u64;
        if room {
            self.unanswered += 1;
        }
        room
    }

    /// One of them was answered.
    #[inline(always)]
    pub fn answered(&mut self) {
        if self.unanswered != 0 {
            self.unanswered -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_answered_makes_room_and_what_is_not_does_so_in_time() {
        let start = 100 * HALVED_NS;
        let mut guard = Guard::default();
        assert!((0..8).all(|_| guard.admit(8, start)));
        assert!(!guard.admit(8, start + HALVED_NS - 1));
        guard.answered();
        assert!(guard.admit(8, start + HALVED_NS - 1));
        assert!(!guard.admit(8, start + HALVED_NS - 1));
        let admitted = (0..9).filter(|_| guard.admit(8, start + HALVED_NS)).count();
        assert_eq!(admitted, 4);
    }

    #[test]
    fn answers_to_what_was_counted_out_do_no_harm() {
        let mut guard = Guard::default();
        guard.answered();
        assert_eq!(guard.unanswered, 0);
    }
}
