//! Lines in virtual time: what the daemon's own pace, judgement and blame make of what a line does to
//! its probes. Nothing waits; a day takes a fraction of a second.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use failover::config::{ProbeConfig, Target};
use failover::family::Family;
use failover::health::{
    Asked, Blame, Blamed, Failure, Health, Machine, Outcome, PlanNumber, Round, Thresholds,
    Transition,
};
use failover::probe::Pace;
use failover::uplink::UplinkId;

use crate::chance::Chance;

/// What a line does to a probe that is sent at a time after the begin: how long its answer takes;
/// `None` when it is lost.
pub trait Line {
    /// The probe of a target, by its place.
    fn carries(&mut self, at: Duration, place: usize, chance: &mut Chance) -> Option<Duration>;
}

impl<F: FnMut(Duration, usize, &mut Chance) -> Option<Duration>> Line for F {
    fn carries(&mut self, at: Duration, place: usize, chance: &mut Chance) -> Option<Duration> {
        self(at, place, chance)
    }
}

/// Whether something happens that has this chance, in millionths.
pub fn happens(chance: &mut Chance, millionths: u64) -> bool {
    chance.number() % 1_000_000 < millionths
}

/// How long an answer takes on a line that is good.
const RTT: Duration = Duration::from_millis(20);

/// A line that loses one of twenty probes, and all for 0.8 s in every hour.
pub fn rough(at: Duration, _: usize, chance: &mut Chance) -> Option<Duration> {
    let burst = at.as_micros() % 3_600_000_000 < 800_000;
    (!burst && !happens(chance, 50_000)).then_some(RTT)
}

/// A change of an uplink's health.
#[derive(Clone, Debug)]
pub struct Change {
    /// How long after the begin.
    pub at: Duration,
    /// The uplink, by its place.
    pub uplink: usize,
    /// The change.
    pub transition: Transition,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Course {
    /// The changes of health, in their order.
    pub changes: Vec<Change>,
    /// The targets that were blamed or count again.
    pub blamed: Vec<Blamed>,
    /// Rounds that were sent.
    pub rounds: u64,
}

impl Course {
    /// The changes to a state.
    pub fn to(&self, health: Health) -> impl Iterator<Item = &Change> {
        self.changes
            .iter()
            .filter(move |change| change.transition.to == health)
    }
}

/// What happens next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Answer {
        sequence: u64,
        place: usize,
        rtt: Duration,
    },
    Overdue {
        sequence: u64,
        place: usize,
    },
    Lost {
        sequence: u64,
        place: usize,
    },
    Begin,
}

struct Uplink<L> {
    id: UplinkId,
    line: L,
    pace: Pace,
    machine: Machine,
    open: BTreeMap<u64, Round>,
    next: u64,
    /// When the next round is due, as far as that is scheduled.
    due: Option<Instant>,
}

/// Has uplinks probed by a configuration, over lines, for a time.
pub fn run<L: Line>(config: &ProbeConfig, lines: Vec<L>, time: Duration, seed: u64) -> Course {
    let mut chance = Chance::from_seed(seed);
    // Far enough from the clock's begin for moments before it.
    let start = Instant::now() + Duration::from_secs(3600);
    let targets: Arc<[Target]> = config
        .targets
        .iter()
        .filter(|target| matches!(target, Target::Icmp(address) if Family::of(*address) == Family::Ipv4))
        .cloned()
        .collect();
    let mut simulation = Simulation {
        config,
        start,
        targets,
        queue: BinaryHeap::new(),
        blame: Blame::default(),
        course: Course::default(),
    };
    let mut uplinks: Vec<Uplink<L>> = UplinkId::all()
        .zip(lines)
        .map(|(id, line)| {
            let begin = start + chance.up_to(config.interval);
            Uplink {
                id,
                line,
                pace: Pace::new(
                    config.into(),
                    simulation.targets.len(),
                    begin,
                    config.interval,
                ),
                machine: Machine::new(Thresholds::from(config), Health::Unknown),
                open: BTreeMap::new(),
                next: 0,
                due: None,
            }
        })
        .collect();
    for (place, uplink) in uplinks.iter_mut().enumerate() {
        simulation.await_next(place, uplink);
    }
    while let Some(Reverse((at, place, event))) = simulation.queue.pop() {
        if at > time {
            break;
        }
        if let Some(uplink) = uplinks.get_mut(place) {
            simulation.happen(at, place, event, uplink, &mut chance);
        }
        simulation.judge_without_blamed(at, &mut uplinks);
    }
    simulation.course
}

struct Simulation<'c> {
    config: &'c ProbeConfig,
    start: Instant,
    targets: Arc<[Target]>,
    queue: BinaryHeap<Reverse<(Duration, usize, Event)>>,
    blame: Blame,
    course: Course,
}

impl Simulation<'_> {
    fn schedule(&mut self, at: Instant, uplink: usize, event: Event) {
        let at = at.saturating_duration_since(self.start);
        self.queue.push(Reverse((at, uplink, event)));
    }

    fn happen<L: Line>(
        &mut self,
        at: Duration,
        place: usize,
        event: Event,
        uplink: &mut Uplink<L>,
        chance: &mut Chance,
    ) {
        let now = self.start + at;
        let (sequence, target, outcome) = match event {
            Event::Begin => {
                if uplink.due == Some(now) {
                    uplink.due = None;
                    self.begin(at, place, uplink, chance);
                    self.await_next(place, uplink);
                }
                return;
            }
            Event::Answer {
                sequence,
                place,
                rtt,
            } => {
                uplink.pace.answered(place, rtt);
                (sequence, place, Outcome::Answered { rtt })
            }
            Event::Overdue { sequence, place } => (sequence, place, Outcome::Overdue),
            Event::Lost { sequence, place } => (sequence, place, Outcome::Failed(Failure::Timeout)),
        };
        let Some(round) = uplink.open.get_mut(&sequence) else {
            return;
        };
        let Some(known) = round
            .outcomes
            .get_mut(target)
            .filter(|known| !known.is_settled())
        else {
            return;
        };
        *known = outcome;
        uplink.pace.learn(round, now);
        let asked = Asked {
            required: self.config.required,
            down_after: self.config.down_after,
        };
        let blamed = self.blame.learn(uplink.id, Family::Ipv4, asked, round);
        self.course.blamed.extend(blamed);
        let aside = self.blame.aside(uplink.id, Family::Ipv4);
        let changes = [
            uplink.machine.set_aside(now, aside),
            uplink.machine.round(now, round),
        ];
        self.note(at, place, changes);
        if round.is_settled() {
            uplink.open.remove(&sequence);
        }
        self.await_next(place, uplink);
    }

    /// Has the next round sent when it is due, which may be another moment than was thought.
    fn await_next<L>(&mut self, place: usize, uplink: &mut Uplink<L>) {
        let due = uplink.pace.next();
        if uplink.due.replace(due) != Some(due) {
            self.schedule(due, place, Event::Begin);
        }
    }

    fn begin<L: Line>(
        &mut self,
        at: Duration,
        place: usize,
        uplink: &mut Uplink<L>,
        chance: &mut Chance,
    ) {
        let now = self.start + at;
        let sequence = uplink.next;
        uplink.next += 1;
        self.course.rounds += 1;
        let round = Round {
            plan: PlanNumber(1),
            sequence,
            kind: uplink.pace.begin(now),
            sent_at: now,
            targets: Arc::clone(&self.targets),
            outcomes: vec![Outcome::Outstanding; self.targets.len()],
        };
        uplink.open.insert(sequence, round);
        for target in 0..self.targets.len() {
            let takes = uplink.line.carries(at, target, chance);
            let in_time = takes.filter(|takes| *takes < self.config.timeout);
            let overdue = uplink.pace.overdue_after(target);
            if overdue < self.config.timeout && in_time.is_none_or(|takes| overdue < takes) {
                let event = Event::Overdue {
                    sequence,
                    place: target,
                };
                self.schedule(now + overdue, place, event);
            }
            match in_time {
                Some(rtt) => {
                    let event = Event::Answer {
                        sequence,
                        place: target,
                        rtt,
                    };
                    self.schedule(now + rtt, place, event);
                }
                None => {
                    let event = Event::Lost {
                        sequence,
                        place: target,
                    };
                    self.schedule(now + self.config.timeout, place, event);
                }
            }
        }
    }

    /// A target that was blamed for one uplink is to blame for all.
    fn judge_without_blamed<L>(&mut self, at: Duration, uplinks: &mut [Uplink<L>]) {
        let now = self.start + at;
        for (place, uplink) in uplinks.iter_mut().enumerate() {
            let aside = self.blame.aside(uplink.id, Family::Ipv4);
            let change = uplink.machine.set_aside(now, aside);
            self.note(at, place, [change]);
        }
    }

    fn note(
        &mut self,
        at: Duration,
        uplink: usize,
        changes: impl IntoIterator<Item = Option<Transition>>,
    ) {
        let changes = changes.into_iter().flatten();
        self.course.changes.extend(changes.map(|transition| Change {
            at,
            uplink,
            transition,
        }));
    }
}

#[cfg(test)]
#[path = "virtual_line_tests.rs"]
mod tests;
