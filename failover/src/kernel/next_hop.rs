//! Where the kernel would send a packet next: by which interface, and to which hardware address.

use std::net::IpAddr;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};

use super::neighbours;
use super::network::gateway;
use super::routing::route::address_family;
use super::rtnetlink::{Rtnetlink, RtnetlinkError};
use crate::family::Family;
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
        let mut question = RouteMessage::default();
        question.header.address_family = address_family(Family::of(address));
        let (whole, destination) = match address {
            IpAddr::V4(address) => (32, RouteAddress::Inet(address)),
            IpAddr::V6(address) => (128, RouteAddress::Inet6(address)),
        };
        question.header.destination_prefix_length = whole;
        question
            .attributes
            .push(RouteAttribute::Destination(destination));
        let answer = self.0.ask(RouteNetlinkMessage::GetRoute(question)).await;
        match answer {
            Ok(RouteNetlinkMessage::NewRoute(route)) => Ok(hop(&route, address)),
            Ok(_) | Err(RtnetlinkError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
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

fn hop(route: &RouteMessage, destination: IpAddr) -> Option<Hop> {
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
