//! What the probes of one uplink cost today, by a counter that only ever goes up, unless it is made
//! anew.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::budget::Spread;

/// As many rounds make what one costs known.
const ENOUGH: u64 = 4;
/// Of as many, and of none before, it is made up: other targets cost something else.
const LATELY: u64 = 64;

/// What the probes of one uplink cost. Days are those of UTC, so that none is longer than others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meter {
    today: Option<KeptMeter>,
    /// Rounds since the counter was last read.
    fresh: u64,
    /// What rounds cost lately.
    bytes: u64,
    rounds: u64,
}

/// What is kept of it over a restart. The counter goes on without a daemon: what it says beyond the
/// value that was seen last was spent since.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptMeter {
    /// The day.
    pub day: Date,
    /// What that day's probes took, in bytes.
    pub bytes: u64,
    /// The counter when it was last read.
    pub counter: u64,
    /// The budget is used up, and that has been told.
    pub used_up: bool,
}

impl Meter {
    /// Goes on where an earlier daemon was.
    pub fn resume(&mut self, kept: &KeptMeter) {
        self.today = Some(kept.clone());
    }

    /// What is to be kept; `None` before anything was counted.
    #[must_use]
    pub const fn kept(&self) -> Option<&KeptMeter> {
        self.today.as_ref()
    }

    /// What another uplink begins with whose probes are counted by the same counter; `same`: it has the
    /// same name, and goes on with what was taken.
    #[must_use]
    pub fn handed_on(self, same: bool) -> Self {
        let today = self.today.map(|last| KeptMeter {
            bytes: if same { last.bytes } else { 0 },
            used_up: same && last.used_up,
            ..last
        });
        Self {
            today,
            ..Self::default()
        }
    }

    /// A round of one family was sent.
    pub const fn round(&mut self) {
        self.fresh = self.fresh.saturating_add(1);
    }

    /// Takes in that the counter says so, before there were any rounds: what it counted for a daemon
    /// that kept nothing is nobody's.
    pub fn begin(&mut self, counter: u64, now: Timestamp) {
        if self.today.is_some() {
            self.read(counter, None, now);
        } else {
            self.today = Some(KeptMeter {
                day: day(now),
                bytes: 0,
                counter,
                used_up: false,
            });
        }
    }

    /// Takes in what the counter says now. Returns whether the budget is used up, and was not before.
    pub fn read(&mut self, counter: u64, budget: Option<u64>, now: Timestamp) -> bool {
        let today = day(now);
        let last = self.today.take();
        // One that says less than before was made anew, as with the whole table.
        let spent = last
            .as_ref()
            .and_then(|last| counter.checked_sub(last.counter))
            .unwrap_or(counter);
        let same = last.filter(|last| last.day == today);
        let told = same.as_ref().is_some_and(|last| last.used_up);
        let bytes = same.map_or(0, |last| last.bytes).saturating_add(spent);
        let used_up = budget.is_some_and(|budget| bytes >= budget);
        self.today = Some(KeptMeter {
            day: today,
            bytes,
            counter,
            used_up,
        });
        self.learn(spent);
        used_up && !told
    }

    /// What today's probes took so far, in bytes; `None` before anything was counted.
    #[must_use]
    pub fn bytes(&self, now: Timestamp) -> Option<u64> {
        let kept = self.today.as_ref()?;
        Some(if kept.day == day(now) { kept.bytes } else { 0 })
    }

    /// What may be spent of a budget, as of now, if each round is one of so many families.
    #[must_use]
    pub fn spread(&self, budget: u64, families: u32, now: Timestamp) -> Spread {
        let spent = self.bytes(now).unwrap_or(0);
        let known = self.rounds >= ENOUGH;
        let of_one = self.bytes.checked_div(self.rounds).filter(|_| known);
        Spread {
            left: budget.saturating_sub(spent),
            rest: until_tomorrow(now),
            round: of_one.unwrap_or(0).saturating_mul(families.into()),
        }
    }

    fn learn(&mut self, spent: u64) {
        if self.fresh == 0 {
            return;
        }
        self.bytes = self.bytes.saturating_add(spent);
        self.rounds = self.rounds.saturating_add(std::mem::take(&mut self.fresh));
        while self.rounds > LATELY {
            self.rounds /= 2;
            self.bytes /= 2;
        }
    }
}

fn day(now: Timestamp) -> Date {
    now.to_zoned(TimeZone::UTC).date()
}

fn until_tomorrow(now: Timestamp) -> Duration {
    const DAY: i64 = 24 * 3600;
    let passed = now.as_second().rem_euclid(DAY);
    Duration::try_from(SignedDuration::from_secs(DAY - passed)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-{text}Z").parse().unwrap()
    }

    #[test]
    fn a_day_begins_with_nothing() {
        let mut meter = Meter::default();
        assert_eq!(meter.bytes(at("21T10:00:00")), None);
        meter.begin(5_000, at("21T10:00:00"));
        meter.read(7_000, None, at("21T23:59:00"));
        assert_eq!(meter.bytes(at("21T23:59:59")), Some(2_000));
        assert_eq!(meter.bytes(at("22T00:00:00")), Some(0));
        meter.read(7_500, None, at("22T00:01:00"));
        assert_eq!(meter.bytes(at("22T00:01:00")), Some(500));
    }

    #[test]
    fn a_counter_that_was_made_anew_began_at_nothing() {
        let mut meter = Meter::default();
        meter.begin(5_000, at("21T10:00:00"));
        meter.read(6_000, None, at("21T10:01:00"));
        meter.read(300, None, at("21T10:02:00"));
        assert_eq!(meter.bytes(at("21T10:02:00")), Some(1_300));
    }

    #[test]
    fn the_next_daemon_goes_on_counting() {
        let mut meter = Meter::default();
        meter.begin(0, at("21T10:00:00"));
        meter.read(6_000, None, at("21T10:01:00"));
        let text = serde_json::to_string(meter.kept().unwrap()).unwrap();
        let kept: KeptMeter = serde_json::from_str(&text).unwrap();
        // Killed, and more was spent after it was written.
        for (counter, bytes) in [(6_400, 6_400), (100, 6_100)] {
            let mut next = Meter::default();
            next.resume(&kept);
            next.begin(counter, at("21T10:05:00"));
            assert_eq!(next.bytes(at("21T10:05:00")), Some(bytes));
        }
    }

    #[test]
    fn who_gets_the_counter_of_another_pays_for_its_own_probes_only() {
        let now = at("21T10:00:00");
        let mut meter = Meter::default();
        meter.begin(0, now);
        meter.read(6_000, None, now);
        for (same, bytes) in [(true, 6_500), (false, 500)] {
            let mut next = meter.clone().handed_on(same);
            next.read(6_500, None, now);
            assert_eq!(next.bytes(now), Some(bytes));
        }
    }

    #[test]
    fn that_the_budget_is_used_up_is_said_once_a_day() {
        let mut meter = Meter::default();
        meter.begin(0, at("21T10:00:00"));
        let mut told = |counter, budget, text| meter.read(counter, Some(budget), at(text));
        assert!(!told(900, 1_000, "21T10:01:00"));
        assert!(told(1_000, 1_000, "21T10:02:00"));
        assert!(!told(1_500, 1_000, "21T10:03:00"));
        assert!(!told(1_600, 2_000, "21T10:04:00"), "there is more now");
        assert!(told(2_000, 2_000, "21T10:05:00"));
        assert!(!told(2_900, 2_000, "22T00:00:10"));
        assert!(told(4_000, 2_000, "22T10:00:00"));
    }

    #[test]
    fn what_a_round_costs_is_measured_and_follows_other_targets() {
        let mut meter = Meter::default();
        let now = at("21T12:00:00");
        meter.begin(0, now);
        let spread = meter.spread(1_000_000, 2, now);
        assert_eq!((spread.left, spread.round), (1_000_000, 0), "nobody knows");
        assert_eq!(spread.rest, Duration::from_secs(12 * 3600));
        let mut counter = 0;
        for (cost, readings) in [(200, 10), (5_000, 100)] {
            for _ in 0..readings {
                for _ in 0..6 {
                    meter.round();
                }
                counter += 6 * cost;
                meter.read(counter, Some(1_000_000), now);
            }
            let round = meter.spread(1_000_000, 2, now).round;
            assert!(round.abs_diff(2 * cost) <= cost / 10, "{round}");
        }
        assert_eq!(meter.spread(1_000_000, 2, now).left, 0);
    }
}
