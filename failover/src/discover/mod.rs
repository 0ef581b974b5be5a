//! From the configuration and what the kernel says to the way that an uplink's packets leave.
//!
//! One answer per uplink and family. What the configuration gives counts; what it leaves open is
//! learnt from the interface's addresses and from the default routes of `main`, where DHCP, router
//! advertisements, PPP or a person put them.

use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv6Net};

use crate::config::{Config, UplinkConfig};
use crate::family::Family;
use crate::health::LinkLoss;
use crate::interface::InterfaceIndex;
use crate::network::{InterfaceAddress, Link, NetworkView};

/// How an uplink's packets of one family leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// The interface.
    pub interface: InterfaceIndex,
    /// The next hop; none on a link that needs none.
    pub gateway: Option<IpAddr>,
    /// The gateway is in none of the interface's networks and is reached on the link all the same.
    pub onlink: bool,
    /// The address of probes, and of translated flows.
    pub source: IpAddr,
    /// The address is gone whose network the gateway is in; it is reached on the link all the same.
    pub stranded: bool,
    /// The source is an address of this host now. While it is expected back, only what is open
    /// already takes this path.
    pub sourced: bool,
}

/// Whether an uplink has a way for one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reachability {
    /// It has.
    Path(Path),
    /// The uplink does not speak this family.
    Absent(Missing),
    /// The interface cannot carry packets now.
    LinkDown(LinkLoss),
}

impl Reachability {
    /// The path, to be changed.
    pub(crate) const fn path_mut(&mut self) -> Option<&mut Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Absent(_) | Self::LinkDown(_) => None,
        }
    }

    /// The path, where there is one.
    #[must_use]
    pub const fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Absent(_) | Self::LinkDown(_) => None,
        }
    }
}

/// What an uplink lacks of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// The interface has no address of the family.
    Address,
    /// The configuration gives an address that this host does not have, or cannot use yet. The
    /// kernel refuses routes and sockets with such a source.
    Source(IpAddr),
    /// There is an address, but nobody said where to send packets.
    Gateway,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address => f.write_str("no address"),
            Self::Source(address) => {
                write!(
                    f,
                    "the configured source {address} is no address of this host"
                )
            }
            Self::Gateway => f.write_str(
                "no gateway: none is configured, and `main` has no default route by this interface",
            ),
        }
    }
}

/// Whose word counts about gateways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gateways {
    /// The configuration's, else that of the default routes.
    Learnt,
    /// The configuration's only: nothing tells whose a learnt gateway is.
    Given,
}

impl Gateways {
    /// What counts for one uplink of a configuration.
    #[must_use]
    pub fn of(config: &Config, uplink: &UplinkConfig) -> Self {
        if config.learns_gateways(uplink) {
            Self::Learnt
        } else {
            Self::Given
        }
    }
}

/// The way of one uplink in one family.
#[must_use]
pub fn reachability(
    uplink: &UplinkConfig,
    gateways: Gateways,
    family: Family,
    view: &NetworkView,
) -> Reachability {
    let name = &uplink.interface;
    let Some(link) = view.links.get(name) else {
        return Reachability::LinkDown(LinkLoss::Missing(name.clone()));
    };
    if !link.enabled {
        return Reachability::LinkDown(LinkLoss::Disabled(name.clone()));
    }
    if link.port {
        return Reachability::LinkDown(LinkLoss::Port(name.clone()));
    }
    let addresses: Vec<&InterfaceAddress> = addresses_of(view, link, family).collect();
    let learnt = view
        .default_routes
        .iter()
        .filter(|_| gateways == Gateways::Learnt)
        .filter(|route| route.family == family && route.interface == link.index)
        .min_by_key(|route| route.metric);
    let given_source = match family {
        Family::Ipv4 => uplink.source.map(IpAddr::V4),
        Family::Ipv6 => uplink.source6.map(IpAddr::V6),
    };
    // It need not be the interface's own: providers route addresses to a router's loopback too.
    if let Some(given) = given_source
        && !view.addresses.iter().any(|own| own.address == given)
    {
        return Reachability::Absent(Missing::Source(given));
    }
    let Some(source) = given_source
        .or_else(|| learnt.and_then(|route| route.source))
        .or_else(|| addresses.first().map(|found| found.address))
    else {
        return Reachability::Absent(Missing::Address);
    };
    let given_gateway = match family {
        Family::Ipv4 => uplink.gateway.map(IpAddr::V4),
        Family::Ipv6 => uplink.gateway6.map(IpAddr::V6),
    };
    let gateway = given_gateway.or_else(|| learnt.and_then(|route| route.gateway));
    if gateway.is_none() && !link.point_to_point && learnt.is_none() {
        return Reachability::Absent(Missing::Gateway);
    }
    if !link.carrier {
        return Reachability::LinkDown(LinkLoss::NoCarrier);
    }
    let onlink = gateway.is_some_and(|gateway| {
        !is_link_local(gateway) && !addresses.iter().any(|own| network(own).contains(&gateway))
    });
    Reachability::Path(Path {
        interface: link.index,
        gateway,
        onlink,
        source,
        stranded: false,
        sourced: true,
    })
}

/// The networks whose sources are not translated on an uplink: IPv6 prefixes of its own.
#[must_use]
pub fn own_prefixes6(uplink: &UplinkConfig, view: &NetworkView) -> Vec<Ipv6Net> {
    if let Some(given) = &uplink.prefixes6 {
        return given.clone();
    }
    let Some(link) = view.links.get(&uplink.interface) else {
        return Vec::new();
    };
    let mut prefixes: Vec<Ipv6Net> = addresses_of(view, link, Family::Ipv6)
        .filter_map(|own| match network(own) {
            IpNet::V6(net) => Some(net.trunc()),
            IpNet::V4(_) => None,
        })
        .collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes
}

/// The addresses of an interface in one family, the primary one first.
pub fn addresses_of<'v>(
    view: &'v NetworkView,
    link: &Link,
    family: Family,
) -> impl Iterator<Item = &'v InterfaceAddress> {
    let index = link.index;
    view.addresses
        .iter()
        .filter(move |own| own.interface == index && Family::of(own.address) == family)
}

/// The network that an address is in; a prefix length that no address can have counts as the
/// address alone.
pub(crate) fn network(own: &InterfaceAddress) -> IpNet {
    IpNet::new(own.address, own.prefix_len).unwrap_or_else(|_| IpNet::from(own.address))
}

/// Link-local next hops are on the link by their nature.
pub const fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(address) if address.is_unicast_link_local())
}

#[cfg(test)]
mod tests;
