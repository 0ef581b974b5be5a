//! When rounds are sent, and when an answer is overdue. No clock in here: moments are arguments.
//!
//! A regular round is sent every interval, whether or not the last one is answered. Where one is bad,
//! confirming rounds follow at once and closely, until something answers: so a stumble of the line is
//! told from its death, though no more than the regular rounds decide that it is dead.

use std::time::{Duration, Instant};

use super::round_trip::RoundTrip;
use super::{ProbePlan, phase};
use crate::health::{Demand, Places, Round, RoundKind, Verdict};

/// The confirming rounds that go out in the time of one interval, and the least between them.
const CONFIRMING: u32 = 5;
const LEAST_BETWEEN: Duration = Duration::from_millis(100);
/// A regular round that comes later than this is late: those that follow keep their distance.
const LATE: Duration = Duration::from_millis(5);

/// The pace of one plan.
#[derive(Clone, Debug)]
pub(super) struct Pace {
    interval: Duration,
    timeout: Duration,
    demand: Demand,
    down_after: u16,
    next_regular: Instant,
    /// How long after the first round the second one is sent, as long as none has been.
    second: Option<Duration>,
    doubt: Option<Doubt>,
    /// The youngest round that was good.
    last_good: Option<u64>,
    round_trips: Vec<RoundTrip>,
}

/// The youngest round is bad.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    next: Instant,
    /// By then it is known, one way or the other.
    until: Instant,
}

impl Pace {
    /// The first regular round is sent now.
    pub(super) fn new(plan: &ProbePlan, targets: usize, now: Instant) -> Self {
        Self {
            interval: plan.interval.max(Duration::from_millis(1)),
            timeout: plan.timeout,
            demand: Demand {
                required: plan.required,
                aside: Places::NONE,
            },
            down_after: plan.down_after,
            next_regular: now,
            second: Some(phase::second_round(plan.uplink, plan.family, plan.interval)),
            doubt: None,
            last_good: None,
            round_trips: vec![RoundTrip::default(); targets],
        }
    }

    /// Rounds are sent at the pace of this plan from now on.
    pub(super) fn follow(&mut self, plan: &ProbePlan, now: Instant) {
        self.interval = plan.interval.max(Duration::from_millis(1));
        self.demand.required = plan.required;
        self.down_after = plan.down_after;
        self.next_regular = self.next_regular.min(now + self.interval);
    }

    /// When the next round is to be sent.
    pub(super) fn next(&self) -> Instant {
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
    pub(super) fn begin(&mut self, now: Instant) -> RoundKind {
        let regular = self.next_regular <= now;
        if let Some(doubt) = &mut self.doubt {
            doubt.next = now + (self.interval / CONFIRMING).max(LEAST_BETWEEN);
        }
        if !regular {
            return RoundKind::Confirming;
        }
        let late = now.saturating_duration_since(self.next_regular) > LATE;
        let from = if late { now } else { self.next_regular };
        self.next_regular = from + self.second.take().unwrap_or(self.interval);
        RoundKind::Regular
    }

    /// After which time an answer of a target is overdue.
    pub(super) fn overdue_after(&self, place: usize) -> Duration {
        self.round_trips
            .get(place)
            .map_or(self.timeout, |times| times.overdue_after(self.timeout))
    }

    /// A target has answered.
    pub(super) fn answered(&mut self, place: usize, rtt: Duration) {
        if let Some(times) = self.round_trips.get_mut(place) {
            times.learn(rtt);
        }
    }

    /// Takes in what is known of a round.
    pub(super) fn learn(&mut self, round: &Round, now: Instant) {
        match round.verdict(self.demand) {
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
        let takes = self.interval.saturating_mul(self.down_after.into()) + self.timeout;
        self.doubt.get_or_insert(Doubt {
            next: now,
            until: now + takes,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::{Outcome, PlanNumber};

    const INTERVAL: Duration = Duration::from_millis(500);

    struct Bench {
        pace: Pace,
        start: Instant,
        sequence: u64,
    }

    impl Bench {
        fn new() -> Self {
            let start = Instant::now();
            let plan = crate::probe::tests::plan(INTERVAL);
            Self {
                pace: Pace {
                    second: None,
                    ..Pace::new(&plan, 1, start)
                },
                start,
                sequence: 0,
            }
        }

        /// The rounds that are sent up to a moment, each with its outcome a tenth of a second later.
        fn sent(&mut self, until_ms: u64, answered: impl Fn(u64) -> bool) -> Vec<(u64, RoundKind)> {
            let mut sent = Vec::new();
            let mut open: Vec<(Instant, u64, bool)> = Vec::new();
            loop {
                let known = open
                    .first()
                    .map(|(sent_at, ..)| *sent_at + Duration::from_millis(100));
                let now = known.map_or(self.pace.next(), |known| known.min(self.pace.next()));
                let ms = u64::try_from((now - self.start).as_millis()).unwrap();
                if ms > until_ms {
                    return sent;
                }
                if known == Some(now) {
                    let (sent_at, sequence, good) = open.remove(0);
                    let outcome = if good {
                        Outcome::Answered {
                            rtt: Duration::from_millis(4),
                        }
                    } else {
                        Outcome::Overdue
                    };
                    let round = Round {
                        plan: PlanNumber(1),
                        sequence,
                        kind: RoundKind::Regular,
                        sent_at,
                        targets: crate::probe::tests::targets(),
                        outcomes: vec![outcome],
                    };
                    self.pace.learn(&round, now);
                    continue;
                }
                sent.push((ms, self.pace.begin(now)));
                open.push((now, self.sequence, answered(ms)));
                self.sequence += 1;
            }
        }
    }

    #[test]
    fn as_long_as_all_is_well_there_is_a_round_each_interval() {
        let sent = Bench::new().sent(2000, |_| true);
        let regular = |ms| (ms, RoundKind::Regular);
        assert_eq!(sent, [0, 500, 1000, 1500, 2000].map(regular));
    }

    #[test]
    fn a_bad_round_is_followed_closely_until_one_is_answered() {
        let sent = Bench::new().sent(2000, |ms| !(500..800).contains(&ms));
        let moments: Vec<u64> = sent.iter().map(|(ms, _)| *ms).collect();
        assert_eq!(moments, [0, 500, 600, 700, 800, 1000, 1500, 2000]);
        let confirming = sent
            .iter()
            .filter(|(_, kind)| *kind == RoundKind::Confirming);
        assert_eq!(confirming.count(), 3);
    }

    #[test]
    fn silence_that_lasts_is_asked_at_the_interval_again() {
        let sent = Bench::new().sent(6000, |_| false);
        let late: Vec<_> = sent.iter().filter(|(ms, _)| *ms > 3000).copied().collect();
        assert_eq!(late.len(), 6, "{sent:?}");
        assert!(late.iter().all(|(_, kind)| *kind == RoundKind::Regular));
    }

    #[test]
    fn rounds_that_were_missed_are_left_out_and_the_others_keep_their_distance() {
        let mut bench = Bench::new();
        let at = |ms| bench.start + Duration::from_millis(ms);
        assert_eq!(bench.pace.begin(at(0)), RoundKind::Regular);
        assert_eq!(bench.pace.begin(at(1700)), RoundKind::Regular);
        assert_eq!(bench.pace.next(), at(2200));
    }

    #[test]
    fn another_interval_counts_from_now() {
        let mut bench = Bench::new();
        let at = |ms| bench.start + Duration::from_millis(ms);
        let plan = |interval| crate::probe::tests::plan(interval);
        bench.pace.follow(&plan(Duration::from_secs(5)), at(0));
        bench.pace.begin(at(0));
        assert_eq!(bench.pace.next(), at(5000));
        bench.pace.follow(&plan(INTERVAL), at(600));
        assert_eq!(bench.pace.next(), at(1100));
    }
}
