//! When rounds are sent, and when an answer is overdue. No clock in here: moments are arguments.
//!
//! A regular round is sent every interval, whether or not the last one is answered. Where one is bad,
//! confirming rounds follow at once and closely, until something answers: so a stumble of the line is
//! told from its death, though no more than the regular rounds decide that it is dead.

use std::time::{Duration, Instant};

use super::ProbePlan;
use super::round_trip::RoundTrip;
use crate::config::ProbeConfig;
use crate::health::{Demand, Places, Round, RoundKind, Verdict};

/// The confirming rounds that go out in the time of one interval, and the least between them.
const CONFIRMING: u32 = 5;
const LEAST_BETWEEN: Duration = Duration::from_millis(100);
/// A regular round that comes later than this is late: those that follow keep their distance.
const LATE: Duration = Duration::from_millis(5);
/// An answer to users' traffic that is not older than this stands for a round; so often is it looked
/// for then.
const ANSWERED_JUST_NOW: Duration = Duration::from_millis(100);
/// How often the wait is doubled before another suspicion is followed.
const LONGEST_WAIT: u32 = 8;

/// What the pace of a plan follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tempo {
    /// From one regular round to the next.
    pub interval: Duration,
    /// How long an answer may take at most.
    pub timeout: Duration,
    /// Targets that must answer for a round to be good.
    pub required: u16,
    /// Bad rounds in a row until down: for as long as that takes, a doubt is looked into.
    pub down_after: u16,
    /// The longest time from one regular round to the next while users' traffic is answered, which
    /// says as much; `None`: no round is left out.
    pub rest: Option<Duration>,
}

impl From<&ProbeConfig> for Tempo {
    fn from(probe: &ProbeConfig) -> Self {
        Self {
            interval: probe.interval,
            timeout: probe.timeout,
            required: probe.required,
            down_after: probe.down_after,
            rest: None,
        }
    }
}

impl From<&ProbePlan> for Tempo {
    fn from(plan: &ProbePlan) -> Self {
        Self {
            interval: plan.interval,
            timeout: plan.timeout,
            required: plan.required,
            down_after: plan.down_after,
            rest: plan.rest,
        }
    }
}

/// The pace of one plan.
#[derive(Clone, Debug)]
pub struct Pace {
    tempo: Tempo,
    next_regular: Instant,
    last_regular: Option<Instant>,
    /// How long after the first round the second one is sent, as long as none has been.
    second: Option<Duration>,
    doubt: Option<Doubt>,
    suspicion: Suspicion,
    /// The youngest round that was good.
    last_good: Option<u64>,
    round_trips: Vec<RoundTrip>,
}

/// Rounds that were sent since users' traffic was not answered, and were answered.
#[derive(Clone, Copy, Debug, Default)]
struct Suspicion {
    /// Nothing is to be suspected before.
    quiet_until: Option<Instant>,
    /// For how many intervals nothing is suspected after the next one.
    intervals: u32,
}

/// The youngest round is bad.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    next: Instant,
    /// By then it is known, one way or the other.
    until: Instant,
}

impl Pace {
    /// The first regular round is sent now, the second one so much later.
    #[must_use]
    pub fn new(tempo: Tempo, targets: usize, now: Instant, second: Duration) -> Self {
        Self {
            tempo: at_least_a_millisecond(tempo),
            next_regular: now,
            last_regular: None,
            second: Some(second),
            doubt: None,
            suspicion: Suspicion::default(),
            last_good: None,
            round_trips: vec![RoundTrip::default(); targets],
        }
    }

    /// Rounds are sent at this tempo from now on; one that is due by it at once.
    pub fn follow(&mut self, tempo: Tempo, now: Instant) {
        self.tempo = at_least_a_millisecond(tempo);
        let due = self
            .last_regular
            .map_or(now, |last| last + self.tempo.interval);
        self.next_regular = self.next_regular.min(due.max(now));
    }

    /// When the next round is to be sent.
    #[must_use]
    pub fn next(&self) -> Instant {
        self.confirming()
            .map_or(self.next_regular, |next| next.min(self.next_regular))
    }

    /// When the next confirming round would be sent.
    fn confirming(&self) -> Option<Instant> {
        self.doubt
            .filter(|doubt| doubt.next <= doubt.until)
            .map(|doubt| doubt.next)
    }

    /// A round is sent now: which one it is.
    pub fn begin(&mut self, now: Instant) -> RoundKind {
        let regular = self.next_regular <= now;
        if let Some(doubt) = &mut self.doubt {
            doubt.next = now + (self.tempo.interval / CONFIRMING).max(LEAST_BETWEEN);
        }
        if !regular {
            return RoundKind::Confirming;
        }
        self.last_regular = Some(now);
        let late = now.saturating_duration_since(self.next_regular) > LATE;
        let from = if late { now } else { self.next_regular };
        self.next_regular = from + self.second.take().unwrap_or(self.tempo.interval);
        RoundKind::Regular
    }

    /// Whether the turn that has come is left out, since users' traffic is answered: `answered`
    /// tells how long ago it was last.
    pub fn rests(&mut self, now: Instant, answered: impl FnOnce() -> Option<Duration>) -> bool {
        let (Some(rest), Some(last)) = (self.tempo.rest, self.last_regular) else {
            return false;
        };
        let may = self.doubt.is_none() && self.next_regular <= now && now < last + rest;
        let rests = may && answered().is_some_and(|age| age <= ANSWERED_JUST_NOW);
        if rests {
            self.next_regular = now + ANSWERED_JUST_NOW.min(self.tempo.interval);
        }
        rests
    }

    /// Users' traffic is not answered: a round is sent at once, and others until one is answered. Where
    /// that proves wrong, less and less of it is believed.
    pub fn suspect(&mut self, now: Instant) {
        let Suspicion {
            quiet_until,
            intervals,
        } = self.suspicion;
        if self.doubt.is_some() || quiet_until.is_some_and(|moment| now < moment) {
            return;
        }
        let calm = |moment: Instant| now > moment + self.tempo.interval * LONGEST_WAIT;
        let intervals = if quiet_until.is_none_or(calm) {
            1
        } else {
            intervals.saturating_mul(2).clamp(1, LONGEST_WAIT)
        };
        self.suspicion = Suspicion {
            quiet_until: Some(now + self.tempo.interval * intervals),
            intervals,
        };
        self.doubt(now);
    }

    /// After which time an answer of a target is overdue.
    #[must_use]
    pub fn overdue_after(&self, place: usize) -> Duration {
        self.round_trips
            .get(place)
            .map_or(self.tempo.timeout, |times| {
                times.overdue_after(self.tempo.timeout)
            })
    }

    /// A target has answered.
    pub fn answered(&mut self, place: usize, rtt: Duration) {
        if let Some(times) = self.round_trips.get_mut(place) {
            times.learn(rtt);
        }
    }

    /// Whether enough targets have answered for a round to be good.
    #[must_use]
    pub fn is_good(&self, round: &Round) -> bool {
        self.verdict(round) == Some(Verdict::Good)
    }

    fn verdict(&self, round: &Round) -> Option<Verdict> {
        round.verdict(Demand {
            required: self.tempo.required,
            aside: Places::NONE,
        })
    }

    /// Takes in what is known of a round.
    pub fn learn(&mut self, round: &Round, now: Instant) {
        match self.verdict(round) {
            Some(Verdict::Good) if self.last_good.is_none_or(|last| last < round.sequence) => {
                self.last_good = Some(round.sequence);
                self.doubt = None;
            }
            Some(Verdict::Bad) if self.last_good.is_none_or(|last| last < round.sequence) => {
                self.doubt(now);
            }
            _ => {}
        }
    }

    /// Something says that the line may be dead.
    fn doubt(&mut self, now: Instant) {
        let takes = self
            .tempo
            .interval
            .saturating_mul(self.tempo.down_after.into())
            + self.tempo.timeout;
        self.doubt.get_or_insert(Doubt {
            next: now,
            until: now + takes,
        });
    }
}

fn at_least_a_millisecond(tempo: Tempo) -> Tempo {
    Tempo {
        interval: tempo.interval.max(Duration::from_millis(1)),
        ..tempo
    }
}

#[cfg(test)]
#[path = "pace_tests.rs"]
mod tests;
