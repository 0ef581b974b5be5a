//! Plays a trace: the same judgement is told the same in the same order, at the trace's own times, and
//! beside it one with other settings.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::config::Target;
use crate::family::{Family, PerFamily};
use crate::health::{Health, Machine, Thresholds, Transition};
use crate::replay::course::{Course, Stamp, state};
use crate::replay::format::{Begin, Clock, Entry, Known, Line, Observation};
use crate::status::State;

/// A clock that differs by no more than this was not set.
const SET: SignedDuration = SignedDuration::from_secs(2);

/// A time of which the trace says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The last that was told before.
    pub since: Timestamp,
    /// The first that was told after.
    pub until: Timestamp,
    /// Entries that are known to be lost.
    pub missed: u64,
}

/// The clock on the wall was set, or the host was suspended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Jump {
    /// What it would have said.
    pub from: Timestamp,
    /// What it said.
    pub to: Timestamp,
}

/// A time in which other settings would have made another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// From when.
    pub since: Timestamp,
    /// Until when.
    pub until: Timestamp,
    /// For how long.
    #[serde(rename = "seconds", serialize_with = "super::report::seconds")]
    pub lasted: Duration,
    /// The state with the settings of the trace.
    pub own: State,
    /// The state with the others.
    pub other: State,
}

/// A trace that is played.
#[derive(Debug)]
pub struct Replay {
    /// What would have been required otherwise.
    other: Option<Thresholds>,
    /// The first begin.
    first: Option<Begin>,
    /// Which run and part is played.
    part: Option<(i64, u64)>,
    /// What the clock on the wall said when.
    anchor: Stamp,
    last: Stamp,
    families: PerFamily<Option<FamilyReplay>>,
    /// Times of which nothing is told.
    pub gaps: Vec<Gap>,
    /// The clock on the wall was set.
    pub jumps: Vec<Jump>,
}

/// A family that is played.
#[derive(Debug)]
pub struct FamilyReplay {
    own: Played,
    other: Option<Played>,
    targets: Arc<[Target]>,
    /// It was present at some time.
    seen: bool,
    last: i64,
    /// What was said to the last entry, as long as the trace has not told whether it was so.
    pending: Option<(Stamp, Transition)>,
    /// Where what is said now differs from what was said then.
    pub contradictions: Vec<String>,
    /// Where the two courses differ.
    pub differences: Vec<Difference>,
}

#[derive(Debug)]
struct Played {
    machine: Machine,
    present: bool,
    course: Course,
}

impl Replay {
    /// Nothing is played yet. `other`: beside it, with these settings.
    #[must_use]
    pub const fn new(other: Option<Thresholds>) -> Self {
        const NOWHEN: Stamp = Stamp {
            at: 0,
            wall: Timestamp::UNIX_EPOCH,
        };
        Self {
            other,
            first: None,
            part: None,
            anchor: NOWHEN,
            last: NOWHEN,
            families: PerFamily {
                ipv4: None,
                ipv6: None,
            },
            gaps: Vec::new(),
            jumps: Vec::new(),
        }
    }

    /// Plays a line. What comes before the first begin says nothing.
    pub fn play(&mut self, line: Line) {
        match line {
            Line::Begin(begin) => self.begin(*begin),
            _ if self.first.is_none() => {}
            Line::Clock(clock) => self.clock(clock),
            Line::Entry(entry) => self.entry(&entry),
        }
    }

    /// The begin of the trace; `None` as long as there was none.
    #[must_use]
    pub const fn first(&self) -> Option<&Begin> {
        self.first.as_ref()
    }

    /// The last moment of which it tells.
    #[must_use]
    pub const fn end(&self) -> Timestamp {
        self.last.wall
    }

    /// What was played of the families in which the uplink was present.
    pub fn families(&self) -> impl Iterator<Item = (Family, &FamilyReplay)> {
        self.families
            .iter()
            .filter_map(|(family, played)| Some((family, played.as_ref()?)))
            .filter(|(_, played)| played.seen)
    }

    fn begin(&mut self, begin: Begin) {
        let part = (begin.run, begin.part);
        let goes_on = begin.missed == 0
            && self
                .part
                .is_some_and(|(run, before)| (run, before.saturating_add(1)) == part);
        self.part = Some(part);
        if goes_on {
            // All that it says is known.
            return;
        }
        let now = Stamp {
            at: begin.at,
            wall: begin.wall,
        };
        if self.first.is_some() {
            self.gaps.push(Gap {
                since: self.last.wall,
                until: now.wall,
                missed: begin.missed,
            });
        }
        self.anchor = now;
        self.last = now;
        for family in Family::ALL {
            let known = begin.families.get(family);
            let other = self.other;
            match self.families.get_mut(family) {
                Some(played) => played.resume(known, other, now),
                none => *none = Some(FamilyReplay::new(known, other, now)),
            }
        }
        if self.first.is_none() {
            self.first = Some(begin);
        }
    }

    fn clock(&mut self, clock: Clock) {
        let expected = self.stamp(clock.clock).wall;
        let difference = clock.wall.duration_since(expected);
        if difference.abs() > SET {
            self.jumps.push(Jump {
                from: expected,
                to: clock.wall,
            });
        }
        self.anchor = Stamp {
            at: clock.clock,
            wall: clock.wall,
        };
        self.last = self.anchor;
    }

    fn entry(&mut self, entry: &Entry) {
        let now = self.stamp(entry.0);
        // Families are told one after the other.
        if now.at > self.last.at {
            self.last = now;
        }
        if let Some(played) = self.families.get_mut(entry.1) {
            played.play(now, entry);
        }
    }

    fn stamp(&self, at: i64) -> Stamp {
        let since = SignedDuration::from_nanos(at.saturating_sub(self.anchor.at));
        let wall = self.anchor.wall.checked_add(since);
        Stamp {
            at,
            wall: wall.unwrap_or(self.anchor.wall),
        }
    }
}

impl FamilyReplay {
    fn new(known: &Known, other: Option<Thresholds>, now: Stamp) -> Self {
        Self {
            own: Played::new(known, None),
            other: other.map(|thresholds| Played::new(known, Some(thresholds))),
            targets: Arc::clone(&known.targets),
            seen: known.present,
            last: now.at,
            pending: None,
            contradictions: Vec::new(),
            differences: Vec::new(),
        }
    }

    /// Goes on after a gap, by what is known then.
    fn resume(&mut self, known: &Known, other: Option<Thresholds>, now: Stamp) {
        self.targets = Arc::clone(&known.targets);
        self.seen |= known.present;
        self.last = now.at;
        self.pending = None;
        self.own.resume(known, None, now);
        if let Some(played) = &mut self.other {
            played.resume(known, other, now);
        }
    }

    /// The course with the settings of the trace.
    #[must_use]
    pub const fn own(&self) -> &Course {
        &self.own.course
    }

    /// The course with the other settings.
    #[must_use]
    pub fn other(&self) -> Option<&Course> {
        self.other.as_ref().map(|played| &played.course)
    }

    fn play(&mut self, now: Stamp, entry: &Entry) {
        self.time_passes(now);
        let what = &entry.2;
        if let Observation::Verdict(from, to, reason) = what {
            self.compare(now, (*from, *to, reason));
            return;
        }
        self.unsaid();
        match what {
            Observation::Targets(targets) => self.targets = targets.as_slice().into(),
            Observation::Present(present) => self.seen |= present,
            _ => {}
        }
        let said = self.own.hear(now, entry, &self.targets, true);
        self.pending = said.map(|said| (now, said));
        if let Some(other) = &mut self.other {
            other.hear(now, entry, &self.targets, false);
        }
    }

    /// Counts the time since the last entry. A clock that goes back counts for nothing.
    fn time_passes(&mut self, now: Stamp) {
        let passed = now.at.saturating_sub(self.last);
        let Ok(nanoseconds) = u64::try_from(passed) else {
            return;
        };
        self.last = now.at;
        let time = Duration::from_nanos(nanoseconds);
        self.own.course.goes_on(time);
        let Some(other) = &mut self.other else { return };
        other.course.goes_on(time);
        let states = (self.own.course.state, other.course.state);
        if states.0 == states.1 || time.is_zero() {
            return;
        }
        let back = SignedDuration::from_nanos(passed);
        let since = now.wall.checked_sub(back).unwrap_or(now.wall);
        match self.differences.last_mut() {
            Some(last) if (last.own, last.other, last.until) == (states.0, states.1, since) => {
                last.until = now.wall;
                last.lasted = last.lasted.saturating_add(time);
            }
            _ => self.differences.push(Difference {
                since,
                until: now.wall,
                lasted: time,
                own: states.0,
                other: states.1,
            }),
        }
    }

    fn compare(&mut self, now: Stamp, (from, to, reason): (Health, Health, &str)) {
        let recorded = format!("{from} → {to}, {reason}");
        match self.pending.take() {
            Some((then, said)) => {
                let said = format!("{} → {}, {}", said.from, said.to, said.reason);
                if said != recorded || then.at != now.at {
                    self.contradictions.push(format!(
                        "{:.3}: recorded `{recorded}`, played `{said}`",
                        now.wall
                    ));
                }
            }
            None => self.contradictions.push(format!(
                "{:.3}: recorded `{recorded}`, played nothing",
                now.wall
            )),
        }
    }

    /// What was said is not in the trace. (At its very end it may just not be there yet.)
    fn unsaid(&mut self) {
        if let Some((then, said)) = self.pending.take() {
            self.contradictions.push(format!(
                "{:.3}: recorded nothing, played `{} → {}, {}`",
                then.wall, said.from, said.to, said.reason
            ));
        }
    }
}

impl Played {
    fn new(known: &Known, other: Option<Thresholds>) -> Self {
        let machine = machine(known, other);
        Self {
            present: known.present,
            course: Course::new(state(&machine, known.present)),
            machine,
        }
    }

    fn resume(&mut self, known: &Known, other: Option<Thresholds>, now: Stamp) {
        self.machine = machine(known, other);
        self.present = known.present;
        let state = state(&self.machine, self.present);
        self.course
            .becomes(now, state, || "so it was after a gap".to_owned());
    }

    /// Takes in an entry. Whose settings are `own` follows those of the trace.
    fn hear(
        &mut self,
        now: Stamp,
        entry: &Entry,
        targets: &Arc<[Target]>,
        own: bool,
    ) -> Option<Transition> {
        let at = entry.at();
        let machine = &mut self.machine;
        let said = match &entry.2 {
            what @ Observation::Round(..) => {
                let round = what.round(targets);
                round.and_then(|round| machine.round(at, &round))
            }
            Observation::Aside(places) => machine.set_aside(at, *places),
            Observation::Traffic(news) => {
                machine.traffic(at, *news);
                None
            }
            Observation::Forgiven => machine.forgive(at),
            Observation::LinkLost(why) => machine.link_lost(at, why.clone()),
            Observation::LinkBack => {
                machine.link_back(at);
                None
            }
            Observation::PathChanged => {
                machine.path_changed(at);
                None
            }
            Observation::Thresholds(thresholds) => {
                if own {
                    machine.set_thresholds(*thresholds);
                }
                None
            }
            Observation::Anew(thresholds, initial) => {
                let thresholds = if own {
                    *thresholds
                } else {
                    machine.thresholds()
                };
                *machine = Machine::new(thresholds, *initial);
                None
            }
            Observation::Present(present) => {
                self.present = *present;
                None
            }
            Observation::Targets(_) | Observation::Verdict(..) => None,
        };
        let state = state(&self.machine, self.present);
        let machine = &self.machine;
        self.course.becomes(now, state, || {
            let reason = said.as_ref().map(|said| said.reason.clone());
            match state {
                State::Absent => "no way, or not probed".to_owned(),
                _ => reason.unwrap_or_else(|| machine.reason(at)).to_string(),
            }
        });
        said
    }
}

/// The judgement as it was, with other settings if there are any.
fn machine(known: &Known, other: Option<Thresholds>) -> Machine {
    let mut machine = known.machine.clone();
    // Even the same settings, told once more, would touch what is remembered.
    if let Some(thresholds) = other.filter(|other| *other != machine.thresholds()) {
        machine.set_thresholds(thresholds);
    }
    machine
}
