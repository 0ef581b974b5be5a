//! What the engine keeps of one uplink.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;

use crate::config::{OnDown, UplinkConfig};
use crate::controller::engine::{Departure, Hand, Moment};
use crate::controller::family_state::{FamilyState, PathNews};
use crate::discover::Gateways;
use crate::family::{Family, PerFamily};
use crate::health::Health;
use crate::load::Load;
use crate::meter::{Meter, Spread};
use crate::network::NetworkView;
use crate::policy::Via;
use crate::status::State;
use crate::uplink::UplinkName;

/// A change worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The uplink.
    pub uplink: UplinkName,
    /// The family.
    pub family: Family,
    /// The state that it left.
    pub from: State,
    /// The state that it is in now.
    pub to: State,
    /// Why.
    pub reason: String,
}

/// One uplink.
#[derive(Debug)]
pub(super) struct Uplink {
    pub(super) name: UplinkName,
    pub(super) config: UplinkConfig,
    pub(super) families: PerFamily<FamilyState>,
    /// The states that were last told.
    told: PerFamily<State>,
    /// Since when the better of them is what it is.
    pub(super) since: Timestamp,
    /// What becomes of its flows while it works and a better one is used.
    pub(super) departures: PerFamily<Departure>,
    /// The same of flows that rules name, by how they name their uplinks.
    pub(super) departures_of_rules: BTreeMap<Via, PerFamily<Departure>>,
    /// What is done about it by hand.
    pub(super) hand: Option<Hand>,
    /// What its probes cost.
    pub(super) meter: Meter,
    /// Until when what is left of their budget is spread, and on what; `None` where there is none.
    pub(super) spread: Option<Spread>,
    /// How much it carries, where a strategy wants to know.
    pub(super) load: Load,
    /// Which families were alive at the last decision.
    alive: PerFamily<bool>,
}

/// The network without the uplink's virtual addresses: they are neither its source nor forgotten when
/// they go, since the other router has them then, and their flows too.
fn own<'v>(view: &'v NetworkView, config: &UplinkConfig) -> Cow<'v, NetworkView> {
    let moving = Family::ALL.map(|family| config.virtual_address(family));
    let is_virtual = |address: IpAddr| moving.contains(&Some(address));
    if view.addresses.iter().any(|own| is_virtual(own.address)) {
        let mut view = view.clone();
        view.addresses.retain(|own| !is_virtual(own.address));
        Cow::Owned(view)
    } else {
        Cow::Borrowed(view)
    }
}

/// What became of an uplink in one family since the last decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It is alive.
    Alive,
    /// It died, and its flows are to be forgotten.
    Died,
    /// It is dead as before, and its flows would be forgotten if it died now.
    Dead,
    /// It is dead, and its flows stay as they are.
    Kept,
}

impl Uplink {
    pub(super) fn new(
        name: &UplinkName,
        config: &UplinkConfig,
        gateways: Gateways,
        remembered: PerFamily<Health>,
        view: &NetworkView,
        now: Moment,
    ) -> Self {
        let families = PerFamily::from_fn(|family| {
            FamilyState::new(
                family,
                config,
                gateways,
                *remembered.get(family),
                &own(view, config),
            )
        });
        Self {
            name: name.clone(),
            config: config.clone(),
            told: PerFamily::from_fn(|family| families.get(family).state()),
            // What has no way at the start may have lost it while no daemon ran: its flows are owed.
            alive: PerFamily::from_fn(|family| {
                let state = families.get(family);
                state.is_alive() || state.path().is_none()
            }),
            departures: PerFamily::default(),
            departures_of_rules: BTreeMap::new(),
            hand: None,
            since: now.wall,
            meter: Meter::default(),
            spread: None,
            load: Load::default(),
            families,
        }
    }

    /// Whether it is the same uplink under other settings: the name is the identity, and another
    /// interface is another line.
    pub(super) fn is_same(&self, name: &UplinkName, config: &UplinkConfig) -> bool {
        self.name == *name && self.config.interface == config.interface
    }

    /// Follows other settings. Returns what that changed in each family.
    pub(super) fn reconfigure(
        &mut self,
        config: &UplinkConfig,
        gateways: Gateways,
        view: &NetworkView,
        now: Moment,
    ) -> [PathNews; 2] {
        let ways = |config: &UplinkConfig| {
            (
                (config.gateway, config.gateway6),
                (config.source, config.source6),
            )
        };
        let same_way = ways(&self.config) == ways(config);
        self.config = config.clone();
        Family::ALL.map(|family| {
            let state = self.families.get_mut(family);
            if let Some(address) = config.virtual_address(family) {
                state.held.pass_on(address);
            }
            state.reconfigure(config, gateways, same_way, &own(view, config), now.at)
        })
    }

    /// Looks at the network anew.
    pub(super) fn look(&mut self, family: Family, view: &NetworkView, now: Moment) -> PathNews {
        let state = self.families.get_mut(family);
        // It may have been held before the configuration said what it is.
        if let Some(address) = self.config.virtual_address(family) {
            state.held.pass_on(address);
        }
        state.look(&self.config, &own(view, &self.config), now.at)
    }

    /// Whether an address is its own, or expected back.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.families.get(Family::of(address)).has(address)
    }

    /// What became of it since this was last asked.
    pub(super) fn life(&mut self, family: Family) -> Life {
        let alive = self.families.get(family).is_alive();
        let was_alive = std::mem::replace(self.alive.get_mut(family), alive);
        match (alive, self.config.on_down, was_alive) {
            (true, _, _) => Life::Alive,
            (false, OnDown::Keep, _) => Life::Kept,
            (false, OnDown::Reset, true) => Life::Died,
            (false, OnDown::Reset, false) => Life::Dead,
        }
    }

    /// The changes since this was last asked.
    pub(super) fn notices(&mut self, now: Moment) -> Vec<Notice> {
        let best_before = self.told.ipv4.min(self.told.ipv6);
        let mut notices = Vec::new();
        for family in Family::ALL {
            let state = self.families.get(family);
            let to = state.state();
            let from = std::mem::replace(self.told.get_mut(family), to);
            if from != to {
                notices.push(Notice {
                    uplink: self.name.clone(),
                    family,
                    from,
                    to,
                    reason: state.reason(now.at),
                });
            }
        }
        if self.told.ipv4.min(self.told.ipv6) != best_before {
            self.since = now.wall;
        }
        notices
    }
}
