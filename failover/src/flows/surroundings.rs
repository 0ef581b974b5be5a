//! Which side of the gateway an address is on.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::config::Config;
use crate::flows::TrackedFlow;
use crate::interface::InterfaceIndex;
use crate::network::NetworkView;

/// Which way a flow's first packet went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To an uplink.
    Outbound,
    /// In by an uplink.
    Inbound,
}

/// What tells the inside from the outside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The router's own addresses.
    own: HashSet<IpAddr>,
    /// The networks behind interfaces that are no uplink, and those that providers route here.
    inside: Vec<IpNet>,
}

impl Surroundings {
    /// The surroundings of a router with this configuration in this network.
    #[must_use]
    pub fn new(config: &Config, view: &NetworkView) -> Self {
        let outside: HashSet<InterfaceIndex> = config
            .uplinks
            .values()
            .filter(|uplink| !config.downlinks.contains(&uplink.interface))
            .filter_map(|uplink| Some(view.links.get(&uplink.interface)?.index))
            .collect();
        let connected = view
            .addresses
            .iter()
            .filter(|address| !outside.contains(&address.interface))
            .filter_map(|address| IpNet::new(address.address, address.prefix_len).ok());
        let routed_here = config
            .uplinks
            .values()
            .filter_map(|uplink| uplink.prefixes6.as_ref())
            .flatten()
            .map(|prefix| IpNet::V6(*prefix));
        Self {
            own: view.addresses.iter().map(|own| own.address).collect(),
            inside: connected.chain(routed_here).collect(),
        }
    }

    /// Which way the first packet of a flow of an uplink went.
    #[must_use]
    pub fn direction(&self, flow: &TrackedFlow) -> Direction {
        let (from, to) = (flow.original.source, flow.original.destination);
        // To the router, or to one of its addresses and from there to a host inside; or straight to
        // a host inside.
        let comes_in =
            self.is_own(to) || self.is_inside(flow.reply.source) && !self.is_inside(from);
        if comes_in && !self.is_own(from) {
            Direction::Inbound
        } else {
            Direction::Outbound
        }
    }

    /// Whether the router itself has the address.
    #[must_use]
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.own.contains(&address)
    }

    fn is_inside(&self, address: IpAddr) -> bool {
        self.inside.iter().any(|net| net.contains(&address))
    }
}
