//! The engine follows a changed configuration.
//!
//! It happens in two steps, so that no packet of an uplink that goes leaves by another with the
//! wrong address: at first the uplink is as good as dead ([`Engine::retire`]), so that its flows are
//! forgotten while everything that leads them is in place; then it is taken out, and what is new
//! comes in ([`Engine::reconfigure`]). An uplink that goes on keeps all that is known of it.

use std::collections::BTreeMap;

use crate::config::Config;
use crate::controller::engine::{Engine, Hand, Moment};
use crate::controller::uplink::Uplink;
use crate::discover::Gateways;
use crate::family::{Family, PerFamily};
use crate::health::Health;
use crate::identity::Ids;
use crate::policy::Sets;
use crate::policy::loading::LoadedSets;
use crate::reload::Current;
use crate::uplink::{UplinkId, UplinkName};

impl Engine {
    /// What it follows.
    #[must_use]
    pub fn current(&self) -> Current {
        let identified = |(id, uplink): (&UplinkId, &Uplink)| (uplink.name.clone(), *id);
        Current {
            config: self.config.clone(),
            ids: self.uplinks.iter().map(identified).collect(),
            picked_by: self.picked_by(),
        }
    }

    /// Takes those uplinks out of use that do not go on under a new configuration: those that it
    /// lacks, and those that get another id or another interface. Returns whether there are any;
    /// then the next decision is to be carried out before [`Self::reconfigure`].
    pub fn retire(&mut self, config: &Config, ids: &Ids) -> bool {
        let leaving = self.leaving(config, ids);
        for id in &leaving {
            if let Some(uplink) = self.uplinks.get_mut(id) {
                for family in Family::ALL {
                    let state = uplink.families.get_mut(family);
                    state.retire();
                    self.taken_out.insert((*id, family), state.last_source());
                }
            }
        }
        self.stale |= !leaving.is_empty();
        !leaving.is_empty()
    }

    /// Follows a new configuration from now on. `ids` has an entry for each of its uplinks; one
    /// without is left out. What is fixed while the daemon runs is the same as before.
    pub fn reconfigure(&mut self, config: Config, ids: &Ids, sets: Sets, now: Moment) {
        self.files = LoadedSets {
            sets,
            problems: BTreeMap::new(),
        };
        // By name, as over a restart: the name is the identity.
        let mut by_hand: BTreeMap<UplinkName, Hand> = self
            .uplinks
            .values()
            .filter_map(|uplink| Some((uplink.name.clone(), uplink.hand?)))
            .collect();
        let mut meters = BTreeMap::new();
        for id in self.leaving(&config, ids) {
            if let Some(mut uplink) = self.uplinks.remove(&id) {
                for family in Family::ALL {
                    self.owed.remove(&(id, family));
                    // Once more: what was new in between may have gone there for want of another.
                    let source = uplink.families.get_mut(family).last_source();
                    self.taken_out.insert((id, family), source);
                }
                meters.insert(id, (uplink.name, uplink.meter));
            }
        }
        let mut former = std::mem::take(&mut self.uplinks);
        let mut uplinks = BTreeMap::new();
        for (name, settings) in &config.uplinks {
            let Some(&id) = ids.get(name) else { continue };
            let gateways = Gateways::of(&config, settings);
            let uplink = match former.remove(&id) {
                Some(mut known) => {
                    let news = known.reconfigure(settings, gateways, &self.view, now);
                    let left = news.into_iter().flat_map(|news| news.former_addresses);
                    self.former.extend(left.map(|address| (id, address)));
                    known
                }
                None => {
                    let unknown = PerFamily::from_fn(|_| Health::Unknown);
                    let mut new = Uplink::new(name, settings, gateways, unknown, &self.view, now);
                    for family in Family::ALL {
                        // The id may have been another's, whose probes are still on their way.
                        new.families.get_mut(family).machine().path_changed(now.at);
                    }
                    new.take_in_hand(by_hand.remove(name));
                    if let Some((former, meter)) = meters.remove(&id) {
                        new.meter = meter.handed_on(former == *name);
                    }
                    new
                }
            };
            uplinks.insert(id, uplink);
        }
        self.uplinks = uplinks;
        self.config = config;
        self.renew_policy();
        self.forget_loads();
        self.stale = true;
        self.network(self.view.clone(), now);
        self.spread_budgets(now);
    }

    fn leaving(&self, config: &Config, ids: &Ids) -> Vec<UplinkId> {
        self.uplinks
            .iter()
            .filter(|(id, uplink)| {
                let name = &uplink.name;
                let stays = ids.get(name) == Some(*id)
                    && config
                        .uplinks
                        .get(name)
                        .is_some_and(|settings| uplink.is_same(name, settings));
                !stays
            })
            .map(|(id, _)| *id)
            .collect()
    }
}

#[cfg(test)]
#[path = "reconfigure_tests.rs"]
mod tests;
