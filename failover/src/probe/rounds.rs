//! The task of one plan: begins rounds, gathers outcomes, reports.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{info, warn};

use super::icmp::IcmpSocket;
use super::identifier::{self, Identifier};
use super::{ProbePlan, Report, phase};
use crate::config::Target;
use crate::family::Family;
use crate::health::{Failure, Outcome, PlanNumber, Round, TargetResult};

/// Probes by `plan` until nobody listens any more or the task is aborted; all that it started ends
/// with it.
pub(super) async fn run(plan: ProbePlan, number: PlanNumber, reports: mpsc::Sender<Report>) {
    let targets: Vec<Target> = plan
        .targets
        .iter()
        .filter(|target| family_of(target) == plan.family)
        .cloned()
        .collect();
    if targets.is_empty() {
        return;
    }
    let interval = plan.interval.max(Duration::from_millis(1));
    let second = Instant::now() + phase::second_round(plan.uplink, plan.family, interval);
    let mut ticks = interval_at(second, interval);
    // Rounds that were missed are left out, and those that follow keep their distance: bad rounds in
    // a row always span the time that the user gave.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);

    let mut rounds = Rounds {
        plan,
        number,
        targets,
        reports,
        identifier: None,
        socket: None,
        trouble: None,
        next_round: 0,
        next_echo: identifier::random(),
        open: BTreeMap::new(),
        asked: HashMap::new(),
        echoes: JoinSet::new(),
    };
    let mut listened = rounds.begin().await;
    while listened.is_ok() {
        listened = tokio::select! {
            _ = ticks.tick() => rounds.begin().await,
            Some(done) = rounds.echoes.join_next_with_id() => match done {
                Ok((id, outcome)) => rounds.finish(id, outcome).await,
                Err(broken) => {
                    let why = Failure::NotSent(format!("the probe broke off: {broken}"));
                    rounds.finish(broken.id(), Outcome::Failed(why)).await
                }
            },
        };
    }
}

/// Nobody receives reports any more.
struct NobodyListens;

struct Rounds {
    plan: ProbePlan,
    number: PlanNumber,
    targets: Vec<Target>,
    reports: mpsc::Sender<Report>,
    identifier: Option<Identifier>,
    socket: Option<IcmpSocket>,
    /// Why there is no socket, as it was last said.
    trouble: Option<String>,
    next_round: u64,
    next_echo: u16,
    /// Rounds of which not all is known.
    open: BTreeMap<u64, Round>,
    /// Which task asks which target (by its place) of which round.
    asked: HashMap<Id, (u64, usize)>,
    echoes: JoinSet<Outcome>,
}

impl Rounds {
    /// Asks all targets at once. Without a socket the round is a failure of all.
    async fn begin(&mut self) -> Result<(), NobodyListens> {
        let sequence = self.next_round;
        self.next_round = sequence.saturating_add(1);
        let sent_at = Instant::now().into_std();
        let socket = self.socket();
        let outcome = socket.as_ref().err().map_or(Outcome::Outstanding, |why| {
            Outcome::Failed(Failure::NotSent(why.clone()))
        });
        let round = Round {
            plan: self.number,
            sequence,
            sent_at,
            results: self
                .targets
                .iter()
                .map(|target| TargetResult {
                    target: target.clone(),
                    outcome: outcome.clone(),
                })
                .collect(),
        };
        let Ok(socket) = socket else {
            return self.report(round).await;
        };
        for (place, target) in self.targets.iter().enumerate() {
            let echo = match target {
                // Each request has its own number, so that a target may be named twice.
                Target::Icmp(address) => {
                    socket
                        .clone()
                        .echo(*address, self.next_echo, self.plan.timeout)
                }
            };
            self.next_echo = self.next_echo.wrapping_add(1);
            let id = self.echoes.spawn(echo).id();
            self.asked.insert(id, (sequence, place));
        }
        self.open.insert(sequence, round);
        Ok(())
    }

    /// Puts an outcome to its round and reports the round.
    async fn finish(&mut self, task: Id, outcome: Outcome) -> Result<(), NobodyListens> {
        let Some((sequence, place)) = self.asked.remove(&task) else {
            return Ok(());
        };
        if matches!(outcome, Outcome::Failed(Failure::NotSent(_))) {
            // A socket may fail for good, as one of an interface that is gone: take a new one.
            // What is on its way over the old one still comes back by it.
            self.socket = None;
        }
        let Some(round) = self.open.get_mut(&sequence) else {
            return Ok(());
        };
        if let Some(result) = round.results.get_mut(place) {
            result.outcome = outcome;
        }
        let round = if round.outstanding() == 0 {
            self.open.remove(&sequence)
        } else {
            Some(round.clone())
        };
        match round {
            Some(round) => self.report(round).await,
            None => Ok(()),
        }
    }

    async fn report(&self, round: Round) -> Result<(), NobodyListens> {
        let report = Report {
            uplink: self.plan.uplink,
            family: self.plan.family,
            round,
        };
        self.reports.send(report).await.map_err(|_| NobodyListens)
    }

    /// The socket, made anew if there is none. Says in the log once why there is none, and once that
    /// there is one again.
    fn socket(&mut self) -> Result<IcmpSocket, String> {
        if let Some(socket) = &self.socket {
            return Ok(socket.clone());
        }
        let opened = self.open_socket();
        let (uplink, family) = (self.plan.uplink, self.plan.family);
        match &opened {
            Ok(socket) => {
                self.socket = Some(socket.clone());
                if self.trouble.take().is_some() {
                    info!(%uplink, %family, "there is a probe socket again");
                }
            }
            Err(why) if self.trouble.as_ref() != Some(why) => {
                warn!(%uplink, %family, "no probe can be sent, trying again each round: {why}");
                self.trouble = Some(why.clone());
            }
            Err(_) => {}
        }
        opened
    }

    fn open_socket(&mut self) -> Result<IcmpSocket, String> {
        if self.identifier.is_none() {
            self.identifier = Identifier::take();
        }
        let identifier = self
            .identifier
            .as_ref()
            .ok_or_else(|| "all 65536 ICMP identifiers are in use".to_owned())?;
        IcmpSocket::open(&self.plan, identifier.get()).map_err(|error| error.to_string())
    }
}

/// The family in which a target is asked.
const fn family_of(target: &Target) -> Family {
    match target {
        Target::Icmp(address) => Family::of(*address),
    }
}
