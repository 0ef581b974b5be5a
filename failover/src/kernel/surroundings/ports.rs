//! Interfaces, as the fast path sends by them.

use std::collections::BTreeMap;
use std::io;

use netlink_packet_core::NetlinkBuffer;
use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkFlags, LinkLayerType, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::fastpath::facts::Port;
use crate::interface::InterfaceIndex;
use crate::kernel::netlink::rtnetlink;
use crate::kernel::questions::Questions;
use crate::network::{MacAddress, Mtu};

/// Reads all interfaces.
pub(super) fn read(questions: &mut Questions) -> io::Result<BTreeMap<InterfaceIndex, Port>> {
    let mut question = LinkMessage::default();
    let without_counters = vec![LinkExtentMask::SkipStats];
    question
        .attributes
        .push(LinkAttribute::ExtMask(without_counters));
    let found = questions.list(&RouteNetlinkMessage::GetLink(question), |message| {
        let told = parse(message)?;
        Ok(told.and_then(|(interface, port)| Some((interface, port?))))
    })?;
    Ok(found.into_iter().collect())
}

/// What a message says of an interface: what it is, or that it is gone; `None` for one that says nothing
/// of an interface itself.
pub(super) fn parse(
    message: NetlinkBuffer<&[u8]>,
) -> io::Result<Option<(InterfaceIndex, Option<Port>)>> {
    Ok(match rtnetlink(message)? {
        Some(RouteNetlinkMessage::NewLink(message)) if is_whole(&message) => {
            Some((index(&message), Some(port(&message))))
        }
        Some(RouteNetlinkMessage::DelLink(message)) if is_whole(&message) => {
            Some((index(&message), None))
        }
        _ => None,
    })
}

/// A port of a bridge is told in the bridge's family, too, also when it leaves the bridge.
fn is_whole(message: &LinkMessage) -> bool {
    message.header.interface_family == AddressFamily::Unspec
}

const fn index(message: &LinkMessage) -> InterfaceIndex {
    InterfaceIndex(message.header.index)
}

fn port(message: &LinkMessage) -> Port {
    let header = &message.header;
    let mut mac = None;
    let mut mtu = Mtu::ETHERNET.0;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => mac = bytes.as_slice().try_into().ok().map(MacAddress),
            LinkAttribute::Mtu(found) => mtu = *found,
            _ => {}
        }
    }
    Port {
        mac: mac.filter(|_| header.link_layer_type == LinkLayerType::Ether),
        mtu,
        is_up: header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
    }
}
