//! From an interface's counters to its rates, and whether it is full.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::rate::{Capacity, Rate};
use crate::config::Percent;
use crate::network::Traffic;

/// Over which time rates are measured, at most: long enough that a burst fills nothing, short enough
/// that what comes meanwhile does not overfill it by much.
const WINDOW: Duration = Duration::from_millis(2500);
/// Over which time at least.
const LEAST: Duration = Duration::from_millis(500);
/// An uplink that is full is so until it carries less than the share minus this part of its
/// capacity: flows come and go, and without it each of them would turn new ones away and back.
const BACK: f64 = 0.15;

/// What an uplink carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rates {
    /// Towards users.
    pub down: Rate,
    /// From users.
    pub up: Rate,
}

impl Rates {
    /// The higher of the two parts of the capacity that are used.
    fn part_of(self, capacity: Capacity) -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a rate beyond 2^53 bits per second would still be told to 16 digits"
        )]
        let part = |rate: Rate, most: Rate| rate.0 as f64 / most.0.max(1) as f64;
        part(self.down, capacity.down).max(part(self.up, capacity.up))
    }
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    received: u64,
    sent: u64,
}

/// What is known of how much an uplink carries.
#[derive(Clone, Debug, Default)]
pub struct Load {
    readings: VecDeque<Reading>,
    full: BTreeSet<Percent>,
}

impl Load {
    /// Its interface's counters say so now; `None`: there is no interface. Returns whether it has
    /// become full by one of these shares of its capacity, or is so no longer.
    pub fn read(
        &mut self,
        counted: Option<Traffic>,
        capacity: Capacity,
        shares: &BTreeSet<Percent>,
        now: Instant,
    ) -> bool {
        self.note(counted, now);
        let part = self.rates().map(|rates| rates.part_of(capacity));
        let is_full = |share: &Percent| {
            part.is_some_and(|part| {
                let least = if self.full.contains(share) {
                    share.fraction() - BACK
                } else {
                    share.fraction()
                };
                part >= least
            })
        };
        let full: BTreeSet<Percent> = shares.iter().copied().filter(is_full).collect();
        let changed = full != self.full;
        self.full = full;
        changed
    }

    fn note(&mut self, counted: Option<Traffic>, now: Instant) {
        let Some(counted) = counted else {
            self.readings.clear();
            return;
        };
        let reading = Reading {
            at: now,
            received: counted.rx_bytes,
            sent: counted.tx_bytes,
        };
        // A new interface under the old name counts from zero.
        let goes_on = |last: &Reading| {
            last.at < now && last.received <= reading.received && last.sent <= reading.sent
        };
        if !self.readings.back().is_none_or(goes_on) {
            self.readings.clear();
        }
        while self
            .readings
            .front()
            .is_some_and(|first| now.duration_since(first.at) > WINDOW)
        {
            self.readings.pop_front();
        }
        self.readings.push_back(reading);
    }

    /// What it carries; `None` as long as that is not known.
    #[must_use]
    pub fn rates(&self) -> Option<Rates> {
        let (first, last) = (self.readings.front()?, self.readings.back()?);
        let time = last.at.duration_since(first.at);
        if time < LEAST {
            return None;
        }
        let rate = |from: u64, to: u64| {
            let bits = u128::from(to.saturating_sub(from)) * 8;
            let per_second = bits * 1_000 / time.as_millis().max(1);
            Rate(u64::try_from(per_second).unwrap_or(u64::MAX))
        };
        Some(Rates {
            down: rate(first.received, last.received),
            up: rate(first.sent, last.sent),
        })
    }

    /// Whether anything was read.
    #[must_use]
    pub fn is_measured(&self) -> bool {
        !self.readings.is_empty()
    }

    /// Whether it is full by a share of its capacity.
    #[must_use]
    pub fn is_full(&self, share: Percent) -> bool {
        self.full.contains(&share)
    }

    /// Whether it is full by any share that it was measured by.
    #[must_use]
    pub fn is_full_by_any(&self) -> bool {
        !self.full.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A gauge of an uplink of 20 Mbit each way, full at 80 %, read once a second.
    struct Bench {
        load: Load,
        start: Instant,
        seconds: u64,
        counted: Traffic,
    }

    impl Bench {
        fn new() -> Self {
            Self {
                load: Load::default(),
                start: Instant::now(),
                seconds: 0,
                counted: Traffic::default(),
            }
        }

        /// A second with these rates in kbit/s. Returns whether fullness changed.
        fn second(&mut self, down: u64, up: u64) -> bool {
            self.seconds += 1;
            self.counted.rx_bytes += down * 125;
            self.counted.tx_bytes += up * 125;
            self.read(Some(self.counted))
        }

        fn read(&mut self, counted: Option<Traffic>) -> bool {
            let capacity = Capacity {
                down: Rate(20_000_000),
                up: Rate(20_000_000),
            };
            let now = self.start + Duration::from_secs(self.seconds);
            self.load.read(counted, capacity, &[share()].into(), now)
        }

        fn is_full(&self) -> bool {
            self.load.is_full(share())
        }
    }

    fn share() -> Percent {
        Percent::from_tenths(800).unwrap()
    }

    #[test]
    fn it_is_full_by_the_busier_direction_and_until_it_is_clearly_less() {
        for (down, up) in [(1, 0), (0, 1)] {
            let mut bench = Bench::new();
            let mut second = |rate: u64| {
                bench.second(rate * down, rate * up);
                bench.is_full()
            };
            assert!(!second(0), "not known yet");
            assert!(!second(15_900));
            assert!(!second(15_900));
            assert!(!second(16_050), "15.98 Mbit in the mean");
            assert!(second(16_050));
            assert!(second(13_100));
            assert!(second(13_100), "not yet less than 65 %");
            second(12_900);
            assert!(!second(12_900));
            assert!(!second(15_900), "full from 80 % on again");
        }
    }

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let mut bench = Bench::new();
        assert_eq!(bench.load.rates(), None);
        bench.second(0, 0);
        assert_eq!(bench.load.rates(), None);
        bench.second(8_000, 4_000);
        bench.second(16_000, 4_000);
        let rates = |down, up| {
            Some(Rates {
                down: Rate(down),
                up: Rate(up),
            })
        };
        assert_eq!(bench.load.rates(), rates(12_000_000, 4_000_000));
        bench.second(16_000, 0);
        assert_eq!(bench.load.rates(), rates(16_000_000, 2_000_000));
    }

    #[test]
    fn an_interface_that_is_gone_or_new_is_not_full() {
        let mut bench = Bench::new();
        bench.second(0, 0);
        assert!(bench.second(20_000, 0), "full");
        bench.seconds += 1;
        assert!(bench.read(None), "gone");
        assert!(!bench.is_full());

        let mut bench = Bench::new();
        bench.second(0, 0);
        bench.second(20_000, 0);
        bench.counted = Traffic::default();
        assert!(bench.second(1, 0), "new");
        assert!(!bench.is_full());
        assert_eq!(bench.load.rates(), None);
    }

    proptest! {
        #[test]
        fn a_rate_around_the_share_fills_it_once(rates in prop::collection::vec(14_000_u64..18_000, 1..200)) {
            let mut bench = Bench::new();
            bench.second(0, 0);
            let changes = rates.into_iter().filter(|rate| bench.second(*rate, 0)).count();
            prop_assert!(changes <= 1, "{changes}");
        }
    }
}
