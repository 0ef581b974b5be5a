//! How often events of one sort are written: an uplink that flaps a thousand times in an hour must not
//! push everything else out of the journal. Beyond the limit they are counted, and told together.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::family::Family;
use crate::journal::event::{Event, Repeated};
use crate::uplink::UplinkName;

/// How many events of one sort are written one by one, whatever their pace.
pub(super) const BURST: u32 = 20;

/// How long it takes until one more of them may be written, or how many were left out.
pub(super) const REFILL: Duration = Duration::from_secs(5 * 60);

/// What counts as one sort: a kind, and for an uplink each family on its own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sort {
    kind: &'static str,
    about: Option<(UplinkName, Family)>,
}

/// What was written, and left out, of one sort.
#[derive(Debug)]
struct Spent {
    /// How many may not be written again yet.
    count: u32,
    /// Since when the oldest of these waits.
    since: Instant,
    left_out: Option<Repeated>,
}

/// What was written and left out lately.
#[derive(Debug, Default)]
pub(super) struct Limit {
    spent: BTreeMap<Sort, Spent>,
}

impl Limit {
    /// Takes in an event. Returns it when it is to be written as it is, and keeps it in mind
    /// otherwise.
    pub(super) fn pass(&mut self, event: Event, at: Instant, wall: Timestamp) -> Option<Event> {
        let Some(sort) = sort(&event) else {
            return Some(event);
        };
        let spent = self.spent.entry(sort.clone()).or_insert(Spent {
            count: 0,
            since: at,
            left_out: None,
        });
        spent.refill(at);
        if spent.left_out.is_none() && spent.spend(at) {
            return Some(event);
        }
        let (since, before) = match &spent.left_out {
            Some(repeated) => (repeated.since, repeated.count),
            None => (wall, 0),
        };
        spent.left_out = Some(repeated(&sort, event, before + 1, since, wall));
        None
    }

    /// When what was left out may be told.
    pub(super) fn due(&self) -> Option<Instant> {
        self.spent
            .values()
            .filter(|spent| spent.left_out.is_some())
            .map(|spent| spent.since + REFILL)
            .min()
    }

    /// What was left out, where it may be told by now.
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Event> {
        self.spent.retain(|_, spent| {
            spent.refill(now);
            spent.count > 0 || spent.left_out.is_some()
        });
        self.spent
            .values_mut()
            .filter_map(|spent| {
                let told = spent.left_out.is_some() && spent.spend(now);
                spent.left_out.take_if(|_| told)
            })
            .map(Event::Repeated)
            .collect()
    }

    /// Everything that was left out and not told: nothing comes after this.
    pub(super) fn take_all(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.spent)
            .into_values()
            .filter_map(|spent| spent.left_out)
            .map(Event::Repeated)
            .collect()
    }
}

impl Spent {
    fn refill(&mut self, now: Instant) {
        while self.count > 0 && now.saturating_duration_since(self.since) >= REFILL {
            self.count -= 1;
            self.since += REFILL;
        }
    }

    fn spend(&mut self, now: Instant) -> bool {
        if self.count == 0 {
            self.since = now;
        }
        let may = self.count < BURST;
        self.count += u32::from(may);
        may
    }
}

/// `None` for what is always written.
fn sort(event: &Event) -> Option<Sort> {
    let kind = match event {
        Event::State { .. } => "state",
        Event::Drain { .. } => "drain",
        Event::Target { .. } => "target",
        Event::Trusted { .. } => "trusted",
        Event::ByHand { .. } => "by_hand",
        Event::Flushed { .. } => "flushed",
        Event::Budget { .. } => "budget",
        Event::Reloaded { .. } => "reloaded",
        Event::ReloadRefused { .. } => "reload_refused",
        Event::SetReloaded { .. } => "set_reloaded",
        Event::SetRefused { .. } => "set_refused",
        Event::Repaired { .. } => "repaired",
        Event::Problem { .. } => "problem",
        Event::Solved => "solved",
        Event::Offline => "offline",
        Event::Online => "online",
        Event::NotNotified { .. } => "not_notified",
        Event::Started { .. }
        | Event::Stopped { .. }
        | Event::Fallback { .. }
        | Event::Repeated(_)
        | Event::Missed { .. }
        | Event::Other => return None,
    };
    let about = event.uplink().cloned().zip(event.family());
    Some(Sort { kind, about })
}

/// What is told instead of `count` events, `last` being the last of them.
fn repeated(sort: &Sort, last: Event, count: u64, since: Timestamp, until: Timestamp) -> Repeated {
    let (from, to, reason) = match last {
        Event::State {
            from, to, reason, ..
        } => (Some(from), Some(to), Some(reason)),
        Event::ReloadRefused { reason }
        | Event::SetRefused { reason, .. }
        | Event::NotNotified { reason, .. }
        | Event::Repaired { reason }
        | Event::Problem { reason } => (None, None, Some(reason)),
        Event::Target { target, aside, .. } => {
            let what = if aside {
                "is set aside"
            } else {
                "counts again"
            };
            (None, None, Some(format!("{target} {what}")))
        }
        _ => (None, None, None),
    };
    let (uplink, family) = sort.about.clone().unzip();
    Repeated {
        of: sort.kind.to_owned(),
        count,
        since,
        until,
        uplink,
        family,
        from,
        to,
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::State;

    /// A uplink's change, the `n`th: up to down, then down to up.
    fn change(name: &str, n: u64) -> Event {
        let (from, to) = if n.is_multiple_of(2) {
            (State::Up, State::Down)
        } else {
            (State::Down, State::Up)
        };
        Event::State {
            uplink: name.parse().unwrap(),
            family: Family::Ipv4,
            from,
            to,
            reason: format!("change {n}"),
        }
    }

    /// Two clocks that run together.
    struct Clock {
        at: Instant,
        wall: Timestamp,
    }

    impl Clock {
        fn new() -> Self {
            Self {
                at: Instant::now(),
                wall: "2026-11-21T00:00:00Z".parse().unwrap(),
            }
        }

        fn pass(&mut self, time: Duration) {
            self.at += time;
            self.wall += time;
        }
    }

    /// What is written of a flapping uplink, with its moments, until nothing is left to tell.
    fn flapping(times: u64, pace: Duration) -> Vec<(Timestamp, Event)> {
        let (mut limit, mut clock) = (Limit::default(), Clock::new());
        let mut written = Vec::new();
        let mut n = 0;
        while n < times || limit.due().is_some() {
            if n < times {
                let passed = limit.pass(change("lte", n), clock.at, clock.wall);
                written.extend(passed.map(|event| (clock.wall, event)));
                n += 1;
            }
            clock.pass(pace);
            let due = limit.take_due(clock.at);
            written.extend(due.into_iter().map(|event| (clock.wall, event)));
        }
        written
    }

    #[test]
    fn a_thousand_changes_in_an_hour_are_a_few_lines_and_none_is_uncounted() {
        let written = flapping(1_000, Duration::from_millis(3_600));
        // The first twenty, and one for each five minutes.
        assert!((30..=33).contains(&written.len()), "{}", written.len());
        let mut counted = 0;
        for (_, event) in &written {
            counted += match event {
                Event::Repeated(repeated) => repeated.count,
                _ => 1,
            };
        }
        assert_eq!(counted, 1_000);
        let Some((_, Event::Repeated(last))) = written.last() else {
            panic!("the last is a summary: {written:?}");
        };
        assert_eq!((last.to, last.of.as_str()), (Some(State::Up), "state"));
        assert_eq!(last.reason.as_deref(), Some("change 999"));
        assert!(last.since < last.until);
    }

    #[test]
    fn changes_that_come_seldom_are_all_written() {
        let written = flapping(500, REFILL);
        assert_eq!(written.len(), 500);
        assert!(
            written
                .iter()
                .all(|(_, event)| matches!(event, Event::State { .. }))
        );
    }

    #[test]
    fn what_was_left_out_is_told_soon_after_it_ended() {
        let (mut limit, mut clock) = (Limit::default(), Clock::new());
        for n in 0..u64::from(BURST) {
            assert!(limit.pass(change("lte", n), clock.at, clock.wall).is_some());
        }
        assert_eq!(limit.due(), None);
        let event = change("lte", 20);
        assert_eq!(limit.pass(event, clock.at, clock.wall), None);
        assert_eq!(limit.due(), Some(clock.at + REFILL));
        assert_eq!(limit.take_due(clock.at), []);
        clock.pass(REFILL);
        let told = limit.take_due(clock.at);
        assert!(
            matches!(told.as_slice(), [Event::Repeated(one)] if one.count == 1),
            "{told:?}"
        );
        assert_eq!(limit.due(), None);
    }

    #[test]
    fn one_uplink_costs_no_other_its_lines() {
        let (mut limit, clock) = (Limit::default(), Clock::new());
        for n in 0..1_000 {
            limit.pass(change("lte", n), clock.at, clock.wall);
        }
        let event = change("fiber", 0);
        let passed = limit.pass(event.clone(), clock.at, clock.wall);
        assert_eq!(passed, Some(event));
        let event = Event::Solved;
        let passed = limit.pass(event.clone(), clock.at, clock.wall);
        assert_eq!(passed, Some(event));
        let told = limit.take_all();
        assert!(
            matches!(told.as_slice(), [Event::Repeated(all)] if all.count == 980),
            "{told:?}"
        );
    }

    #[test]
    fn a_quiet_time_gives_all_lines_back() {
        let (mut limit, mut clock) = (Limit::default(), Clock::new());
        for n in 0..u64::from(BURST) {
            limit.pass(change("lte", n), clock.at, clock.wall);
        }
        clock.pass(REFILL * BURST);
        assert_eq!(limit.take_due(clock.at), []);
        assert!(limit.spent.is_empty(), "nothing is kept in mind for ever");
        for n in 0..u64::from(BURST) {
            assert!(limit.pass(change("lte", n), clock.at, clock.wall).is_some());
        }
    }
}
