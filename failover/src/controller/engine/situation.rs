//! What the engine knows, as what is wanted follows from it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::Ipv6Net;

use super::Engine;
use crate::config::Mss;
use crate::controller::uplink::Uplink;
use crate::discover::{Path, addresses_of, own_prefixes6};
use crate::family::{Family, PerFamily};
use crate::interface::InterfaceName;
use crate::wanted::narrow::{Narrow, narrow};
use crate::wanted::{LinkSituation, Numbers, Situation, UplinkSituation};

impl Engine {
    pub(super) fn situation(&self) -> Situation {
        let uplinks = self
            .uplinks
            .iter()
            .map(|(&id, uplink)| UplinkSituation {
                id,
                interface: uplink.config.interface.clone(),
                nat: uplink.config.nat,
                states: PerFamily::from_fn(|family| uplink.families.get(family).state()),
                paths: PerFamily::from_fn(|family| uplink.families.get(family).path().cloned()),
                macs: PerFamily::from_fn(|family| {
                    let path = uplink.families.get(family).path()?;
                    self.macs.of((path.interface, path.gateway?))
                }),
                main_metric: PerFamily::from_fn(|family| {
                    self.main_metric(uplink.families.get(family).path()?, family)
                }),
                usable: PerFamily::from_fn(|family| {
                    let tried = self.pools.get(family).members.contains_key(&id);
                    tried || uplink.families.get(family).is_alive()
                }),
                addresses: self.own_addresses(&uplink.config.interface),
                translated_to: PerFamily::from_fn(|family| uplink.config.virtual_address(family)),
                prefixes6: self.prefixes6(uplink),
            })
            .collect();
        Situation {
            numbers: Numbers {
                marks: self.config.marks,
                base_table: self.config.base_table,
                rule_priority: self.config.rule_priority,
            },
            uplinks,
            downlinks: self.config.downlinks.iter().cloned().collect(),
            own_addresses: self
                .view
                .addresses
                .iter()
                .map(|own| own.address)
                .filter(|address| !address.is_loopback())
                .collect(),
            links: self.links(),
            narrow: match self.config.mss {
                Mss::Auto => narrow(&self.view, self.interfaces()),
                Mss::Off => Narrow::new(),
            },
            affinity: self.config.affinity,
            fast_path: self.config.fast_path,
            pools: self.pools.clone(),
            policy: Arc::clone(&self.policy),
            closed: PerFamily::from_fn(|family| self.is_closed(family)),
            rule_pools: self.rule_pools.clone(),
            picked_by: self.picked_by,
        }
    }

    /// Where several uplinks share an interface nothing tells whose its prefixes are: each translates
    /// all but what it is said to have.
    fn prefixes6(&self, uplink: &Uplink) -> Vec<Ipv6Net> {
        if self.config.learns_gateways(&uplink.config) {
            own_prefixes6(&uplink.config, &self.view)
        } else {
            uplink.config.prefixes6.clone().unwrap_or_default()
        }
    }

    /// The best metric of a default route of `main` that goes a way.
    fn main_metric(&self, path: &Path, family: Family) -> Option<u32> {
        self.view
            .default_routes
            .iter()
            .filter(|route| {
                route.family == family
                    && route.interface == path.interface
                    && route.gateway == path.gateway
            })
            .map(|route| route.metric)
            .min()
    }

    fn links(&self) -> BTreeMap<InterfaceName, LinkSituation> {
        self.config
            .downlinks
            .iter()
            .chain(self.interfaces())
            .filter_map(|name| {
                // What comes in by a port is not its own: programs have nothing to do there.
                let link = self.view.links.get(name).filter(|link| !link.port)?;
                let found = LinkSituation {
                    index: link.index,
                    layer: link.layer,
                };
                Some((name.clone(), found))
            })
            .collect()
    }

    fn own_addresses(&self, interface: &InterfaceName) -> Vec<IpAddr> {
        let Some(link) = self.view.links.get(interface) else {
            return Vec::new();
        };
        Family::ALL
            .into_iter()
            .flat_map(|family| addresses_of(&self.view, link, family))
            .map(|own| own.address)
            .collect()
    }
}
