//! Which events somebody wants to read.

use std::str::FromStr;

use jiff::civil::{DateTime, Time};
use jiff::{Span, Timestamp, ToSpan as _, Zoned};
use thiserror::Error;

use crate::journal::event::Record;
use crate::uplink::UplinkName;

/// A filter. The default lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Nothing older.
    pub since: Option<Timestamp>,
    /// Only what is about this uplink.
    pub uplink: Option<UplinkName>,
}

impl Filter {
    /// Whether an event passes.
    #[must_use]
    pub fn passes(&self, record: &Record) -> bool {
        self.since.is_none_or(|since| record.time >= since)
            && self
                .uplink
                .as_ref()
                .is_none_or(|name| record.event.concerns(name))
    }
}

/// A moment as people write it: so long ago, or a time by the clock.
#[derive(Clone, Debug)]
pub struct Since(Form);

#[derive(Clone, Debug)]
enum Form {
    Moment(Timestamp),
    Date(DateTime),
    TimeOfDay(Time),
    Ago(Span),
}

/// Why a text is no moment.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is no time: allowed are a time ago as in 90s, 30m, 2h or 3d, a local time as in 22:30, 2026-11-21 or \"2026-11-21 22:30\", and RFC 3339 as in 2026-11-21T22:30:00Z"
)]
pub struct UnknownTime(pub String);

impl FromStr for Since {
    type Err = UnknownTime;

    fn from_str(text: &str) -> Result<Self, UnknownTime> {
        let unknown = || UnknownTime(text.to_owned());
        // A number alone may mean anything.
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(unknown());
        }
        let time_of_day = || text.contains(':').then(|| text.parse().ok()).flatten();
        let ago = || text.parse().ok().map(|span: Span| span.abs());
        let form = if let Ok(moment) = text.parse() {
            Form::Moment(moment)
        } else if let Some(time) = time_of_day() {
            Form::TimeOfDay(time)
        } else if let Ok(date) = text.parse() {
            Form::Date(date)
        } else {
            Form::Ago(ago().ok_or_else(unknown)?)
        };
        Ok(Self(form))
    }
}

impl Since {
    /// The moment that is meant at `now`. A time of day is the last one that has been, and what is
    /// longer ago than there are times is the beginning of all.
    #[must_use]
    pub fn moment(&self, now: &Zoned) -> Timestamp {
        let zone = now.time_zone();
        match &self.0 {
            Form::Moment(moment) => *moment,
            Form::Date(date) => zone.to_timestamp(*date).unwrap_or(Timestamp::MIN),
            Form::TimeOfDay(time) => {
                let today = now.date().to_datetime(*time);
                let moment = zone.to_timestamp(today).unwrap_or(Timestamp::MIN);
                if moment <= now.timestamp() {
                    return moment;
                }
                let yesterday = today.checked_sub(1.day());
                yesterday
                    .and_then(|yesterday| zone.to_timestamp(yesterday))
                    .unwrap_or(Timestamp::MIN)
            }
            Form::Ago(span) => now
                .checked_sub(*span)
                .map_or(Timestamp::MIN, |moment| moment.timestamp()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Family;
    use crate::journal::Event;
    use crate::status::State;

    fn since(text: &str) -> String {
        let now: Zoned = "2026-11-21T22:30:00+01:00[+01:00]".parse().unwrap();
        let since: Since = text.parse().unwrap();
        since.moment(&now).to_string()
    }

    #[test]
    fn people_say_when_in_many_ways() {
        for (text, expected) in [
            ("90s", "2026-11-21T21:28:30Z"),
            ("30m", "2026-11-21T21:00:00Z"),
            ("2h", "2026-11-21T19:30:00Z"),
            ("1h30m", "2026-11-21T20:00:00Z"),
            ("3d", "2026-11-18T21:30:00Z"),
            ("2h ago", "2026-11-21T19:30:00Z"),
            ("22:00", "2026-11-21T21:00:00Z"),
            ("22:29:59", "2026-11-21T21:29:59Z"),
            ("23:00", "2026-11-20T22:00:00Z"),
            ("2026-11-21", "2026-11-20T23:00:00Z"),
            ("2026-11-21 22:00", "2026-11-21T21:00:00Z"),
            ("2026-11-21T22:00", "2026-11-21T21:00:00Z"),
            ("2026-11-21T22:00:00Z", "2026-11-21T22:00:00Z"),
            ("2026-11-21T22:00:00+02:00", "2026-11-21T20:00:00Z"),
        ] {
            assert_eq!(since(text), expected, "{text}");
        }
        for text in ["", "10", "soon", "2 parsecs", "25:00", "2026-13-01"] {
            let error = text.parse::<Since>().unwrap_err();
            assert_eq!(error, UnknownTime(text.to_owned()));
        }
    }

    #[test]
    fn a_filter_knows_time_and_uplink() {
        let record = Record {
            seq: 1,
            time: "2026-11-21T02:13:04Z".parse().unwrap(),
            event: Event::State {
                uplink: "lte".parse().unwrap(),
                family: Family::Ipv4,
                from: State::Up,
                to: State::Down,
                reason: String::new(),
            },
        };
        let passes = |since: Option<&str>, uplink: Option<&str>| {
            let filter = Filter {
                since: since.map(|text| text.parse().unwrap()),
                uplink: uplink.map(|text| text.parse().unwrap()),
            };
            filter.passes(&record)
        };
        assert!(passes(None, None));
        assert!(passes(Some("2026-11-21T02:13:04Z"), Some("lte")));
        assert!(!passes(Some("2026-11-21T02:13:05Z"), None));
        assert!(!passes(None, Some("fiber")));
    }
}
