//! What the kernel says about the network: links, addresses and the default routes of `main`.
//!
//! Filled by the edge, read by decisions. Nothing in it is ours.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::family::{Family, PerFamily};
use crate::interface::{InterfaceIndex, InterfaceName};

/// Everything that decisions need to know of the network, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkView {
    /// The interfaces that exist.
    pub links: BTreeMap<InterfaceName, Link>,
    /// Their addresses that can be used as a source: global scope, not tentative, not failed. An
    /// interface's primary address of a family comes before its others, and deprecated ones come
    /// last: what is open goes on with them, and what begins takes another (RFC 4862, section 5.5.4).
    pub addresses: Vec<InterfaceAddress>,
    /// The default routes of the table `main`, whoever put them there.
    pub default_routes: Vec<DefaultRoute>,
    /// The neighbours whose hardware addresses the kernel knows, of the interfaces that were asked
    /// for.
    pub neighbours: Neighbours,
}

/// Neighbours by the interface behind which they are, and their address.
pub type Neighbours = BTreeMap<(InterfaceIndex, IpAddr), MacAddress>;

/// The hardware address of an Ethernet interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddress(pub [u8; 6]);

/// A text is no hardware address.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` is no hardware address, such as 02:00:5e:10:00:01")]
pub struct InvalidMacAddress(String);

impl FromStr for MacAddress {
    type Err = InvalidMacAddress;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts: Option<Vec<u8>> = text
            .split(':')
            .map(|part| {
                let digits = part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit());
                digits.then(|| u8::from_str_radix(part, 16).ok()).flatten()
            })
            .collect();
        parts
            .and_then(|parts| parts.try_into().ok())
            .map(Self)
            .ok_or_else(|| InvalidMacAddress(text.to_owned()))
    }
}

impl TryFrom<String> for MacAddress {
    type Error = InvalidMacAddress;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<MacAddress> for String {
    fn from(address: MacAddress) -> Self {
        address.to_string()
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// One interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's index.
    pub index: InterfaceIndex,
    /// Set up by the administrator (`IFF_UP`).
    pub enabled: bool,
    /// A peer is there (`IFF_LOWER_UP`).
    pub carrier: bool,
    /// A port of a bridge, bond or team: what comes in by it is theirs, not the interface's own.
    pub port: bool,
    /// Has one peer or needs no neighbour's address (`IFF_POINTOPOINT` or `IFF_NOARP`): routes
    /// through it need no gateway.
    pub point_to_point: bool,
    /// What its packets begin with.
    pub layer: LinkLayer,
    /// Leads back to this machine (`IFF_LOOPBACK`).
    pub loopback: bool,
    /// How large packets of each family may be.
    pub mtu: PerFamily<Mtu>,
    /// Bytes and packets since the interface was made.
    pub traffic: Traffic,
}

impl Link {
    /// Whether packets can leave by it at all.
    #[must_use]
    pub const fn works(&self) -> bool {
        self.enabled && self.carrier && !self.port
    }
}

/// The largest packet in bytes, with its IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mtu(pub u32);

impl Mtu {
    /// Of Ethernet, as the kernel gives it to new interfaces.
    pub const ETHERNET: Self = Self(1500);
}

#[cfg(test)]
impl Link {
    /// An Ethernet interface that works, for tests.
    pub(crate) fn ethernet(index: InterfaceIndex) -> Self {
        Self {
            index,
            enabled: true,
            carrier: true,
            port: false,
            point_to_point: false,
            layer: LinkLayer::Ethernet,
            loopback: false,
            mtu: PerFamily::from_fn(|_| Mtu::ETHERNET),
            traffic: Traffic::default(),
        }
    }
}

/// What stands before the IP header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkLayer {
    /// An Ethernet header.
    Ethernet,
    /// Nothing: TUN, PPP, WireGuard and the other tunnels.
    None,
}

/// An interface's counters (`IFLA_STATS64`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Packets received.
    pub rx_packets: u64,
    /// Packets sent.
    pub tx_packets: u64,
}

/// One address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddress {
    /// The interface.
    pub interface: InterfaceIndex,
    /// The address.
    pub address: IpAddr,
    /// The length of the network's prefix, 0 to 32 or 128 bits.
    pub prefix_len: u8,
}

/// One default route of the table `main`; a multipath route is one of these per next hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefaultRoute {
    /// The family.
    pub family: Family,
    /// The interface it leaves by.
    pub interface: InterfaceIndex,
    /// The next hop; none on interfaces that need none.
    pub gateway: Option<IpAddr>,
    /// The preferred source address, where the route names one.
    pub source: Option<IpAddr>,
    /// The metric; the lowest wins.
    pub metric: u32,
}
