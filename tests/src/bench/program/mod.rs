//! What the TC programs cost per packet, as the kernel measures it by itself
//! (`BPF_PROG_TEST_RUN`): no network stack, no wire, no sender.
//!
//! Where the route lookup counts, it is measured with the gateway's own routes alone, and with the
//! rules and tables that the daemon puts beside them. What the user's rules cost is measured beside
//! the same without them, run by run in turns.

mod frames;
mod offloaded;
mod report;
mod ruled;
mod trial;
mod worst;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::Machine;

pub use report::{json, show};
pub use trial::{Options, run};

/// What a program meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Meeting {
    /// A packet of a flow that the table knows.
    Hit,
    /// A packet of a new flow; the table has room.
    Miss,
    /// A packet of a new flow, for which the table throws out an old one.
    MissFull,
    /// A packet of a flow that the table knows, in turns with [`Self::HitRules`].
    HitNoRules,
    /// A packet of a flow that the table knows, while there are as many rules as there may be.
    HitRules,
    /// A packet of a new flow to one server, in turns with the next two.
    MissNoRules,
    /// The same, while there is one rule.
    MissOneRule,
    /// The same, while there are very many rules and prefixes.
    MissRules,
    /// A packet of a new flow, each to another server, in turns with the next.
    ScatteredNoRules,
    /// The same, while there are very many rules and prefixes.
    ScatteredRules,
    /// A packet of a flow on the fast path.
    Sent,
    /// A packet that came in by an uplink.
    Counted,
    /// A packet for another host in the LAN, which the route lookup tells.
    Lan,
    /// A packet for the gateway, likewise.
    Gateway,
    /// A packet from another interface than an uplink's.
    Other,
    /// A frame that is no IP packet.
    Arp,
}

impl fmt::Display for Meeting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Hit => "hit: a known flow",
            Self::Miss => "miss: a new flow",
            Self::MissFull => "miss, the table is full",
            Self::HitNoRules => "hit, no rules",
            Self::HitRules => "hit, 1,000 rules",
            Self::MissNoRules => "miss, no rules",
            Self::MissOneRule => "miss, one rule",
            Self::MissRules => "miss, 1,000 rules, 50,000 prefixes",
            Self::ScatteredNoRules => "miss, other servers, no rules",
            Self::ScatteredRules => "miss, other servers, 1,000 rules",
            Self::Sent => "sent: by the fast path",
            Self::Counted => "counted",
            Self::Lan => "pass: to the LAN",
            Self::Gateway => "pass: to the gateway",
            Self::Other => "pass: from no uplink",
            Self::Arp => "pass: no IP (ARP)",
        })
    }
}

impl Meeting {
    /// The most that a packet may cost in the median.
    #[must_use]
    pub const fn demand(self) -> Option<Duration> {
        match self {
            Self::Hit => Some(Duration::from_nanos(150)),
            Self::Miss => Some(Duration::from_nanos(600)),
            _ => None,
        }
    }
}

/// What was measured of one kind of packet.
#[derive(Clone, Debug)]
pub struct Series {
    /// The program.
    pub program: &'static str,
    /// What it meets.
    pub meeting: Meeting,
    /// The packet's family; `None` for a frame without one.
    pub family: Option<failover::family::Family>,
    /// Whether the daemon's rules and tables were there.
    pub rules: bool,
    /// The mean of each run.
    pub runs: Vec<Duration>,
    /// What of it is the loop around the program, in the median.
    pub overhead: Duration,
    /// The most that it may cost in the median beside another series.
    pub beside: Option<Duration>,
}

impl Series {
    /// The run in the middle.
    #[must_use]
    pub fn median(&self) -> Duration {
        let mut runs = self.runs.clone();
        runs.sort_unstable();
        runs.get(runs.len() / 2).copied().unwrap_or_default()
    }

    /// The median without the loop around the program.
    #[must_use]
    pub fn net(&self) -> Duration {
        self.median().saturating_sub(self.overhead)
    }

    /// The most that it may cost in the median.
    #[must_use]
    pub fn demand(&self) -> Option<Duration> {
        self.beside.or_else(|| self.meeting.demand())
    }

    /// Whether what is demanded holds, the loop included; a series without runs shows nothing.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.runs.is_empty() && self.demand().is_none_or(|demand| self.median() <= demand)
    }
}

/// A whole benchmark.
#[derive(Clone, Debug)]
pub struct Measured {
    /// On what it was measured.
    pub machine: Machine,
    /// Packets of each run.
    pub packets: u32,
    /// A series for each kind of packet.
    pub series: Vec<Series>,
}

impl Measured {
    /// Whether all that is demanded holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.series.is_empty() && self.series.iter().all(Series::holds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(meeting: Meeting, nanos: &[u64]) -> Series {
        Series {
            program: trial::LAN_IN,
            meeting,
            family: None,
            rules: true,
            runs: nanos.iter().copied().map(Duration::from_nanos).collect(),
            overhead: Duration::from_nanos(20),
            beside: None,
        }
    }

    #[test]
    fn the_run_in_the_middle_decides() {
        let hit = series(Meeting::Hit, &[140, 900, 150, 10, 200]);
        assert_eq!(hit.median(), Duration::from_nanos(150));
        assert_eq!(hit.net(), Duration::from_nanos(130));
        assert!(hit.holds());
        assert!(!series(Meeting::Hit, &[151]).holds());
        assert!(!series(Meeting::Miss, &[601]).holds());
        assert!(!series(Meeting::Miss, &[]).holds());
    }

    #[test]
    fn what_was_measured_beside_it_decides() {
        let beside = |nanos| Series {
            beside: Some(Duration::from_nanos(102)),
            ..series(Meeting::HitRules, nanos)
        };
        assert!(beside(&[102]).holds());
        assert!(!beside(&[103]).holds());
    }

    #[test]
    fn nothing_is_demanded_of_other_packets() {
        assert!(series(Meeting::Lan, &[9000]).holds());
        assert!(series(Meeting::MissFull, &[9000]).holds());
    }
}
