//! Sends probes through each uplink and reports what came of them. Judges nothing: that is
//! [`health`](crate::health)'s part.

mod kinds;
mod pace;
mod phase;
mod round_trip;
mod rounds;
mod way;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;

pub(crate) use kinds::tls;
pub use pace::{Pace, Tempo};

use crate::config::Target;
use crate::family::Family;
use crate::health::{PlanNumber, Round};
use crate::interface::{InterfaceIndex, InterfaceName};
use crate::mark::Mark;
use crate::uplink::{UplinkId, UplinkName};

/// How one uplink is probed for one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbePlan {
    /// The uplink.
    pub uplink: UplinkId,
    /// Its name, for programs that are asked.
    pub name: UplinkName,
    /// The family.
    pub family: Family,
    /// The interface that probes leave by.
    pub interface: InterfaceName,
    /// Its index: an interface that was made anew is another one, and needs another socket.
    pub index: InterfaceIndex,
    /// The source address.
    pub source: IpAddr,
    /// The gateway, where a target needs to know it and there is one.
    pub gateway: Option<IpAddr>,
    /// The mark of the probes.
    pub mark: Mark,
    /// Who is asked; those of the other family are left out. With none there are no rounds.
    pub targets: Vec<Target>,
    /// From one round to the next, at least 1 ms.
    pub interval: Duration,
    /// How long an answer may take. May be longer than the interval: rounds overlap.
    pub timeout: Duration,
    /// Targets that must answer for a round to be good.
    pub required: u16,
    /// Bad rounds in a row until down: for as long as that takes, a doubt is looked into.
    pub down_after: u16,
    /// The longest time from one round to the next while users' traffic is answered; `None`: no round
    /// is left out for it.
    pub rest: Option<Duration>,
}

/// What users' traffic says.
pub trait Witness: Debug + Send + Sync {
    /// When their traffic through an uplink was answered last, and by how many hosts of late. `None`
    /// when nobody knows.
    fn answered(&self, uplink: UplinkId, family: Family) -> Option<Answered>;
}

/// An answer to users' traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// How long ago.
    pub age: Duration,
    /// How many hosts answered in the last second or two, about: up to 64.
    pub hosts: u32,
}

impl ProbePlan {
    /// Whether it differs at most in when rounds are sent.
    pub(crate) fn is_same_but_for_pace(&self, other: &Self) -> bool {
        *self
            == Self {
                interval: self.interval,
                required: self.required,
                down_after: self.down_after,
                rest: self.rest,
                ..other.clone()
            }
    }
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
    witness: Option<Arc<dyn Witness>>,
    running: BTreeMap<(UplinkId, Family), Running>,
    last_plan: PlanNumber,
    /// Rounds of all plans keep to one grid of moments, which begins here.
    began: Instant,
}

#[derive(Debug)]
struct Running {
    plan: ProbePlan,
    number: PlanNumber,
    pace: watch::Sender<ProbePlan>,
    suspicion: Arc<Notify>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Prober {
    /// A prober that sends what it learns to `reports`, and leaves out rounds where it may and the
    /// witness says that users' traffic is answered. Where the receiver lags behind rounds are
    /// left out, never lost.
    #[must_use]
    pub fn new(reports: mpsc::Sender<Report>, witness: Option<Arc<dyn Witness>>) -> Self {
        Self {
            reports,
            witness,
            running: BTreeMap::new(),
            last_plan: PlanNumber(0),
            began: Instant::now(),
        }
    }

    /// Probes by these plans from now on: what runs by an equal plan goes on undisturbed, or at
    /// another pace, the rest is stopped, what is new begins with a round at once. Reports of a stopped plan may still be
    /// on their way; their plan number is smaller than that of the plan's successor.
    ///
    /// Must be called within a tokio runtime.
    pub fn set_plans(&mut self, plans: BTreeMap<(UplinkId, Family), ProbePlan>) {
        self.running.retain(|key, running| {
            plans
                .get(key)
                .is_some_and(|plan| plan.is_same_but_for_pace(&running.plan))
        });
        for (key, plan) in plans {
            if let Some(running) = self.running.get_mut(&key) {
                if running.plan != plan {
                    running.pace.send_replace(plan.clone());
                    running.plan = plan;
                }
                continue;
            }
            self.last_plan = PlanNumber(self.last_plan.0.saturating_add(1));
            let number = self.last_plan;
            let (pace, followed) = watch::channel(plan.clone());
            let suspicion = Arc::new(Notify::new());
            let told = rounds::Told {
                followed,
                began: self.began,
                suspicion: Arc::clone(&suspicion),
                witness: self.witness.clone(),
            };
            let task = tokio::spawn(rounds::run(told, number, self.reports.clone()));
            let running = Running {
                plan,
                number,
                pace,
                suspicion,
                task,
            };
            self.running.insert(key, running);
        }
    }

    /// Users' traffic through an uplink is not answered: it is probed at once.
    pub fn suspect(&self, uplink: UplinkId, family: Family) {
        if let Some(running) = self.running.get(&(uplink, family)) {
            running.suspicion.notify_one();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A plan that asks one target.
    pub(super) fn plan(interval: Duration) -> ProbePlan {
        let uplink = UplinkId::all().next().unwrap();
        ProbePlan {
            uplink,
            name: "fiber".parse().unwrap(),
            family: Family::Ipv4,
            interface: "wan1".parse().unwrap(),
            index: InterfaceIndex(1),
            source: [198, 18, 11, 2].into(),
            gateway: None,
            mark: Mark(0),
            targets: targets().to_vec(),
            interval,
            timeout: Duration::from_secs(1),
            required: 1,
            down_after: 3,
            rest: None,
        }
    }

    pub(super) fn targets() -> Arc<[Target]> {
        [Target::Icmp([192, 0, 2, 1].into())].into()
    }

    #[test]
    fn another_interval_is_the_same_plan_and_another_target_is_not() {
        let first = plan(Duration::from_millis(500));
        assert!(first.is_same_but_for_pace(&plan(Duration::from_secs(5))));
        let second = ProbePlan {
            targets: Vec::new(),
            ..first.clone()
        };
        assert!(!first.is_same_but_for_pace(&second));
    }
}
