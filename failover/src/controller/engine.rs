//! The engine: from what is observed to what is wanted. It does nothing itself and reads no clock.
//!
//! Everything observed goes in ([`Engine::network`], [`Engine::link`], [`Engine::round`]); a
//! [`Decision`] comes out of [`Engine::decide`]: the wanted state as a whole, and which flows are to
//! be forgotten once it is in the kernel. Flows of an uplink that died are owed to be forgotten until
//! somebody says that they are ([`Engine::forgotten`]) or the uplink is alive again; as long as no
//! uplink is usable, or none of those that count as usable has answered since the dead one fell silent
//! ([`Engine::awaited`]), nothing is done about it, since it would help nobody. What becomes of flows
//! when a better uplink returns is in `draining`.

mod blaming;
mod by_hand;
mod damping;
mod debts;
mod draining;
pub(in crate::controller) mod explaining;
mod gateway_macs;
mod metering;
mod pacing;
mod policies;
mod recording;
mod situation;
mod strategies;
mod tracking;
mod traffic;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use crate::config::{Config, Target};
use crate::controller::family_state::targets;
use crate::controller::told;
use crate::controller::uplink::{Notice, Uplink};
use crate::discover::Gateways;
use crate::family::{Family, PerFamily};
use crate::flows::{Surroundings, Uplinks};
use crate::health::{Blame, Blamed, Round, Transition};
use crate::interface::{InterfaceIndex, InterfaceName};
use crate::network::{Link, NetworkView};
use crate::policy::loading::LoadedSets;
use crate::policy::{Policy, RulePool, Sets};
use crate::probe::ProbePlan;
use crate::select::{Candidate, Pool, select};
use crate::state::RememberedHealth;
use crate::status::{BrokenSet, StatusDocument};
use crate::uplink::{UplinkId, UplinkName};
use crate::wanted::{PickedBy, Wanted};

pub(super) use by_hand::Hand;
pub use by_hand::{Disobeyed, HandNotice, Obeyed};
pub use damping::Dampings;
pub use debts::Forget;
pub(super) use draining::Departure;
pub use draining::{Change, DrainNotice};
use gateway_macs::GatewayMacs;
pub use metering::UsedUp;
use strategies::Leaders;

/// A moment on both clocks: the one that never jumps, for deciding, and the one people read.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// For deciding.
    pub at: Instant,
    /// For telling.
    pub wall: Timestamp,
}

/// What is to be done now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// The state that the kernel should be in.
    pub wanted: Wanted,
    /// Whose flows are to be forgotten when it is.
    pub forget: BTreeSet<Forget>,
}

/// All that the engine knows.
#[derive(Debug)]
pub struct Engine {
    pub(super) config: Config,
    picked_by: PickedBy,
    pub(super) view: NetworkView,
    pub(super) uplinks: BTreeMap<UplinkId, Uplink>,
    pools: PerFamily<Pool>,
    /// Who the flows of rules go to, as last decided: a pool for each way of naming uplinks.
    rule_pools: Vec<RulePool>,
    /// Who leads pools by latency, as last decided.
    leaders: Leaders,
    pub(super) policy: Arc<Policy>,
    /// Sets of addresses that come from files.
    pub(super) files: LoadedSets,
    pub(super) owed: BTreeSet<(UplinkId, Family)>,
    /// Addresses that uplinks had, and whose flows are not forgotten yet.
    pub(super) former: BTreeSet<(UplinkId, IpAddr)>,
    /// Uplinks that a reload takes out, with the addresses that they had: their flows have nothing
    /// to wait for, whatever becomes of the others.
    pub(super) taken_out: BTreeMap<(UplinkId, Family), Option<IpAddr>>,
    macs: GatewayMacs,
    notices: Vec<Notice>,
    drain_notices: Vec<DrainNotice>,
    hand_notices: Vec<HandNotice>,
    blame: Blame,
    blamed: Vec<Blamed>,
    started: Timestamp,
    /// Something that a decision follows from has changed since the last one.
    pub(super) stale: bool,
}

impl Engine {
    /// An engine that knows the network as it is and the states as they were when a daemon last
    /// ran. `ids` has an entry for each configured uplink; one without is left out.
    #[must_use]
    pub fn new(
        config: Config,
        picked_by: PickedBy,
        ids: &BTreeMap<UplinkName, UplinkId>,
        remembered: &RememberedHealth,
        view: NetworkView,
        now: Moment,
    ) -> Self {
        let uplinks = config
            .uplinks
            .iter()
            .filter_map(|(name, uplink)| Some((*ids.get(name)?, (name, uplink))))
            .map(|(id, (name, uplink))| {
                let health = remembered.get(name).copied().unwrap_or_default();
                let gateways = Gateways::of(&config, uplink);
                (id, Uplink::new(name, uplink, gateways, health, &view, now))
            })
            .collect();
        let mut engine = Self {
            policy: Policy::of(&config, &Sets::new()),
            files: LoadedSets::default(),
            config,
            picked_by,
            view: NetworkView::default(),
            uplinks,
            pools: PerFamily::from_fn(|_| select(&[])),
            rule_pools: Vec::new(),
            leaders: Leaders::default(),
            owed: BTreeSet::new(),
            former: BTreeSet::new(),
            taken_out: BTreeMap::new(),
            macs: GatewayMacs::default(),
            notices: Vec::new(),
            drain_notices: Vec::new(),
            hand_notices: Vec::new(),
            blame: Blame::default(),
            blamed: Vec::new(),
            started: now.wall,
            stale: true,
        };
        engine.network(view, now);
        engine
    }

    /// The configuration that it follows.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Who gives new flows their uplink.
    #[must_use]
    pub const fn picked_by(&self) -> PickedBy {
        self.picked_by
    }

    /// The uplinks' names.
    #[must_use]
    pub fn names(&self) -> Uplinks {
        let named = |(id, uplink): (&UplinkId, &Uplink)| (*id, uplink.name.clone());
        self.uplinks.iter().map(named).collect()
    }

    /// What tells the inside from the outside now.
    #[must_use]
    pub fn surroundings(&self) -> Surroundings {
        Surroundings::new(&self.config, &self.view)
    }

    /// The interfaces by which nobody inside is reached.
    #[must_use]
    pub fn outside(&self) -> BTreeSet<InterfaceIndex> {
        self.interfaces()
            .filter(|name| !self.config.downlinks.contains(name))
            .filter_map(|name| Some(self.view.links.get(name)?.index))
            .collect()
    }

    /// Takes in a new look at the whole network.
    pub fn network(&mut self, mut view: NetworkView, now: Moment) {
        let neighbours = std::mem::take(&mut view.neighbours);
        self.stale |= view != self.view;
        self.view = view;
        for (&id, uplink) in &mut self.uplinks {
            for family in Family::ALL {
                let news = uplink.look(family, &self.view, now);
                tracing_transition(id, family, news.transition.as_ref());
                self.stale |= news.changed || !news.former_addresses.is_empty();
                let former = news.former_addresses.into_iter();
                self.former.extend(former.map(|address| (id, address)));
            }
        }
        self.blame_nobody_unasked(now);
        self.macs.retain(&self.mixed_links());
        self.neighbours(&neighbours);
        self.notice_time(now.at);
        self.follow_clock(now);
        self.tell(now);
    }

    /// Takes in what became of one interface. `None` says that it is gone.
    pub fn link(&mut self, name: &InterfaceName, link: Option<Link>, now: Moment) {
        let mut view = self.view.clone();
        match link {
            Some(link) => view.links.insert(name.clone(), link),
            None => view.links.remove(name),
        };
        self.network(view, now);
    }

    /// Takes in what is known of a round of probes.
    pub fn round(&mut self, id: UplinkId, family: Family, round: &Round, now: Moment) {
        self.notice_time(now.at);
        self.blame(id, family, round, now);
        let awaited = self.awaited().contains(&(id, family));
        if let Some(uplink) = self.uplinks.get_mut(&id) {
            if round.is_settled() {
                uplink.meter.round();
            }
            let state = uplink.families.get_mut(family);
            let before = (state.is_doubtful(), state.is_in_question());
            let transition = state.machine().round(now.at, round);
            if round.answered() > 0 && !state.is_doubtful() {
                state.note_answer(round.sent_at);
                // It may be the word that is waited for.
                self.stale |= awaited;
            }
            let after = (state.is_doubtful(), state.is_in_question());
            tracing_transition(id, family, transition.as_ref());
            // Others may be probed more often now, and what was withheld may be due.
            self.stale |= before != after;
            if transition.is_some() {
                self.stale = true;
                self.tell(now);
            }
        }
        self.stale |= round.is_settled() && self.has_other_leaders(id);
    }

    /// Trusts an uplink although it failed again and again, and forgets that it did. Returns the
    /// families in which it was held back.
    pub fn trust(&mut self, name: &UplinkName, now: Moment) -> Vec<Family> {
        let mut held = Vec::new();
        if let Some(id) = self.id_of(name)
            && let Some(uplink) = self.uplinks.get_mut(&id)
        {
            for family in Family::ALL {
                let state = uplink.families.get_mut(family);
                held.extend(state.hold(now.at).map(|_| family));
                self.stale |= state.damping().ever_failed();
                let transition = state.machine().forgive(now.at);
                tracing_transition(id, family, transition.as_ref());
                self.stale |= transition.is_some();
            }
        }
        self.tell(now);
        held
    }

    /// When the network must be looked at again though nothing is heard of it until then.
    #[must_use]
    pub fn look_again(&self) -> Option<Instant> {
        self.uplinks
            .values()
            .flat_map(|uplink| Family::ALL.map(|family| uplink.families.get(family).look_again()))
            .flatten()
            .chain(self.next_end_of_draining())
            .chain(self.next_end_by_hand())
            .min()
    }

    /// Whether a new decision may differ from the last one.
    #[must_use]
    pub const fn is_stale(&self) -> bool {
        self.stale
    }

    /// What is to be done now. What is to be forgotten is said until it is.
    pub fn decide(&mut self, now: Moment) -> Decision {
        self.end_drains_by_hand(now);
        self.stale = false;
        let mut forget = self.owed_anyway();
        self.follow_leaders();
        self.choose_for_rules();
        for family in Family::ALL {
            let pool = self.common_pool(family, &self.candidates(family, None));
            let before = std::mem::replace(self.pools.get_mut(family), pool).tier;
            let tier = self.pools.get(family).tier;
            self.settle_debts(family, before);
            self.settle_departures(family, now);
            if self.has_the_users(family) {
                if tier.is_usable() {
                    forget.extend(self.owed_of(family));
                }
                forget.extend(self.owed_departures(family));
            }
        }
        Decision {
            wanted: self.situation().wanted(),
            forget,
        }
    }

    /// How each uplink is to be probed now.
    #[must_use]
    pub fn probe_plans(&self) -> BTreeMap<(UplinkId, Family), ProbePlan> {
        let mut plans = BTreeMap::new();
        for (&id, uplink) in &self.uplinks {
            for (family, state) in uplink.families.iter() {
                let asked: Vec<_> = targets(&uplink.config.probe, family).cloned().collect();
                let probed = !asked.is_empty() && !state.is_retired();
                let Some(path) = state.path().filter(|path| probed && path.sourced) else {
                    continue;
                };
                let needs_gateway = asked.iter().any(Target::needs_gateway);
                let interval = self.interval(uplink, family);
                let plan = ProbePlan {
                    uplink: id,
                    name: uplink.name.clone(),
                    family,
                    interface: uplink.config.interface.clone(),
                    index: path.interface,
                    source: path.source,
                    // So that another gateway begins new rounds only where it is asked.
                    gateway: path.gateway.filter(|_| needs_gateway),
                    mark: self.config.marks.probe(id),
                    targets: asked,
                    interval,
                    timeout: uplink.config.probe.timeout,
                    required: uplink.config.probe.required,
                    down_after: uplink.config.probe.down_after,
                    rest: self.rest(uplink, family, interval),
                };
                plans.insert((id, family), plan);
            }
        }
        plans
    }

    /// What to remember over a restart.
    #[must_use]
    pub fn remembered(&self) -> RememberedHealth {
        self.uplinks
            .values()
            .map(|uplink| {
                let health = PerFamily::from_fn(|family| uplink.families.get(family).health());
                (uplink.name.clone(), health)
            })
            .collect()
    }

    /// The changes since this was last asked.
    pub fn take_notices(&mut self) -> Vec<Notice> {
        std::mem::take(&mut self.notices)
    }

    /// Who new flows go to, as last decided.
    #[must_use]
    pub const fn pools(&self) -> &PerFamily<Pool> {
        &self.pools
    }

    /// The interfaces of all uplinks.
    pub fn interfaces(&self) -> impl Iterator<Item = &InterfaceName> {
        self.uplinks.values().map(|uplink| &uplink.config.interface)
    }

    /// What is told to people and scripts, except the counts of flows.
    #[must_use]
    pub fn status(&self, now: Instant) -> StatusDocument {
        let document = told::document(
            self.picked_by,
            self.started,
            &self.uplinks,
            &self.pools,
            &self.view,
            &self.blame,
            now,
        );
        let broken = self.set_problems().map(|(name, problem)| BrokenSet {
            name: name.clone(),
            problem: problem.to_owned(),
        });
        StatusDocument {
            broken_sets: broken.collect(),
            ..document
        }
    }

    fn id_of(&self, name: &UplinkName) -> Option<UplinkId> {
        let mut uplinks = self.uplinks.iter();
        let (id, _) = uplinks.find(|(_, uplink)| uplink.name == *name)?;
        Some(*id)
    }

    fn candidates(&self, family: Family, without: Option<UplinkId>) -> Vec<Candidate> {
        self.uplinks
            .iter()
            .map(|(&id, uplink)| Candidate {
                id,
                weight: uplink.config.weight,
                priority: uplink.config.priority,
                new_flows: uplink.config.new_flows,
                standing: self.standing_for_new(id, uplink, family, without),
            })
            .collect()
    }

    /// Compares states with those that were last told.
    fn tell(&mut self, now: Moment) {
        for uplink in self.uplinks.values_mut() {
            self.notices.extend(uplink.notices(now));
        }
    }
}

fn tracing_transition(id: UplinkId, family: Family, transition: Option<&Transition>) {
    if let Some(transition) = transition {
        tracing::debug!(%id, %family, from = %transition.from, to = %transition.to,
            reason = %transition.reason, "health changed");
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
pub(super) mod tests;
