//! What operators do about uplinks by hand, whatever their probes say: `failover disable`, `drain`
//! and `enable`.

use std::fmt;
use std::time::Duration;

use jiff::{Timestamp, Zoned};
use serde::{Deserialize, Serialize};

/// What somebody wants of an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// It is not to be used.
    Disable,
    /// New flows are to go elsewhere, and open ones may finish.
    Drain {
        /// It is disabled after this time; without that open flows may take as long as they like.
        time: Option<Duration>,
    },
    /// It takes part again.
    Enable,
}

/// What is done about an uplink by hand, as it is told and remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ByHand {
    /// What.
    pub what: Measure,
    /// When that was ordered last, or when the time of a drain was over.
    pub since: Timestamp,
    /// When the time of a drain is over; null where it has no end.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

/// What can be done about an uplink by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    /// It is not used.
    Disable,
    /// New flows go elsewhere, and open ones may finish.
    Drain,
}

impl ByHand {
    /// Whether the uplink is not used at all.
    #[must_use]
    pub fn disables(&self) -> bool {
        self.what == Measure::Disable
    }

    /// As a person reads it, by the clock on the wall.
    #[must_use]
    pub fn by_the_clock(&self, now: &Zoned) -> String {
        self.with_times(|time| by_the_clock(time, now))
    }

    fn with_times(&self, write: impl Fn(Timestamp) -> String) -> String {
        let what = match self.what {
            Measure::Disable => "disabled",
            Measure::Drain => "draining",
        };
        let since = write(self.since);
        match self.until {
            None => format!("{what} by hand since {since}"),
            Some(until) => format!("{what} by hand since {since} until {}", write(until)),
        }
    }
}

impl fmt::Display for ByHand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_times(|time| format!("{time:.0}")))
    }
}

/// A time of today as the clock shows it, and one of another day with its date.
#[must_use]
pub fn by_the_clock(time: Timestamp, now: &Zoned) -> String {
    let time = time.to_zoned(now.time_zone().clone());
    let form = if time.date() == now.date() {
        "%H:%M:%S"
    } else {
        "%Y-%m-%d %H:%M:%S"
    };
    time.strftime(form).to_string()
}

#[cfg(test)]
mod tests {
    use jiff::tz::{TimeZone, offset};

    use super::*;

    #[test]
    fn times_are_those_of_the_clock_on_the_wall() {
        let by_hand = ByHand {
            what: Measure::Drain,
            since: "2026-11-21T22:30:00.25Z".parse().unwrap(),
            until: Some("2026-11-21T23:05:00Z".parse().unwrap()),
        };
        assert_eq!(
            by_hand.to_string(),
            "draining by hand since 2026-11-21T22:30:00Z until 2026-11-21T23:05:00Z"
        );
        let now: Timestamp = "2026-11-21T23:00:00Z".parse().unwrap();
        let now = now.to_zoned(TimeZone::fixed(offset(1)));
        assert_eq!(
            by_hand.by_the_clock(&now),
            "draining by hand since 2026-11-21 23:30:00 until 00:05:00"
        );
    }
}
