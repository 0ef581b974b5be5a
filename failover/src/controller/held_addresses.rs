//! The addresses that an uplink has in one family, and those that it had: whose flows are to be
//! forgotten because nothing can come back to them any more.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::controller::engine::Engine;
use crate::discover::{Path, addresses_of};
use crate::family::Family;
use crate::network::{Link, NetworkView};
use crate::state::RememberedAddresses;

/// For how long an address counts that is gone: DHCP clients take all addresses from the interface
/// and put the same ones on again, some when they are started anew (busybox's, dhclient's), with the
/// exchange with the server in between.
pub(super) const ADDRESS_GRACE: Duration = Duration::from_secs(1);

/// The addresses of one uplink and family.
#[derive(Debug, Default)]
pub(super) struct HeldAddresses(BTreeMap<IpAddr, Held>);

#[derive(Debug)]
struct Held {
    /// On the uplink's interface. Otherwise it is a source that the configuration gives, anywhere on
    /// this host.
    on_link: bool,
    gone: Option<Instant>,
}

impl HeldAddresses {
    /// Takes in what an uplink has while it has a path. Returns the addresses that it does not have
    /// any more: the source of the last path at once when there is another, since that one is in its
    /// place; all others when they are gone for a while.
    pub(super) fn look(
        &mut self,
        link: &Link,
        path: &Path,
        former_source: Option<IpAddr>,
        view: &NetworkView,
        now: Instant,
    ) -> Vec<IpAddr> {
        let family = Family::of(path.source);
        let on_link: Vec<IpAddr> = addresses_of(view, link, family)
            .map(|own| own.address)
            .collect();
        for address in on_link.iter().copied().chain([path.source]) {
            let held = Held {
                on_link: on_link.contains(&address),
                gone: None,
            };
            self.0.insert(address, held);
        }
        let mut left = Vec::new();
        self.0.retain(|address, held| {
            let here = if held.on_link {
                on_link.contains(address)
            } else {
                view.addresses.iter().any(|own| own.address == *address)
            };
            if here {
                held.gone = None;
                return true;
            }
            let since = *held.gone.get_or_insert(now);
            let replaced = former_source == Some(*address) && path.source != *address;
            let stays = !replaced && now < since + ADDRESS_GRACE;
            if !stays {
                left.push(*address);
            }
            stays
        });
        left
    }

    /// Takes up what an earlier daemon saw.
    fn resume(&mut self, address: IpAddr, now: Instant) {
        self.0.entry(address).or_insert(Held {
            on_link: true,
            gone: Some(now),
        });
    }

    /// An address is the uplink's no more, and its flows are not to be forgotten for it.
    pub(super) fn pass_on(&mut self, address: IpAddr) {
        self.0.remove(&address);
    }

    /// Those of the interface, to be remembered over a restart.
    fn remembered(&self) -> impl Iterator<Item = IpAddr> {
        let on_link = self.0.iter().filter(|(_, held)| held.on_link);
        on_link.map(|(address, _)| *address)
    }

    /// Whether an address is there, or expected back.
    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.0.contains_key(&address)
    }

    /// When an address that is gone has been gone for long enough.
    pub(super) fn look_again(&self) -> Option<Instant> {
        self.0
            .values()
            .filter_map(|held| Some(held.gone? + ADDRESS_GRACE))
            .min()
    }
}

impl Engine {
    /// Takes up which addresses uplinks had when an earlier daemon last looked. To be called before
    /// the first decision.
    pub fn resume_addresses(&mut self, remembered: &RememberedAddresses, now: Instant) {
        for uplink in self.uplinks.values_mut() {
            for address in remembered.get(&uplink.name).into_iter().flatten() {
                let state = uplink.families.get_mut(Family::of(*address));
                state.held.resume(*address, now);
            }
        }
    }

    /// The addresses that uplinks have, and those whose flows are yet to be forgotten, to be
    /// remembered over a restart.
    #[must_use]
    pub fn remembered_addresses(&self) -> RememberedAddresses {
        self.uplinks
            .iter()
            .map(|(id, uplink)| {
                let families = uplink.families.iter();
                let held = families.flat_map(|(_, state)| state.held.remembered());
                let owed = self.former.iter().filter(|(of, _)| of == id);
                let owed = owed.map(|(_, address)| *address);
                (uplink.name.clone(), held.chain(owed).collect())
            })
            .collect()
    }
}

#[cfg(test)]
#[path = "held_addresses_tests.rs"]
mod tests;
