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

    /// Whether a flow of an uplink takes another one when it is forgotten, and loses no end of it.
    #[must_use]
    pub(super) fn can_leave(&self, flow: &TrackedFlow) -> bool {
        let (from, answers_from) = (flow.original.source, flow.reply.source);
        let answers_to = flow.reply.destination;
        // Who answers is neither the router nor a host inside.
        let goes_out = !self.is_own(answers_from) && !self.is_inside(answers_from);
        let (is_own, is_inside) = (self.is_own(from), self.is_inside(from));
        let began_inside = if answers_to == from {
            is_inside && !is_own
        } else {
            // Somebody from outside may be translated, too: to an address that is known inside.
            is_inside || is_own || !self.is_inside(answers_to)
        };
        goes_out && began_inside
    }

    fn is_inside(&self, address: IpAddr) -> bool {
        self.inside.iter().any(|net| net.contains(&address))
    }
}
