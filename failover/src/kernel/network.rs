//! Reads links, addresses and the default routes of `main`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType,
    LinkMessage,
};
use netlink_packet_route::route::{
    RouteAttribute, RouteMessage, RouteNextHop, RouteProtocol, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use thiserror::Error;
use tracing::warn;

use super::neighbours::{self, NeighbourFilter};
use super::routing::route::{address_family, ip, table_of};
use super::rtnetlink::{Rtnetlink, RtnetlinkError};
use crate::family::{Family, PerFamily};
use crate::interface::{InterfaceIndex, InterfaceName};
use crate::network::{
    DefaultRoute, InterfaceAddress, Link, LinkLayer, Mtu, Neighbours, NetworkView, Traffic,
};
use crate::wanted::routing::{MAIN, PROTOCOL};

/// Reads the network's state. Changes nothing and needs no privilege.
#[derive(Debug)]
pub struct NetworkObserver {
    netlink: Rtnetlink,
    nameless_next_hops: bool,
    neighbours_of: BTreeSet<InterfaceName>,
    filter: Option<NeighbourFilter>,
}

/// Why the network's state could not be read.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// There is no socket.
    #[error(transparent)]
    Open(RtnetlinkError),
    /// A listing failed.
    #[error("cannot read the {what}: {source}")]
    Read {
        /// What was to be listed.
        what: &'static str,
        /// Why.
        source: RtnetlinkError,
    },
}

impl NetworkObserver {
    /// Opens a socket in the present network namespace, served by the present runtime.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, ObserveError> {
        Ok(Self {
            netlink: Rtnetlink::open().map_err(ObserveError::Open)?,
            nameless_next_hops: false,
            neighbours_of: BTreeSet::new(),
            filter: None,
        })
    }

    /// Reads neighbours of these interfaces from now on, and of no others. At first it reads none.
    pub fn follow_neighbours(&mut self, interfaces: BTreeSet<InterfaceName>) {
        self.neighbours_of = interfaces;
    }

    /// Has changes told of the same neighbours that it reads, from the next call of
    /// [`Self::have_told`] on.
    pub fn set_filter(&mut self, filter: NeighbourFilter) {
        self.filter = Some(filter);
    }

    /// Has changes of neighbours of these interfaces told, and of no others. Returns whether that is
    /// new: what became known before is told no more, and is to be read.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn have_told(&mut self, interfaces: &BTreeSet<InterfaceIndex>) -> io::Result<bool> {
        self.filter
            .as_mut()
            .map_or(Ok(false), |filter| filter.follow(interfaces))
    }

    /// Reads everything anew.
    ///
    /// # Errors
    /// When the kernel refuses, or the tables change faster than they can be read.
    pub async fn view(&mut self) -> Result<NetworkView, ObserveError> {
        let links = self.links().await?;
        Ok(NetworkView {
            addresses: self.addresses().await?,
            default_routes: self.default_routes().await?,
            neighbours: self.neighbours(&links).await?,
            links,
        })
    }

    /// Reads only the links, for their counters.
    ///
    /// # Errors
    /// As [`Self::view`].
    pub async fn links(&mut self) -> Result<BTreeMap<InterfaceName, Link>, ObserveError> {
        let request = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let found = self.dump("links", request).await?;
        Ok(found
            .iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewLink(message) => link(message),
                _ => None,
            })
            .collect())
    }

    async fn addresses(&mut self) -> Result<Vec<InterfaceAddress>, ObserveError> {
        let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let found = self.dump("addresses", request).await?;
        let mut addresses: Vec<_> = found
            .iter()
            .filter_map(|message| match message {
                RouteNetlinkMessage::NewAddress(message) => address(message),
                _ => None,
            })
            .collect();
        // The kernel's own order is kept otherwise.
        addresses.sort_by_key(|(rank, _)| *rank);
        Ok(addresses.into_iter().map(|(_, address)| address).collect())
    }

    async fn default_routes(&mut self) -> Result<Vec<DefaultRoute>, ObserveError> {
        let mut routes = Vec::new();
        for family in Family::ALL {
            let mut request = RouteMessage::default();
            request.header.address_family = address_family(family);
            request.header.kind = RouteType::Unicast;
            request.attributes.push(RouteAttribute::Table(MAIN.0));
            let found = match self
                .dump("routes of `main`", RouteNetlinkMessage::GetRoute(request))
                .await
            {
                // The table is made with its first route.
                Err(ObserveError::Read { source, .. })
                    if source.errno() == Some(Errno::ENOENT as i32) =>
                {
                    continue;
                }
                answer => answer?,
            };
            for message in &found {
                let RouteNetlinkMessage::NewRoute(message) = message else {
                    continue;
                };
                // Where the family is switched off the kernel answers with the other one's.
                if message.header.address_family == address_family(family)
                    && !default_routes(message, family, &mut routes)
                    && !self.nameless_next_hops
                {
                    self.nameless_next_hops = true;
                    warn!(
                        %family,
                        "a default route of `main` names its next hop by number only, so that no \
                         gateway is learnt from it: give the uplink's gateway in the \
                         configuration, or set net.ipv4.nexthop_compat_mode=1"
                    );
                }
            }
        }
        Ok(routes)
    }

    async fn neighbours(
        &mut self,
        links: &BTreeMap<InterfaceName, Link>,
    ) -> Result<Neighbours, ObserveError> {
        let mut found = Neighbours::new();
        for link in self.neighbours_of.iter().filter_map(|name| links.get(name)) {
            let behind = neighbours::read(&mut self.netlink, Some(link.index)).await;
            found.extend(behind.map_err(|source| ObserveError::Read {
                what: "neighbours",
                source,
            })?);
        }
        Ok(found)
    }

    async fn dump(
        &mut self,
        what: &'static str,
        request: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, ObserveError> {
        self.netlink
            .dump(request)
            .await
            .map_err(|source| ObserveError::Read { what, source })
    }
}

/// A link and its name. None for messages about bridge ports, names that no configuration can have,
/// and messages that say nothing of the link itself: what drivers tell of their wireless network comes
/// with little else than its name (`RTM_NEWLINK`, net/wireless/wext-core.c).
pub(super) fn link(message: &LinkMessage) -> Option<(InterfaceName, Link)> {
    let header = &message.header;
    if header.interface_family != AddressFamily::Unspec {
        return None;
    }
    let mut name = None;
    let mut traffic = Traffic::default();
    let mut port = false;
    let mut mtu = None;
    let mut mtu6 = None;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(found) => name = found.parse().ok(),
            LinkAttribute::Stats64(found) => {
                traffic = Traffic {
                    rx_bytes: found.rx_bytes,
                    tx_bytes: found.tx_bytes,
                    rx_packets: found.rx_packets,
                    tx_packets: found.tx_packets,
                };
            }
            LinkAttribute::Mtu(found) => mtu = Some(Mtu(*found)),
            LinkAttribute::AfSpecUnspec(found) => mtu6 = found.iter().find_map(ipv6_mtu),
            LinkAttribute::LinkInfo(found) => port = found.iter().any(is_port),
            _ => {}
        }
    }
    let mtu = mtu?;
    let link = Link {
        index: InterfaceIndex(header.index),
        enabled: header.flags.contains(LinkFlags::Up),
        carrier: header.flags.contains(LinkFlags::LowerUp),
        port,
        point_to_point: header
            .flags
            .intersects(LinkFlags::Pointopoint | LinkFlags::Noarp),
        layer: match header.link_layer_type {
            LinkLayerType::Ether | LinkLayerType::Loopback => LinkLayer::Ethernet,
            _ => LinkLayer::None,
        },
        loopback: header.flags.contains(LinkFlags::Loopback),
        mtu: PerFamily {
            ipv4: mtu,
            ipv6: mtu6.map_or(mtu, |mtu6| mtu.min(mtu6)),
        },
        traffic,
    };
    Some((name?, link))
}

/// What a router advertisement or the administrator says of IPv6 alone (RFC 4861, section 4.6.4).
fn ipv6_mtu(found: &AfSpecUnspec) -> Option<Mtu> {
    let AfSpecUnspec::Inet6(found) = found else {
        return None;
    };
    let mtu = found.iter().find_map(|found| match found {
        AfSpecInet6::DevConf(settings) => u32::try_from(settings.mtu6).ok(),
        _ => None,
    })?;
    (mtu > 0).then_some(Mtu(mtu))
}

/// An interface in a VRF still has packets of its own; one in a bridge, bond or team has none.
fn is_port(info: &LinkInfo) -> bool {
    use InfoPortKind::{Bond, Bridge, Team};
    matches!(info, LinkInfo::PortKind(Bond | Bridge | Team))
}

/// An address that can be a source, with its rank: lower comes first.
fn address(message: &AddressMessage) -> Option<((bool, bool), InterfaceAddress)> {
    let header = &message.header;
    if header.scope != AddressScope::Universe {
        return None;
    }
    let mut flags = AddressFlags::from_bits_retain(header.flags.bits().into());
    let mut local = None;
    let mut peer = None;
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Flags(found) => flags = *found,
            AddressAttribute::Local(found) => local = Some(*found),
            AddressAttribute::Address(found) => peer = Some(*found),
            _ => {}
        }
    }
    if flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed) {
        return None;
    }
    // `IFA_ADDRESS` is the other end's where the two differ (`include/uapi/linux/if_addr.h`).
    let address = InterfaceAddress {
        interface: InterfaceIndex(header.index),
        address: local.or(peer)?,
        prefix_len: header.prefix_len,
    };
    // The same bit says "temporary" of an IPv6 address.
    let rank = (
        flags.contains(AddressFlags::Deprecated),
        flags.contains(AddressFlags::Secondary),
    );
    Some((rank, address))
}

/// Adds a default route's next hops to `routes`. False if it is one whose next hops are not told.
fn default_routes(message: &RouteMessage, family: Family, routes: &mut Vec<DefaultRoute>) -> bool {
    let header = &message.header;
    if header.destination_prefix_length != 0
        || header.kind != RouteType::Unicast
        || header.protocol == RouteProtocol::from(PROTOCOL)
        || table_of(message) != MAIN
    {
        return true;
    }
    let mut metric = 0;
    let mut source = None;
    let mut alone = None;
    let mut several: &[RouteNextHop] = &[];
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Priority(found) => metric = *found,
            RouteAttribute::PrefSource(found) => source = ip(found),
            RouteAttribute::Oif(found) => alone = Some(*found),
            RouteAttribute::MultiPath(found) => several = found,
            _ => {}
        }
    }
    let alone = alone.map(|interface| (interface, gateway(&message.attributes)));
    let several = several
        .iter()
        .map(|hop| (hop.interface_index, gateway(&hop.attributes)));
    let before = routes.len();
    routes.extend(
        alone
            .into_iter()
            .chain(several)
            .map(|(interface, gateway)| DefaultRoute {
                family,
                interface: InterfaceIndex(interface),
                gateway,
                source,
                metric,
            }),
    );
    routes.len() > before
}

/// The gateway of a route or next hop, by its attributes.
pub(super) fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        // IPv4 by way of an IPv6 neighbour.
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some(IpAddr::V6(*address)),
        RouteAttribute::Via(RouteVia::Inet(address)) => Some(IpAddr::V4(*address)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_without_an_mtu_says_nothing_of_a_link() {
        let mut message = LinkMessage::default();
        let name = LinkAttribute::IfName("wlan0".to_owned());
        message.attributes = vec![name];
        assert_eq!(link(&message), None);
        message.attributes.push(LinkAttribute::Mtu(1400));
        let (name, found) = link(&message).unwrap();
        assert_eq!(
            (name.to_string(), found.mtu.ipv4, found.mtu.ipv6),
            ("wlan0".to_owned(), Mtu(1400), Mtu(1400))
        );
    }
}
