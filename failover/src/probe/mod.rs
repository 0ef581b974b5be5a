//! Sends probes through each uplink and reports what came of them. Judges nothing: that is
//! [`health`](crate::health)'s part.

mod filter;
mod icmp;
mod identifier;
mod phase;
mod rounds;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::config::Target;
use crate::family::Family;
use crate::health::{PlanNumber, Round};
use crate::interface::{InterfaceIndex, InterfaceName};
use crate::mark::Mark;
use crate::uplink::UplinkId;

/// How one uplink is probed for one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePlan {
    /// The uplink.
    pub uplink: UplinkId,
    /// The family.
    pub family: Family,
    /// The interface that probes leave by.
    pub interface: InterfaceName,
    /// Its index: an interface that was made anew is another one, and needs another socket.
    pub index: InterfaceIndex,
    /// The source address.
    pub source: IpAddr,
    /// The mark of the probes.
    pub mark: Mark,
    /// Who is asked; those of the other family are left out. With none there are no rounds.
    pub targets: Vec<Target>,
    /// From one round to the next, at least 1 ms.
    pub interval: Duration,
    /// How long an answer may take. May be longer than the interval: rounds overlap.
    pub timeout: Duration,
}

/// News of one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The uplink.
    pub uplink: UplinkId,
    /// The family.
    pub family: Family,
    /// The round, as far as it is known; told again with each outcome that becomes known.
    pub round: Round,
}

/// Probes all uplinks, each by a task of its own.
#[derive(Debug)]
pub struct Prober {
    reports: mpsc::Sender<Report>,
    running: BTreeMap<(UplinkId, Family), Running>,
    last_plan: PlanNumber,
}

#[derive(Debug)]
struct Running {
    plan: ProbePlan,
    number: PlanNumber,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Prober {
    /// A prober that sends what it learns to `reports`. Where the receiver lags behind rounds are
    /// left out, never lost.
    #[must_use]
    pub const fn new(reports: mpsc::Sender<Report>) -> Self {
        Self {
            reports,
            running: BTreeMap::new(),
            last_plan: PlanNumber(0),
        }
    }

    /// Probes by these plans from now on: what runs by an equal plan goes on undisturbed, the rest
    /// is stopped, what is new begins with a round at once. Reports of a stopped plan may still be
    /// on their way; their plan number is smaller than that of the plan's successor.
    ///
    /// Must be called within a tokio runtime.
    pub fn set_plans(&mut self, plans: BTreeMap<(UplinkId, Family), ProbePlan>) {
        self.running
            .retain(|key, running| plans.get(key) == Some(&running.plan));
        for (key, plan) in plans {
            if self.running.contains_key(&key) {
                continue;
            }
            self.last_plan = PlanNumber(self.last_plan.0.saturating_add(1));
            let number = self.last_plan;
            let task = tokio::spawn(rounds::run(plan.clone(), number, self.reports.clone()));
            self.running.insert(key, Running { plan, number, task });
        }
    }

    /// The number of the plan by which an uplink is probed now.
    #[must_use]
    pub fn plan_number(&self, uplink: UplinkId, family: Family) -> Option<PlanNumber> {
        self.running
            .get(&(uplink, family))
            .map(|running| running.number)
    }
}
