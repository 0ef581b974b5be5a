//! How long a failover takes, as users feel it: from the fault to the first new flow that is
//! answered through a survivor.
//!
//! Two uplinks, the second one only for when the first is dead, so that an answer through the
//! second shows that the failover has happened. Everything is as by default but the probes'
//! targets.

mod report;
mod trial;

use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::{Distribution, Machine};

pub use report::{json, show};
pub use trial::{Options, run};

/// What befalls the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The provider swallows every packet, and nothing tells the gateway.
    BlackHole,
    /// The same while users talk: 20 TCP connections to 5 hosts ask a question after each answer.
    BusyBlackHole,
    /// The interface loses its carrier.
    Carrier,
    /// The interface vanishes.
    Interface,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 4] = [
        Self::BlackHole,
        Self::BusyBlackHole,
        Self::Carrier,
        Self::Interface,
    ];

    /// What is demanded where a round of probes is sent every `interval`; of a black hole only for
    /// half a second, which is the default, and a tenth.
    #[must_use]
    pub const fn demand(self, interval: Duration) -> Option<Demand> {
        match (self, interval.as_millis()) {
            (Self::BlackHole, 500) => Some(Demand {
                median: Duration::from_millis(1500),
                max: Some(Duration::from_millis(2500)),
            }),
            (Self::BlackHole, 100) => Some(Demand {
                median: Duration::from_millis(400),
                max: Some(Duration::from_millis(1000)),
            }),
            (Self::BusyBlackHole, 500) => Some(Demand {
                median: Duration::from_millis(700),
                max: None,
            }),
            (Self::Carrier, _) => Some(Demand {
                median: Duration::from_millis(10),
                max: None,
            }),
            (Self::BlackHole | Self::BusyBlackHole | Self::Interface, _) => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::BlackHole => "silent black hole",
            Self::BusyBlackHole => "the same, 20 flows",
            Self::Carrier => "loss of carrier",
            Self::Interface => "interface removed",
        })
    }
}

/// The longest that a failover may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// In the median of all trials.
    pub median: Duration,
    /// In any trial.
    pub max: Option<Duration>,
}

/// One trial.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Trial {
    /// The family of the new flows.
    pub family: failover::family::Family,
    /// From the fault to the answer.
    #[serde(rename = "ms", serialize_with = "super::distribution::milliseconds")]
    pub took: Duration,
    /// From the begin of the repair to when the uplink was trusted again.
    #[serde(
        rename = "returned_ms",
        serialize_with = "super::distribution::milliseconds"
    )]
    pub returned: Duration,
}

/// All trials of a fault.
#[derive(Clone, Debug)]
pub struct Series {
    /// The fault.
    pub fault: Fault,
    /// From one round of probes to the next.
    pub interval: Duration,
    /// The trials.
    pub trials: Vec<Trial>,
}

impl Series {
    fn durations(&self) -> Vec<Duration> {
        self.trials.iter().map(|trial| trial.took).collect()
    }

    /// The distribution of the trials; `None` if there are none.
    #[must_use]
    pub fn distribution(&self) -> Option<Distribution> {
        Distribution::of(&self.durations())
    }

    /// What is demanded of it.
    #[must_use]
    pub const fn demand(&self) -> Option<Demand> {
        self.fault.demand(self.interval)
    }

    /// The soonest return.
    #[must_use]
    pub fn soonest_return(&self) -> Option<Duration> {
        self.trials.iter().map(|trial| trial.returned).min()
    }

    /// Before that no uplink may be trusted again: five good rounds in a row are required. The first
    /// may come at once, and the second after 46 hundredths of an interval where its probing begins
    /// anew.
    #[must_use]
    pub fn no_return_before(&self) -> Duration {
        self.interval * 346 / 100
    }

    /// Whether no uplink was trusted sooner than is configured.
    #[must_use]
    pub fn returns_hold(&self) -> bool {
        self.soonest_return()
            .is_some_and(|soonest| soonest >= self.no_return_before())
    }

    /// Whether what is demanded holds; a series without trials shows nothing.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.returns_hold() && self.failovers_hold()
    }

    /// Whether what is demanded of failovers holds.
    #[must_use]
    pub fn failovers_hold(&self) -> bool {
        match (self.distribution(), self.demand()) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(found), Some(demand)) => {
                found.median <= demand.median && demand.max.is_none_or(|max| found.max <= max)
            }
        }
    }
}

/// A whole benchmark.
#[derive(Clone, Debug)]
pub struct Measured {
    /// On what it was measured.
    pub machine: Machine,
    /// A series for each fault.
    pub series: Vec<Series>,
}

impl Measured {
    /// Whether all that is demanded holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.series.iter().all(Series::holds)
    }
}

#[cfg(test)]
mod tests {
    use failover::family::Family;

    use super::*;

    fn series(fault: Fault, millis: &[u64]) -> Series {
        let trial = |took: &u64| Trial {
            family: Family::Ipv4,
            took: Duration::from_millis(*took),
            returned: Duration::from_millis(1730),
        };
        Series {
            fault,
            interval: Duration::from_millis(500),
            trials: millis.iter().map(trial).collect(),
        }
    }

    #[test]
    fn a_black_hole_is_held_to_its_median_and_its_worst_trial() {
        assert!(series(Fault::BlackHole, &[1100, 1400, 2400]).holds());
        assert!(!series(Fault::BlackHole, &[1100, 1600, 2400]).holds());
        assert!(!series(Fault::BlackHole, &[1100, 1400, 2600]).holds());
        assert!(!series(Fault::BlackHole, &[]).holds());
    }

    #[test]
    fn a_return_that_comes_sooner_than_configured_is_told() {
        let mut series = series(Fault::Carrier, &[3, 4, 5]);
        assert!(series.holds());
        series.trials[1].returned = Duration::from_millis(1729);
        assert!(!series.holds() && series.failovers_hold());
    }

    #[test]
    fn a_lost_carrier_is_held_to_its_median_alone() {
        assert!(series(Fault::Carrier, &[3, 4, 30]).holds());
        assert!(!series(Fault::Carrier, &[3, 16, 17]).holds());
    }
}
