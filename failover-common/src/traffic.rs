//! What users' traffic says about an uplink: whether it is answered, and whether connections open.
//!
//! A *question* is a packet that should be answered: the first one of a TCP connection, or one with
//! data, or any packet of another protocol's flow that was answered before. An *answer* is a packet
//! that comes back by the uplink of its flow. Which hosts were asked is noted as one bit for each: a
//! port scan is one host, however many packets it is.

#[cfg(feature = "user")]
use bytemuck::{CheckedBitPattern, NoUninit};

use crate::Family;

const MILLISECOND_NS: u64 = 1_000_000;

/// How old the moment of the last answer may be before it is noted anew. Answers come on all
/// processors: a moment that were noted for each packet would travel between their caches.
pub const ANSWER_NS: u64 = 10 * MILLISECOND_NS;
/// As long as the last answer is not older than this, questions are nothing special.
pub const FRESH_NS: u64 = 20 * MILLISECOND_NS;
/// A question that has no answer for so long is told, with the next one.
pub const SILENCE_NS: u64 = 100 * MILLISECOND_NS;
/// The first wait before a silence is told again; each is twice as long as the one before.
pub const TELL_AGAIN_NS: u64 = 50 * MILLISECOND_NS;
/// How often the wait is doubled.
const DOUBLINGS: u32 = 7;
/// The wait before a silence is told again that concerns one host more.
const NEW_HOST_NS: u64 = 8 * MILLISECOND_NS;
/// For how long hosts that answer are gathered.
pub const GATHER_NS: u64 = 1000 * MILLISECOND_NS;
/// More questions than these are not counted.
pub const MOST_QUESTIONS: u32 = 9999;

/// The bit of an outside host, by its address as it stands in keys.
#[must_use]
#[inline(always)]
pub const fn host_bit(outside: [u8; 16]) -> u64 {
    // Fibonacci hashing of the words, of which the upper bits are the best.
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = outside;
    let first = u64::from_ne_bytes([a, b, c, d, e, f, g, h]);
    let second = u64::from_ne_bytes([i, j, k, l, m, n, o, p]);
    let mixed = (first ^ first >> 32)
        .wrapping_mul(GOLDEN)
        .wrapping_add(second ^ second >> 32)
        .wrapping_mul(GOLDEN);
    1 << (mixed >> 58)
}

/// Whether users' traffic through an uplink is answered, in one family. Moments are nanoseconds of
/// `CLOCK_MONOTONIC`, as coarse as a timer tick. One cache line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct Liveness {
    /// When an answer came last, to [`ANSWER_NS`].
    pub answered_ns: u64,
    /// When the first question left that came after it; no later than that where there was none.
    pub asked_ns: u64,
    /// When a silence was last told.
    pub told_ns: u64,
    /// Who was asked since: a bit for each host ([`host_bit`]).
    pub asked: u64,
    /// Since when hosts that answer are gathered.
    pub gathered_ns: u64,
    /// Hosts that answered since, as far as they are those of the answers that were noted.
    pub answering: u64,
    /// Hosts that answered in the [`GATHER_NS`] before.
    pub answered: u64,
    /// Questions since `asked_ns`, up to [`MOST_QUESTIONS`].
    pub questions: u32,
    /// How often this silence was told.
    pub tellings: u32,
}

/// Whether less than a time has passed since a moment; also where another processor noted that a little
/// later than now.
#[inline(always)]
const fn is_within(time_ns: u64, since_ns: u64, now_ns: u64) -> bool {
    now_ns < since_ns.wrapping_add(time_ns)
}

impl Liveness {
    /// Whether an answer came just now.
    #[must_use]
    #[inline(always)]
    pub const fn is_fresh(&self, now_ns: u64) -> bool {
        is_within(FRESH_NS, self.answered_ns, now_ns)
    }

    /// Notes a question; returns whether the silence is to be told. Not to be called while answers
    /// are fresh.
    #[inline(always)]
    pub fn ask(&mut self, host: u64, now_ns: u64) -> bool {
        if self.asked_ns <= self.answered_ns {
            self.asked_ns = now_ns;
            self.asked = host;
            self.questions = 1;
            self.tellings = 0;
            return false;
        }
        if self.questions < MOST_QUESTIONS {
            self.questions += 1;
        }
        let is_new = self.asked & host == 0;
        if is_new {
            self.asked |= host;
        }
        if is_within(SILENCE_NS, self.asked_ns, now_ns) {
            return false;
        }
        let wait = if is_new {
            NEW_HOST_NS
        } else if self.tellings < DOUBLINGS {
            TELL_AGAIN_NS << self.tellings
        } else {
            TELL_AGAIN_NS << DOUBLINGS
        };
        if self.is_told() && is_within(wait, self.told_ns, now_ns) {
            return false;
        }
        if self.is_told() && !is_new {
            self.tellings = self.tellings.wrapping_add(1);
        }
        self.told_ns = now_ns;
        true
    }

    /// Notes an answer; returns whether a silence that was told is over.
    #[inline(always)]
    pub fn answer(&mut self, host: u64, now_ns: u64) -> bool {
        if is_within(ANSWER_NS, self.answered_ns, now_ns) {
            return false;
        }
        let told = self.is_told();
        self.answered_ns = now_ns;
        let gathered = now_ns.saturating_sub(self.gathered_ns);
        if gathered < GATHER_NS {
            self.answering |= host;
        } else {
            self.answered = if gathered < 2 * GATHER_NS {
                self.answering
            } else {
                0
            };
            self.answering = host;
            self.gathered_ns = now_ns;
        }
        told
    }

    #[inline(always)]
    const fn is_told(&self) -> bool {
        self.told_ns > self.answered_ns
    }
}

/// Both families of an uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct UplinkLiveness {
    /// IPv4.
    pub ipv4: Liveness,
    /// IPv6.
    pub ipv6: Liveness,
}

/// What is told of users' traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(u8)]
pub enum Told {
    /// Questions have no answer.
    Silent = 1,
    /// There is an answer again.
    Answered = 2,
}

/// News of users' traffic, as the programs send it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct TrafficNews {
    /// When, in nanoseconds of `CLOCK_MONOTONIC`.
    pub at_ns: u64,
    /// When the first question left that has no answer.
    pub asked_ns: u64,
    /// Who was asked since: a bit for each host.
    pub asked: u64,
    /// Questions since, up to [`MOST_QUESTIONS`].
    pub questions: u32,
    /// The uplink.
    pub uplink: u8,
    /// The family.
    pub family: Family,
    /// What.
    pub told: Told,
    /// Zero.
    pub reserved: u8,
}

/// How users' TCP connections through an uplink fare, in one family; each processor counts for
/// itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct Connections {
    /// Connections that were begun: first SYNs.
    pub opened: u64,
    /// Of these, those that were accepted.
    pub accepted: u64,
    /// Packets that users sent again: SYNs and data.
    pub repeated: u64,
    /// Accepted connections whose SYN was sent once, so that the time to its answer is known.
    pub timed: u64,
    /// The sum of these times, in nanoseconds. Each is as coarse as a timer tick; the mean of many is
    /// not.
    pub handshake_ns: u64,
}

impl Connections {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            opened: self.opened.saturating_add(other.opened),
            accepted: self.accepted.saturating_add(other.accepted),
            repeated: self.repeated.saturating_add(other.repeated),
            timed: self.timed.saturating_add(other.timed),
            handshake_ns: self.handshake_ns.saturating_add(other.handshake_ns),
        }
    }
}

/// Both families of an uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct UplinkConnections {
    /// IPv4.
    pub ipv4: Connections,
    /// IPv6.
    pub ipv6: Connections,
}

impl UplinkConnections {
    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            ipv4: self.ipv4.plus(other.ipv4),
            ipv6: self.ipv6.plus(other.ipv6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FlowKey;

    const START_NS: u64 = 3_600_000 * MILLISECOND_NS;

    fn at(ms: u64) -> u64 {
        START_NS + ms * MILLISECOND_NS
    }

    fn key(outside: [u8; 4], inside_port: u16) -> FlowKey {
        let mut key = FlowKey {
            inside: [0; 16],
            outside: [0; 16],
            inside_port,
            outside_port: 443,
            protocol: 6,
            family: Family::Ipv4,
            reserved: [0; 2],
        };
        key.outside[..4].copy_from_slice(&outside);
        key
    }

    #[test]
    fn a_silence_is_told_after_a_tenth_of_a_second_and_less_and_less_often() {
        let mut line = Liveness::default();
        line.answer(1, at(0));
        let told = (30..4000).step_by(5).filter(|ms| line.ask(1, at(*ms)));
        assert!(told.eq([130, 180, 280, 480, 880, 1680, 3280]));
    }

    #[test]
    fn one_host_more_is_told_at_once() {
        let mut line = Liveness::default();
        line.ask(1, at(0));
        assert!(line.ask(1, at(100)));
        assert!(!line.ask(2, at(104)), "somebody was told just now");
        assert!(line.ask(4, at(110)));
        assert_eq!(line.asked, 7);
        assert_eq!(line.questions, 4);
    }

    #[test]
    fn an_answer_ends_a_silence_and_says_so_once() {
        let mut line = Liveness::default();
        line.ask(1, at(0));
        assert!(!line.answer(1, at(50)), "nobody was told of a silence");
        line.ask(2, at(100));
        assert_eq!((line.asked, line.questions), (2, 1), "counted anew");
        assert!(line.ask(2, at(200)));
        assert!(line.answer(2, at(230)));
        assert!(!line.answer(2, at(260)));
    }

    #[test]
    fn answers_are_noted_at_most_each_ten_milliseconds() {
        let mut line = Liveness::default();
        line.answer(1, at(0));
        line.answer(2, at(9));
        assert_eq!((line.answered_ns, line.answering), (at(0), 1));
        line.answer(4, at(10));
        assert_eq!((line.answered_ns, line.answering), (at(10), 5));
        assert!(line.is_fresh(at(29)) && !line.is_fresh(at(30)));
    }

    #[test]
    fn a_moment_that_another_processor_noted_a_little_later_is_just_now() {
        let mut line = Liveness::default();
        line.answer(1, at(10));
        assert!(line.is_fresh(at(9)));
        line.answer(2, at(9));
        assert_eq!((line.answered_ns, line.answering), (at(10), 1));
    }

    #[test]
    fn hosts_that_answer_are_gathered_for_a_second_or_two() {
        let mut line = Liveness::default();
        line.answer(1, at(0));
        line.answer(2, at(900));
        line.answer(4, at(1000));
        assert_eq!((line.answered, line.answering), (3, 4));
        line.answer(8, at(5000));
        assert_eq!((line.answered, line.answering), (0, 8));
    }

    #[test]
    fn a_port_scan_is_one_host_and_a_net_full_of_hosts_is_many() {
        let ports = (1..=1000).fold(0, |bits, port| {
            bits | host_bit(key([203, 0, 113, 1], port).outside)
        });
        assert_eq!(ports.count_ones(), 1);
        let hosts = (0..=255).fold(0, |bits, host| {
            bits | host_bit(key([203, 0, 113, host], 9).outside)
        });
        assert!(hosts.count_ones() > 50, "{}", hosts.count_ones());
        let five = (11..16).fold(0, |bits, host| {
            bits | host_bit(key([203, 0, 113, host], 9).outside)
        });
        assert!(five.count_ones() >= 4, "{}", five.count_ones());
    }
}
