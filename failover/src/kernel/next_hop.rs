//! Where the kernel would send a packet next: by which interface, and to which hardware address.

use std::net::IpAddr;

use failover_common::lifetime::protocol;
use netlink_packet_core::DefaultNla;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};

use super::neighbours;
use super::network::gateway;
use super::routing::route::address_family;
use super::rtnetlink::{Rtnetlink, RtnetlinkError};
use crate::family::Family;
use crate::flows::Protocol;
use crate::interface::InterfaceIndex;
use crate::network::Neighbours;

/// The next hop on the way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The interface.
    pub interface: InterfaceIndex,
    /// The address that is asked for on the link: the gateway's, or that of the destination itself.
    pub address: IpAddr,
}

/// A packet that comes in by an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassingPacket {
    /// The interface.
    pub interface: InterfaceIndex,
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes; of the same family.
    pub destination: IpAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// The ports that it comes from and goes to, where the protocol has any.
    pub ports: Option<(u16, u16)>,
}

/// A packet of this host's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnPacket {
    /// What its socket is bound to.
    pub source: Option<IpAddr>,
    /// Where it goes.
    pub destination: IpAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// The ports that it comes from and goes to, where the protocol has any.
    pub ports: Option<(u16, u16)>,
    /// The mark that its socket gives it.
    pub mark: u32,
}

/// Attributes of a question (`include/uapi/linux/rtnetlink.h`).
const RTA_IP_PROTO: u16 = 27;
const RTA_SPORT: u16 = 28;
const RTA_DPORT: u16 = 29;

/// Asks the kernel. Changes nothing and needs no privilege.
#[derive(Debug)]
pub struct NextHops(Rtnetlink);

impl NextHops {
    /// Opens a socket in the present network namespace, served by the present runtime.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self, RtnetlinkError> {
        Rtnetlink::open().map(Self)
    }

    /// Where an unmarked packet of this host would go. `None`: nowhere, or to this host itself.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub async fn to(&mut self, address: IpAddr) -> Result<Option<Hop>, RtnetlinkError> {
        let question = question_about(address);
        let answer = self.0.ask(RouteNetlinkMessage::GetRoute(question)).await;
        match answer {
            Ok(RouteNetlinkMessage::NewRoute(route)) => Ok(hop(&route, address)),
            Ok(_) | Err(RtnetlinkError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where a packet of others would go that comes in without a mark. `None`: to this host itself.
    ///
    /// # Errors
    /// When the kernel would not route it, which says why, or does not answer.
    pub async fn through(&mut self, packet: &PassingPacket) -> Result<Option<Hop>, RtnetlinkError> {
        let question = question_through(packet);
        self.found(question, packet.destination).await
    }

    /// Where a packet of this host's own would go. `None`: to this host itself.
    ///
    /// # Errors
    /// When the kernel would not route it, which says why, or does not answer.
    pub async fn of_own(&mut self, packet: &OwnPacket) -> Result<Option<Hop>, RtnetlinkError> {
        let mut question = question_about(packet.destination);
        if let Some(source) = packet.source {
            from(&mut question, source);
        }
        service(&mut question, packet.protocol, packet.ports);
        question.attributes.push(RouteAttribute::Mark(packet.mark));
        self.found(question, packet.destination).await
    }

    async fn found(
        &mut self,
        question: RouteMessage,
        destination: IpAddr,
    ) -> Result<Option<Hop>, RtnetlinkError> {
        match self.0.ask(RouteNetlinkMessage::GetRoute(question)).await? {
            RouteNetlinkMessage::NewRoute(route) => Ok(hop(&route, destination)),
            _ => Ok(None),
        }
    }

    /// All hardware addresses that the kernel knows.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub async fn neighbours(&mut self) -> Result<Neighbours, RtnetlinkError> {
        neighbours::read(&mut self.0, None).await
    }
}

fn question_about(destination: IpAddr) -> RouteMessage {
    let mut question = RouteMessage::default();
    question.header.address_family = address_family(Family::of(destination));
    let (whole, destination) = whole(destination);
    question.header.destination_prefix_length = whole;
    question
        .attributes
        .push(RouteAttribute::Destination(destination));
    question
}

/// Asks where a packet would go that comes in without a mark.
pub(super) fn question_through(packet: &PassingPacket) -> RouteMessage {
    let mut question = question_about(packet.destination);
    from(&mut question, packet.source);
    service(&mut question, packet.protocol, packet.ports);
    question
        .attributes
        .push(RouteAttribute::Iif(packet.interface.0));
    question
}

fn from(question: &mut RouteMessage, source: IpAddr) {
    let (whole, source) = whole(source);
    question.header.source_prefix_length = whole;
    question.attributes.push(RouteAttribute::Source(source));
}

/// Rules by port know the ports of these protocols, and of no others.
fn service(question: &mut RouteMessage, protocol: Protocol, ports: Option<(u16, u16)>) {
    if let (Some((from, to)), Protocol(protocol::TCP | protocol::UDP)) = (ports, protocol) {
        let other = |kind, value| RouteAttribute::Other(DefaultNla::new(kind, value));
        question.attributes.extend([
            other(RTA_IP_PROTO, vec![protocol.0]),
            other(RTA_SPORT, from.to_be_bytes().to_vec()),
            other(RTA_DPORT, to.to_be_bytes().to_vec()),
        ]);
    }
}

/// An address as a prefix of its whole length.
const fn whole(address: IpAddr) -> (u8, RouteAddress) {
    match address {
        IpAddr::V4(address) => (32, RouteAddress::Inet(address)),
        IpAddr::V6(address) => (128, RouteAddress::Inet6(address)),
    }
}

/// What an answer says. `None`: to this host itself, or nowhere.
pub(super) fn hop(route: &RouteMessage, destination: IpAddr) -> Option<Hop> {
    if route.header.kind != RouteType::Unicast {
        return None;
    }
    let interface = route
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            RouteAttribute::Oif(index) => Some(InterfaceIndex(*index)),
            _ => None,
        })?;
    let address = gateway(&route.attributes);
    Some(Hop {
        interface,
        address: address.unwrap_or(destination),
    })
}
