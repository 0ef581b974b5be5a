//! What probes cost, and how often is asked for what is left of their budgets.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Engine, Moment};
use crate::controller::family_state::targets;
use crate::family::Family;
use crate::meter::Meter;
use crate::state::RememberedMeters;
use crate::uplink::{UplinkId, UplinkName};

/// The budget of an uplink's probes is used up for today.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsedUp {
    /// The uplink.
    pub uplink: UplinkName,
    /// What they took, in bytes.
    pub bytes: u64,
    /// What they may take, in bytes.
    pub budget: u64,
}

impl Engine {
    /// Probes took so much today when an earlier daemon ran. To be told before anything is counted.
    pub fn resume_meters(&mut self, remembered: &RememberedMeters) {
        for uplink in self.uplinks.values_mut() {
            if let Some(kept) = remembered.get(&uplink.name) {
                uplink.meter.resume(kept);
            }
        }
    }

    /// The counters say so before anything is probed.
    pub fn begin_metering(&mut self, counters: &BTreeMap<UplinkId, u64>, now: Moment) {
        for (id, uplink) in &mut self.uplinks {
            if let Some(counter) = counters.get(id) {
                uplink.meter.begin(*counter, now.wall);
            }
        }
        self.spread_budgets(now);
    }

    /// The counters say so now. Returns whose budgets are used up, and were not before.
    pub fn metered(&mut self, counters: &BTreeMap<UplinkId, u64>, now: Moment) -> Vec<UsedUp> {
        let mut news = Vec::new();
        for (id, uplink) in &mut self.uplinks {
            let Some(counter) = counters.get(id) else {
                continue;
            };
            let budget = uplink.config.probe_budget();
            if uplink.meter.read(*counter, budget, now.wall) {
                news.extend(budget.map(|budget| UsedUp {
                    uplink: uplink.name.clone(),
                    bytes: uplink.meter.bytes(now.wall).unwrap_or(0),
                    budget,
                }));
            }
        }
        self.spread_budgets(now);
        news
    }

    /// What uplinks' probes took, to be remembered over a restart.
    #[must_use]
    pub fn remembered_meters(&self) -> RememberedMeters {
        let kept = self.uplinks.values().filter_map(|uplink| {
            let kept = uplink.meter.kept()?.clone();
            Some((uplink.name.clone(), kept))
        });
        kept.collect()
    }

    /// What is known of what each uplink's probes cost.
    #[must_use]
    pub fn meters(&self) -> BTreeMap<UplinkId, Meter> {
        let known = self.uplinks.iter();
        known
            .map(|(id, uplink)| (*id, uplink.meter.clone()))
            .collect()
    }

    /// Spreads what is left of budgets over what is left of the day.
    pub(in crate::controller) fn spread_budgets(&mut self, now: Moment) {
        let before = self.intervals();
        for uplink in self.uplinks.values_mut() {
            let asked = Family::ALL.into_iter().filter(|family| {
                let state = uplink.families.get(*family);
                state.path().is_some() && targets(&uplink.config.probe, *family).next().is_some()
            });
            let families = u32::try_from(asked.count()).unwrap_or(1);
            let budget = uplink.config.probe_budget();
            uplink.spread = budget.map(|budget| uplink.meter.spread(budget, families, now.wall));
        }
        self.stale |= self.intervals() != before;
    }

    fn intervals(&self) -> Vec<Duration> {
        let uplinks = self.uplinks.values();
        uplinks
            .flat_map(|uplink| Family::ALL.map(|family| self.interval(uplink, family)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::controller::engine::tests::{Bench, YAML, id};

    /// The intervals of the third uplink, which is a metered reserve, when its probes took so much.
    struct Reserve {
        bench: Bench,
        counter: u64,
    }

    impl Reserve {
        fn new(budget: &str) -> Self {
            let metered = format!("priority: 2, metered: true, probe: {{budget: {budget}}}");
            let mut bench = Bench::new(&YAML.replace("priority: 2", &metered));
            let counters = [(id(3), 0)].into();
            let now = bench.now();
            bench.engine.begin_metering(&counters, now);
            bench.rounds(10, &[]);
            bench.decide();
            Self { bench, counter: 0 }
        }

        fn took(&mut self, bytes: u64, at: &str) -> Vec<UsedUp> {
            self.counter += bytes;
            let wall: Timestamp = at.parse().unwrap();
            let now = Moment {
                wall,
                ..self.bench.now()
            };
            let counters = [(id(3), self.counter)].into();
            self.bench.engine.metered(&counters, now)
        }

        fn interval(&self) -> Duration {
            let plans = self.bench.engine.probe_plans();
            plans.get(&(id(3), Family::Ipv4)).unwrap().interval
        }
    }

    const NOON: &str = "2026-11-21T12:00:00Z";

    #[test]
    fn a_budget_that_lasts_changes_nothing() {
        let mut reserve = Reserve::new("10MB");
        assert_eq!(reserve.took(4_000, NOON), []);
        assert_eq!(reserve.interval(), Duration::from_secs(30));
        assert!(!reserve.bench.engine.is_stale());
    }

    #[test]
    fn a_small_budget_stretches_the_interval_until_somebody_needs_the_uplink() {
        let mut reserve = Reserve::new("200kB");
        // 20 rounds, so 400 bytes for both families: 490 rounds for half a day.
        assert_eq!(reserve.took(4_000, NOON), []);
        assert!(reserve.bench.engine.is_stale(), "probes have another pace");
        let interval = reserve.interval();
        assert!(
            interval > Duration::from_secs(87) && interval < Duration::from_secs(90),
            "{interval:?}"
        );
        reserve.bench.rounds(1, &[(1, Family::Ipv4)]);
        reserve.bench.decide();
        assert_eq!(reserve.interval(), Duration::from_millis(500));
    }

    #[test]
    fn a_budget_that_is_used_up_is_told_once_and_never_blinds() {
        let mut reserve = Reserve::new("500kB");
        assert_eq!(reserve.took(4_000, NOON), []);
        // By what no round is known of, as by a daemon before this one.
        let told = reserve.took(500_000, "2026-11-21T12:01:00Z");
        assert_eq!(
            told,
            [UsedUp {
                uplink: "lte".parse().unwrap(),
                bytes: 504_000,
                budget: 500_000,
            }]
        );
        assert_eq!(reserve.interval(), Duration::from_secs(600));
        assert_eq!(reserve.took(400, "2026-11-21T12:02:00Z"), []);
        reserve.bench.rounds(1, &[(3, Family::Ipv4)]);
        reserve.bench.decide();
        assert_eq!(reserve.interval(), Duration::from_millis(500), "a doubt");
        reserve.bench.rounds(1, &[]);
        assert_eq!(reserve.took(800, "2026-11-22T00:00:01Z"), []);
        reserve.bench.decide();
        let interval = reserve.interval();
        assert!(
            interval > Duration::from_secs(60) && interval < Duration::from_secs(75),
            "a new day, {interval:?}"
        );
        let kept = reserve.bench.engine.remembered_meters();
        let names: Vec<_> = kept.keys().map(UplinkName::as_str).collect();
        assert_eq!(names, ["lte"]);
    }

    #[test]
    fn one_in_use_is_asked_each_minute_whatever_it_costs() {
        let metered = "id: 2, metered: true, probe: {budget: 10kB}}";
        let mut bench = Bench::new(&YAML.replace("id: 2}", metered));
        bench.rounds(10, &[]);
        bench.decide();
        let (now, counters) = (bench.now(), [(id(2), 20_000)].into());
        assert_eq!(bench.engine.metered(&counters, now).len(), 1);
        let plans = bench.engine.probe_plans();
        let plan = plans.get(&(id(2), Family::Ipv6)).unwrap();
        assert_eq!(plan.interval, Duration::from_secs(60));
    }
}
