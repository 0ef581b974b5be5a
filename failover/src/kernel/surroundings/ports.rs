//! Interfaces, as the fast path sends by them.
//!
//! Their messages are read in place: the fast path is not to depend on whether all that drivers say of
//! themselves can be read.

use std::collections::BTreeMap;
use std::io;

use netlink_packet_core::{NetlinkBuffer, NlasIterator};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};

use crate::fastpath::facts::Port;
use crate::interface::InterfaceIndex;
use crate::kernel::conntrack::message::find;
use crate::kernel::questions::Questions;
use crate::network::MacAddress;

// `include/uapi/linux/rtnetlink.h`, `if_link.h`, `if_arp.h` and `if.h`.
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const IFLA_ADDRESS: u16 = 1;
const IFLA_MTU: u16 = 4;
const IFLA_AF_SPEC: u16 = 26;
const AF_INET6: u16 = 10;
const IFLA_INET6_CONF: u16 = 2;
const AF_UNSPEC: u8 = 0;
const ARPHRD_ETHER: u16 = 1;
const IFF_UP: u32 = 1;
const IFF_LOWER_UP: u32 = 1 << 16;

/// Where the MTU stands among the settings of IPv6 (`DEVCONF_MTU6`, `include/uapi/linux/ipv6.h`), each a
/// word.
const MTU6: usize = 2;

/// Length of `struct ifinfomsg`.
const IFINFOMSG_LEN: usize = 16;

/// Reads all interfaces.
pub(super) fn read(questions: &mut Questions) -> io::Result<BTreeMap<InterfaceIndex, Port>> {
    let mut question = LinkMessage::default();
    let without_counters = vec![LinkExtentMask::SkipStats];
    question
        .attributes
        .push(LinkAttribute::ExtMask(without_counters));
    let found = questions.list(&RouteNetlinkMessage::GetLink(question), |message| {
        Ok(parse(&message).and_then(|(interface, port)| Some((interface, port?))))
    })?;
    Ok(found.into_iter().collect())
}

/// What a message says of an interface: what it is, or that it is gone; `None` for one that says nothing
/// of an interface itself, as when a driver tells of its wireless network (`RTM_NEWLINK` with little
/// else than `IFLA_WIRELESS`, net/wireless/wext-core.c).
pub(super) fn parse(message: &NetlinkBuffer<&[u8]>) -> Option<(InterfaceIndex, Option<Port>)> {
    let (header, attributes) = message.payload().split_first_chunk::<IFINFOMSG_LEN>()?;
    let [
        family,
        _,
        type_0,
        type_1,
        index @ ..,
        f0,
        f1,
        f2,
        f3,
        _,
        _,
        _,
        _,
    ] = *header;
    // A port of a bridge is told in the bridge's family, too, also when it leaves the bridge.
    if family != AF_UNSPEC {
        return None;
    }
    let interface = InterfaceIndex(u32::from_ne_bytes(index));
    match message.message_type() {
        RTM_NEWLINK => {
            let flags = u32::from_ne_bytes([f0, f1, f2, f3]);
            let layer = u16::from_ne_bytes([type_0, type_1]);
            Some((interface, Some(port(layer, flags, attributes)?)))
        }
        RTM_DELLINK => Some((interface, None)),
        _ => None,
    }
}

/// `None` where its MTU is not told: what tells of an interface itself does.
fn port(layer: u16, flags: u32, attributes: &[u8]) -> Option<Port> {
    let mut mac = None;
    let mut mtu = None;
    let mut ipv6_mtu = None;
    for attribute in NlasIterator::new(attributes).filter_map(Result::ok) {
        let value = attribute.value();
        match attribute.kind() {
            IFLA_ADDRESS if layer == ARPHRD_ETHER => mac = value.try_into().ok().map(MacAddress),
            IFLA_MTU => mtu = value.try_into().ok().map(u32::from_ne_bytes),
            IFLA_AF_SPEC => ipv6_mtu = of_ipv6(value),
            _ => {}
        }
    }
    Some(Port {
        mac,
        mtu: mtu?,
        ipv6_mtu,
        is_up: flags & (IFF_UP | IFF_LOWER_UP) == IFF_UP | IFF_LOWER_UP,
    })
}

/// The longest packet of IPv6, by what the families say of an interface.
fn of_ipv6(families: &[u8]) -> Option<u32> {
    let ipv6 = find(families, AF_INET6)?;
    let settings = find(ipv6.value(), IFLA_INET6_CONF)?;
    let mtu = settings.value().as_chunks::<4>().0.get(MTU6)?;
    Some(u32::from_ne_bytes(*mtu))
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NetlinkMessage;
    use netlink_packet_route::link::LinkLayerType;

    use super::*;

    #[test]
    fn what_a_driver_tells_of_its_wireless_network_says_nothing_of_the_interface() {
        let told = |attributes| {
            let mut link = LinkMessage::default();
            link.header.index = 7;
            link.header.link_layer_type = LinkLayerType::Ether;
            link.attributes = attributes;
            let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewLink(link));
            message.finalize();
            let mut bytes = vec![0; message.buffer_len()];
            message.serialize(&mut bytes);
            parse(&NetlinkBuffer::new_checked(bytes.as_slice()).unwrap())
        };
        let name = LinkAttribute::IfName("wlan0".to_owned());
        assert_eq!(told(vec![name.clone()]), None);
        let mac = MacAddress([2, 0, 0, 0, 0, 1]);
        let address = LinkAttribute::Address(mac.0.to_vec());
        let (interface, port) = told(vec![name, address, LinkAttribute::Mtu(1400)]).unwrap();
        assert_eq!(interface, InterfaceIndex(7));
        assert_eq!(
            port.map(|port| (port.mac, port.mtu)),
            Some((Some(mac), 1400))
        );
    }
}
