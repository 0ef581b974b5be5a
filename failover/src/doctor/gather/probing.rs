//! Asks each target once by each uplink, as the daemon would.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::super::facts::{Host, Probed};
use crate::config::UplinkConfig;
use crate::discover::{Gateways, reachability};
use crate::family::Family;
use crate::health::{Outcome, Round};
use crate::identity::{self, Ids};
use crate::kernel::capabilities::{self, Capability};
use crate::mark::Mark;
use crate::probe::{ProbePlan, Prober};
use crate::state::Store;
use crate::uplink::{UplinkId, UplinkName};

/// Longer than anything is waited for here: there is one round.
const ONCE: Duration = Duration::from_secs(3600);
/// How long answers are waited for at most, beside their timeout: names may have to be resolved.
const GRACE: Duration = Duration::from_millis(500);
/// The longest that a round is waited for.
const LONGEST: Duration = Duration::from_secs(10);

pub(super) async fn probe(host: &mut Host) {
    if capabilities::require(&[Capability::NetRaw]).is_err() {
        host.unseen
            .push("whether targets answer: that takes root".to_owned());
        return;
    }
    let ids = ids(host);
    let mut plans: BTreeMap<(UplinkId, Family), ProbePlan> = BTreeMap::new();
    let mut unseen = Vec::new();
    for (name, uplink) in &host.config.uplinks {
        let Some(id) = ids.get(name) else { continue };
        for family in Family::ALL {
            match plan(host, name, uplink, *id, family) {
                Planned::Plan(plan) => {
                    plans.insert((*id, family), *plan);
                }
                Planned::NoRoute => unseen.push(format!(
                    "whether {family} targets answer by {name}: main has no route by its gateway, so \
                     that only the running daemon can ask them"
                )),
                Planned::Nothing => {}
            }
        }
    }
    host.unseen.extend(unseen);
    let rounds = ask(plans.clone()).await;
    for (key, plan) in plans {
        let round = rounds.get(&key);
        let asked = plan
            .targets
            .iter()
            .filter(|target| target.is_asked_in(plan.family));
        for (place, target) in asked.enumerate() {
            let outcome = round.and_then(|round| round.outcomes.get(place));
            let failure = match outcome {
                Some(Outcome::Answered { .. }) => None,
                Some(Outcome::Failed(failure)) if failure.is_no_evidence() => continue,
                Some(Outcome::Failed(failure)) => Some(failure.to_string()),
                Some(Outcome::Outstanding | Outcome::Overdue) | None => {
                    Some("no answer".to_owned())
                }
            };
            host.probes.push(Probed {
                uplink: plan.name.clone(),
                family: plan.family,
                target: target.clone(),
                failure,
            });
        }
    }
}

fn ids(host: &Host) -> Ids {
    let remembered = Store::new(&host.config.state_dir).ids().unwrap_or_default();
    let given = host.config.given_ids();
    identity::assign(&given, &remembered, host.config.marks)
        .map(|identities| identities.ids)
        .unwrap_or_default()
}

enum Planned {
    Plan(Box<ProbePlan>),
    /// Nothing leads there while no table of ours does.
    NoRoute,
    Nothing,
}

fn plan(
    host: &Host,
    name: &UplinkName,
    uplink: &UplinkConfig,
    id: UplinkId,
    family: Family,
) -> Planned {
    let gateways = Gateways::of(&host.config, uplink);
    let way = reachability(uplink, gateways, family, &host.view);
    let Some(path) = way.path() else {
        return Planned::Nothing;
    };
    let mut routes = host.view.default_routes.iter();
    let best = routes
        .by_ref()
        .filter(|route| route.family == family && route.interface == path.interface)
        .min_by_key(|route| route.metric);
    let is_led = host.has_our_rules || best.is_some_and(|route| route.gateway == path.gateway);
    if !is_led {
        return Planned::NoRoute;
    }
    let probe = &uplink.probe;
    if !probe
        .targets
        .iter()
        .any(|target| target.is_asked_in(family))
    {
        return Planned::Nothing;
    }
    Planned::Plan(Box::new(ProbePlan {
        uplink: id,
        name: name.clone(),
        family,
        interface: uplink.interface.clone(),
        index: path.interface,
        source: path.source,
        gateway: path.gateway,
        mark: if host.has_our_rules {
            host.config.marks.probe(id)
        } else {
            Mark(0)
        },
        targets: probe.targets.clone(),
        interval: ONCE,
        timeout: probe.timeout,
        required: probe.required,
        down_after: probe.down_after,
        rest: None,
    }))
}

/// The best that each way's rounds came to.
async fn ask(
    plans: BTreeMap<(UplinkId, Family), ProbePlan>,
) -> BTreeMap<(UplinkId, Family), Round> {
    let mut rounds: BTreeMap<(UplinkId, Family), Round> = BTreeMap::new();
    let timeout = plans.values().map(|plan| plan.timeout).max();
    let Some(timeout) = timeout else {
        return rounds;
    };
    let asked = plans.len();
    let deadline = Instant::now() + timeout.min(LONGEST) + GRACE;
    let (reports, mut told) = mpsc::channel(asked.saturating_mul(4).max(16));
    let mut prober = Prober::new(reports, None);
    prober.set_plans(plans);
    while let Ok(Some(report)) = tokio::time::timeout_at(deadline.into(), told.recv()).await {
        let key = (report.uplink, report.family);
        match rounds.get(&key) {
            Some(best) if best.answered() > report.round.answered() => {}
            _ => {
                rounds.insert(key, report.round);
            }
        }
        let done = |round: &Round| round.answered() == round.outcomes.len();
        if rounds.len() == asked && rounds.values().all(done) {
            break;
        }
    }
    rounds
}
