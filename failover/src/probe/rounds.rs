//! The task of one plan: begins rounds, gathers outcomes, reports.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::sleep_until;

use super::kinds::Questions;
use super::pace::{Pace, Tempo};
use super::{ProbePlan, Report, Witness, phase};
use crate::config::Target;
use crate::health::{Failure, Outcome, PlanNumber, Round};

/// Answers to a round that is good already are told together with those that come within this time.
const GATHER: Duration = Duration::from_millis(20);

/// What a running plan is told from outside.
pub(super) struct Told {
    /// The plan, whose pace may change.
    pub(super) followed: watch::Receiver<ProbePlan>,
    /// Where the grid begins to which the rounds of all plans keep.
    pub(super) began: Instant,
    /// Users' traffic is not answered.
    pub(super) suspicion: Arc<Notify>,
    /// Who knows when it is.
    pub(super) witness: Option<Arc<dyn Witness>>,
}

/// Probes by the plan until nobody listens any more or the task is aborted; all that it started ends
/// with it.
pub(super) async fn run(told: Told, number: PlanNumber, reports: mpsc::Sender<Report>) {
    let Told {
        mut followed,
        began,
        suspicion,
        witness,
    } = told;
    let plan = followed.borrow_and_update().clone();
    let targets: Arc<[Target]> = plan
        .targets
        .iter()
        .filter(|target| target.is_asked_in(plan.family))
        .cloned()
        .collect();
    if targets.is_empty() {
        return;
    }
    let now = Instant::now();
    let mut pace = Pace::new(
        Tempo::from(&plan),
        targets.len(),
        now,
        phase::second_round(
            plan.uplink,
            plan.family,
            plan.interval,
            now.saturating_duration_since(began),
        ),
    );
    let mut rounds = Rounds {
        questions: Questions::new(&plan),
        witness,
        plan,
        number,
        targets,
        reports,
        order: RandomState::new(),
        next_round: 0,
        open: BTreeMap::new(),
        waiting: BTreeSet::new(),
        untold: BTreeMap::new(),
        asked: HashMap::new(),
        echoes: JoinSet::new(),
    };
    loop {
        let due = rounds
            .next_due()
            .map_or(pace.next(), |due| due.min(pace.next()));
        let listened = tokio::select! {
            () = sleep_until(due.into()) => rounds.on_time(&mut pace).await,
            Some(done) = rounds.echoes.join_next_with_id() => rounds.ended(done, &mut pace).await,
            Ok(()) = followed.changed() => {
                pace.follow(Tempo::from(&*followed.borrow_and_update()), Instant::now());
                Ok(())
            }
            () = suspicion.notified() => {
                pace.suspect(Instant::now());
                Ok(())
            }
        };
        if listened.is_err() {
            return;
        }
    }
}

/// Nobody receives reports any more.
struct NobodyListens;

struct Rounds {
    plan: ProbePlan,
    questions: Questions,
    witness: Option<Arc<dyn Witness>>,
    number: PlanNumber,
    targets: Arc<[Target]>,
    reports: mpsc::Sender<Report>,
    /// Makes the order in which targets are asked another one each time.
    order: RandomState,
    next_round: u64,
    /// Rounds of which not all is known.
    open: BTreeMap<u64, Round>,
    /// When the answers of which round's targets (by their places) are overdue.
    waiting: BTreeSet<(Instant, u64, usize)>,
    /// Rounds of which there is news that can wait, and by when it is told.
    untold: BTreeMap<u64, Instant>,
    /// Which task asks which target of which round.
    asked: HashMap<Id, (u64, usize)>,
    echoes: JoinSet<Outcome>,
}

impl Rounds {
    fn next_due(&self) -> Option<Instant> {
        let overdue = self.waiting.first().map(|(due, ..)| *due);
        overdue
            .into_iter()
            .chain(self.untold.values().copied())
            .min()
    }

    /// Does what is due: answers may be overdue, news may have waited, and a round may be to be sent.
    async fn on_time(&mut self, pace: &mut Pace) -> Result<(), NobodyListens> {
        let now = Instant::now();
        let mut changed = BTreeSet::new();
        while let Some(&(due, sequence, place)) = self.waiting.first()
            && due <= now
        {
            self.waiting.pop_first();
            changed.extend(self.note(sequence, place, Outcome::Overdue));
        }
        let ripe = self.untold.iter().filter(|(_, due)| **due <= now);
        changed.extend(ripe.map(|(sequence, _)| *sequence));
        self.tell(changed, pace).await?;
        if pace.next() <= now && !pace.rests(now, || self.answered()) {
            self.begin(pace);
        }
        Ok(())
    }

    /// How long ago users' traffic was answered.
    fn answered(&self) -> Option<Duration> {
        let witness = self.witness.as_ref()?;
        let answered = witness.answered(self.plan.uplink, self.plan.family)?;
        Some(answered.age)
    }

    /// Asks all targets at once.
    fn begin(&mut self, pace: &mut Pace) {
        let sequence = self.next_round;
        self.next_round = sequence.saturating_add(1);
        let sent_at = Instant::now();
        let kind = pace.begin(sent_at);
        let round = Round {
            plan: self.number,
            sequence,
            kind,
            sent_at,
            targets: Arc::clone(&self.targets),
            outcomes: vec![Outcome::Outstanding; self.targets.len()],
        };
        self.open.insert(sequence, round);
        let mut order: Vec<usize> = (0..self.targets.len()).collect();
        order.sort_by_cached_key(|place| self.order.hash_one((sequence, place)));
        for place in order {
            let Some(target) = self.targets.get(place) else {
                continue;
            };
            let asked = self.questions.ask(target, self.plan.timeout);
            let id = self.echoes.spawn(asked).id();
            self.asked.insert(id, (sequence, place));
            let overdue_after = pace.overdue_after(place);
            if overdue_after < self.plan.timeout {
                self.waiting
                    .insert((sent_at + overdue_after, sequence, place));
            }
        }
    }

    /// Takes in what came of a probe, and of those that have ended meanwhile.
    async fn ended(
        &mut self,
        done: Result<(Id, Outcome), JoinError>,
        pace: &mut Pace,
    ) -> Result<(), NobodyListens> {
        let mut changed = BTreeSet::new();
        let mut next = Some(done);
        while let Some(done) = next {
            let (task, outcome) = done.unwrap_or_else(|broken| {
                let why = Failure::NotSent(format!("the probe broke off: {broken}"));
                (broken.id(), Outcome::Failed(why))
            });
            if let Some((sequence, place)) = self.asked.remove(&task) {
                let mut can_wait = false;
                if let Outcome::Answered { rtt } = outcome {
                    pace.answered(place, rtt);
                    let round = self.open.get(&sequence);
                    can_wait = round.is_some_and(|round| pace.is_good(round));
                }
                let news = self.note(sequence, place, outcome);
                let all_known = self.open.get(&sequence).is_none_or(Round::is_settled);
                if can_wait && !all_known {
                    let by = || Instant::now() + GATHER;
                    self.untold.entry(sequence).or_insert_with(by);
                } else {
                    changed.extend(news);
                }
            }
            next = self.echoes.try_join_next_with_id();
        }
        self.tell(changed, pace).await
    }

    /// Puts an outcome to its round; returns the round if that is news.
    fn note(&mut self, sequence: u64, place: usize, outcome: Outcome) -> Option<u64> {
        let known = self.open.get_mut(&sequence)?.outcomes.get_mut(place)?;
        if known.is_settled() {
            return None;
        }
        *known = outcome;
        Some(sequence)
    }

    /// Reports rounds of which there is news; those of which all is known are forgotten.
    async fn tell(&mut self, changed: BTreeSet<u64>, pace: &mut Pace) -> Result<(), NobodyListens> {
        for sequence in changed {
            self.untold.remove(&sequence);
            let Some(round) = self.open.get(&sequence) else {
                continue;
            };
            pace.learn(round, Instant::now());
            let round = if round.is_settled() {
                self.waiting.retain(|(_, waiting, _)| *waiting != sequence);
                self.open.remove(&sequence)
            } else {
                Some(round.clone())
            };
            if let Some(round) = round {
                self.report(round).await?;
            }
        }
        Ok(())
    }

    async fn report(&self, round: Round) -> Result<(), NobodyListens> {
        let report = Report {
            uplink: self.plan.uplink,
            family: self.plan.family,
            round,
        };
        self.reports.send(report).await.map_err(|_| NobodyListens)
    }
}
