//! Looks for the entry of one flow.

use std::net::IpAddr;

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, IPTuple, ProtoTuple, Protocol as ConntrackProtocol, Tuple,
};

use super::ConntrackError;
use super::message::family;
use super::session::Session;
use super::tracked;
use crate::family::Family;
use crate::flows::{Protocol, TrackedFlow};

// Within the protocol's part of a tuple (`include/uapi/linux/netfilter/nfnetlink_conntrack.h`).
// Numbers are big-endian. For ICMP and ICMPv6: identifier, type and code.
const CTA_PROTO_ICMP: [u16; 3] = [4, 5, 6];
const CTA_PROTO_ICMPV6: [u16; 3] = [7, 8, 9];
/// GRE, which the kernel tells apart by keys in the place of ports.
const GRE: Protocol = Protocol(47);

/// The first packet of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FirstPacket {
    /// What it speaks. An ICMP message is an echo request.
    pub protocol: Protocol,
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes; of the same family.
    pub destination: IpAddr,
    /// The port that it comes from, or the identifier of an echo; 0 without.
    pub source_port: u16,
    /// The port that it goes to; 0 without.
    pub port: u16,
}

/// The entry of a flow, if there is one. Blocks while the kernel looks.
///
/// # Errors
/// When the kernel refuses.
pub fn entry_of(packet: &FirstPacket) -> Result<Option<TrackedFlow>, ConntrackError> {
    let mut session = Session::open().map_err(ConntrackError::Open)?;
    let asked = family(Family::of(packet.source));
    session
        .ask(asked, vec![tuple(packet)], tracked::read)
        .map_err(|source| ConntrackError::Refused {
            what: "look for an entry",
            source,
        })
}

/// Its addresses, and what its protocol tells flows apart by.
pub(in crate::kernel) fn tuple(packet: &FirstPacket) -> ConntrackAttribute {
    let addresses = vec![
        IPTuple::SourceAddress(packet.source),
        IPTuple::DestinationAddress(packet.destination),
    ];
    let number = packet.protocol.0;
    let mut protocol = vec![ProtoTuple::Protocol(ConntrackProtocol::from(number))];
    let other = |kind, value: &[u8]| ProtoTuple::Other(DefaultNla::new(kind, value.to_vec()));
    if packet.protocol.has_ports() || packet.protocol == GRE {
        protocol.push(ProtoTuple::SourcePort(packet.source_port));
        protocol.push(ProtoTuple::DestinationPort(packet.port));
    } else if packet.protocol.has_identifier() {
        let ([identifier, kind, code], request) = match Family::of(packet.source) {
            Family::Ipv4 => (CTA_PROTO_ICMP, 8),
            Family::Ipv6 => (CTA_PROTO_ICMPV6, 128),
        };
        protocol.push(other(identifier, &packet.source_port.to_be_bytes()));
        protocol.push(other(kind, &[request]));
        protocol.push(other(code, &[0]));
    }
    ConntrackAttribute::CtaTupleOrig(vec![Tuple::Ip(addresses), Tuple::Proto(protocol)])
}
