//! What the headers of a packet say about its flow, for IPv4 and IPv6 alike.

use core::hint::cold_path;

use failover_common::lifetime::protocol::{DCCP, ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE};
use failover_common::{Family, FlowKey};

use crate::address::{Address, is_unsteerable_ipv4, is_unsteerable_ipv6};
use crate::packet::Packet;
use crate::segment::Segment;

/// `ETH_P_IP` and `ETH_P_IPV6` as they stand in the context, in network order.
pub(crate) const ETH_P_IP: u32 = 0x0800_u16.to_be() as u32;
pub(crate) const ETH_P_IPV6: u32 = 0x86dd_u16.to_be() as u32;

/// How many extension headers are looked through (RFC 8200 names seven kinds).
const EXTENSION_HEADERS: usize = 8;

/// Where the offset of a fragment stands in the second word of an IPv4 header.
pub(crate) const FRAGMENT_OFFSET: u32 = 0x1fff_u32.to_be();

/// Where it stands that more fragments follow.
pub(crate) const MORE_FRAGMENTS: u32 = 0x2000_u32.to_be();

/// IPv6 extension headers (IANA).
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;

/// The family of a packet's network layer.
#[inline(always)]
pub(crate) fn family<const HEADER: usize>(packet: &Packet<'_, HEADER>) -> Option<Family> {
    match packet.protocol() {
        ETH_P_IP => Some(Family::Ipv4),
        ETH_P_IPV6 => Some(Family::Ipv6),
        _ => None,
    }
}

/// What the headers say.
pub(crate) enum Headers {
    /// A packet of a flow.
    Flow(Tuple),
    /// An ICMP error about a packet of a flow, which went the other way.
    Error(About),
    /// A packet that belongs to no flow of two hosts, or does not say to which: multicast, later
    /// fragments, neighbour discovery, anything that is not IP.
    Other,
    /// A packet that ends before its headers do, contradicts itself, or hides its flow behind too
    /// many extension headers.
    Unread,
}

/// Where in an ICMP error the packet begins that it is about. Nothing but a word: it lies in memory where
/// an address of a [`Tuple`] does, which would be written in pieces otherwise.
pub(crate) struct About(usize);

/// Where a packet of a flow goes.
#[derive(Clone, Copy)]
pub(crate) struct Tuple {
    pub(crate) family: Family,
    pub(crate) protocol: u8,
    pub(crate) source: Address,
    pub(crate) destination: Address,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) traffic_class: u8,
    pub(crate) tcp: Segment,
}

impl Tuple {
    /// The flow of a packet from inside.
    #[inline(always)]
    pub(crate) const fn outward(&self) -> FlowKey {
        let ports = (self.source_port, self.destination_port);
        let kind = (self.protocol, self.family);
        flow_key(self.source, self.destination, ports, kind)
    }

    /// The flow of a packet from outside.
    #[inline(always)]
    pub(crate) const fn inward(&self) -> FlowKey {
        // An echo's identifier is the inside host's whichever way it goes.
        let ports = match self.protocol {
            ICMP | ICMPV6 => (self.source_port, 0),
            _ => (self.destination_port, self.source_port),
        };
        let kind = (self.protocol, self.family);
        flow_key(self.destination, self.source, ports, kind)
    }
}

/// The key of a flow between two hosts, inside and outside, of a protocol and a family.
/// Written word by word: byte by byte the compiler would do it, and the processor has to wait for all of
/// them before it can read a word of them again.
#[inline(always)]
pub(crate) const fn flow_key(
    inside: Address,
    outside: Address,
    (inside_port, outside_port): (u16, u16),
    (protocol, family): (u8, Family),
) -> FlowKey {
    let [a, b] = inside.words();
    let [c, d] = outside.words();
    let rest = inside_port as u64
        | (outside_port as u64) << 16
        | (protocol as u64) << 32
        | (family as u64) << 40;
    // SAFETY: both are 40 initialised bytes, and the byte that is a family comes from one.
    unsafe { core::mem::transmute::<[u64; 5], FlowKey>([a, b, c, d, rest]) }
}

/// The header below IP's, and where it begins.
struct Upper {
    family: Family,
    protocol: u8,
    traffic_class: u8,
    source: Address,
    destination: Address,
    at: usize,
    /// From here on the packet is as long as its IP header says; what stands behind is padding.
    from: usize,
    /// The length that the IP header says.
    length: u16,
}

enum Read {
    Upper(Upper),
    Other,
    Unread,
}

/// Reads the headers of a packet.
#[inline(always)]
pub(crate) fn read<const HEADER: usize>(packet: &Packet<'_, HEADER>) -> Headers {
    let upper = match packet.protocol() {
        ETH_P_IP => read_ipv4(packet, 0),
        ETH_P_IPV6 => read_ipv6(packet, 0),
        _ => return Headers::Other,
    };
    let upper = match upper {
        Read::Upper(upper) => upper,
        Read::Other => return Headers::Other,
        Read::Unread => return Headers::Unread,
    };
    match (upper.protocol, upper.family) {
        (ICMP, Family::Ipv4) | (ICMPV6, Family::Ipv6) => {
            cold_path();
            read_icmp(packet, &upper)
        }
        _ => match read_tuple(packet, &upper, true) {
            Some(tuple) => Headers::Flow(tuple),
            None => Headers::Unread,
        },
    }
}

#[inline(always)]
fn read_ipv4<const HEADER: usize>(packet: &Packet<'_, HEADER>, at: usize) -> Read {
    let Some([first, second, third, source, destination]) = packet.words::<u32, 5>(at) else {
        return Read::Unread;
    };
    let [version_and_length, traffic_class, length_high, length_low] = first.to_ne_bytes();
    let [_, protocol, _, _] = third.to_ne_bytes();
    let length = usize::from(version_and_length & 0x0f) * 4;
    if version_and_length >> 4 != 4 || length < 20 {
        cold_path();
        return Read::Unread;
    }
    // A later fragment has no ports. Connection tracking joins it with the first one, whose mark
    // counts.
    if second & FRAGMENT_OFFSET != 0 || is_unsteerable_ipv4(destination) {
        cold_path();
        return Read::Other;
    }
    Read::Upper(Upper {
        family: Family::Ipv4,
        protocol,
        traffic_class,
        source: Address::from_ipv4(source),
        destination: Address::from_ipv4(destination),
        at: packet.any_offset(at + length),
        from: at,
        length: u16::from_be_bytes([length_high, length_low]),
    })
}

#[inline(always)]
fn read_ipv6<const HEADER: usize>(packet: &Packet<'_, HEADER>, at: usize) -> Read {
    let Some([first, s0, s1, d0, d1]) = packet.words::<u64, 5>(at) else {
        return Read::Unread;
    };
    let [version, class, _, _, length_high, length_low, next, _] = first.to_ne_bytes();
    if version >> 4 != 6 {
        cold_path();
        return Read::Unread;
    }
    if is_unsteerable_ipv6(d0) {
        cold_path();
        return Read::Other;
    }
    let mut upper = Upper {
        family: Family::Ipv6,
        protocol: next,
        traffic_class: version << 4 | class >> 4,
        source: Address::new([s0, s1]),
        destination: Address::new([d0, d1]),
        at: packet.any_offset(at + 40),
        from: at + 40,
        length: u16::from_be_bytes([length_high, length_low]),
    };
    for _ in 0..EXTENSION_HEADERS {
        if !is_extension(upper.protocol) {
            return Read::Upper(upper);
        }
        cold_path();
        let Some([word]) = packet.words::<u32, 1>(upper.at) else {
            return Read::Unread;
        };
        let [next, length, offset_high, offset_low] = word.to_ne_bytes();
        let length = usize::from(length);
        let length = match upper.protocol {
            // The offset is in the upper 13 bits (RFC 8200, section 4.5).
            FRAGMENT if offset_high != 0 || offset_low & 0xf8 != 0 => return Read::Other,
            FRAGMENT => 8,
            // In units of 4 bytes, 2 less (RFC 4302, section 2.2).
            AUTHENTICATION => (length + 2) * 4,
            _ => (length + 1) * 8,
        };
        upper.at = packet.any_offset(upper.at + length);
        upper.protocol = next;
    }
    if is_extension(upper.protocol) {
        Read::Unread
    } else {
        Read::Upper(upper)
    }
}

impl Upper {
    /// Where the packet ends; an offloaded one of more than 64 kB does not say how long it is.
    #[inline(always)]
    fn end<const HEADER: usize>(&self, packet: &Packet<'_, HEADER>) -> usize {
        if self.length == 0 {
            (packet.length() as usize).saturating_sub(HEADER)
        } else {
            self.from + usize::from(self.length)
        }
    }
}

#[inline(always)]
const fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        HOP_BY_HOP | ROUTING | FRAGMENT | AUTHENTICATION | DESTINATION_OPTIONS
    )
}

/// The flow by ports, or by addresses alone where there are none. `whole`: the TCP header is there
/// as far as its flags, which is not so in an ICMP error.
#[inline(always)]
fn read_tuple<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    upper: &Upper,
    whole: bool,
) -> Option<Tuple> {
    let mut tuple = by_addresses(upper);
    if matches!(upper.protocol, TCP | UDP | UDPLITE | SCTP | DCCP) {
        let [ports] = packet.words::<u32, 1>(upper.at)?;
        let ports = u32::from_be(ports);
        tuple.source_port = (ports >> 16) as u16;
        tuple.destination_port = ports as u16;
        if whole && upper.protocol == TCP {
            tuple.tcp = Segment::read(packet, upper.at, upper.end(packet))?;
        }
    } else if !packet.reaches(upper.at) {
        return None;
    }
    Some(tuple)
}

/// What an ICMP message is.
enum Icmp {
    Echo,
    Error,
    /// Neighbour discovery and multicast listeners, which stay on their link.
    Link,
    Query,
}

#[inline(always)]
const fn classify(family: Family, kind: u8) -> Icmp {
    match (family, kind) {
        (Family::Ipv4, 0 | 8) | (Family::Ipv6, 128 | 129) => Icmp::Echo,
        // Unreachable, source quench, time exceeded, parameter problem (RFC 792).
        (Family::Ipv4, 3 | 4 | 11 | 12) | (Family::Ipv6, 0..=127) => Icmp::Error,
        (Family::Ipv4, 5 | 9 | 10) | (Family::Ipv6, 130..=137 | 143 | 148..=149 | 151..=153) => {
            Icmp::Link
        }
        _ => Icmp::Query,
    }
}

#[inline(always)]
fn read_icmp<const HEADER: usize>(packet: &Packet<'_, HEADER>, upper: &Upper) -> Headers {
    let Some([first, second]) = packet.words::<u32, 2>(upper.at) else {
        return Headers::Unread;
    };
    let [kind, ..] = first.to_ne_bytes();
    match classify(upper.family, kind) {
        Icmp::Echo => Headers::Flow(echo(upper, second)),
        Icmp::Query => Headers::Flow(by_addresses(upper)),
        Icmp::Link => Headers::Other,
        Icmp::Error => Headers::Error(About(upper.at + 8)),
    }
}

/// An echo's flow is told by its identifier.
#[inline(always)]
fn echo(upper: &Upper, second_word: u32) -> Tuple {
    Tuple {
        source_port: (u32::from_be(second_word) >> 16) as u16,
        ..by_addresses(upper)
    }
}

/// A flow that is told by its addresses and protocol alone.
#[inline(always)]
const fn by_addresses(upper: &Upper) -> Tuple {
    Tuple {
        family: upper.family,
        protocol: upper.protocol,
        source: upper.source,
        destination: upper.destination,
        source_port: 0,
        destination_port: 0,
        traffic_class: upper.traffic_class,
        tcp: Segment::NONE,
    }
}

/// The flow of the packet that an ICMP error is about, as far as that tells.
#[inline(always)]
pub(crate) fn read_about<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    about: &About,
) -> Option<Tuple> {
    let About(at) = *about;
    let upper = match family(packet)? {
        Family::Ipv4 => read_ipv4(packet, at),
        Family::Ipv6 => read_ipv6(packet, at),
    };
    let Read::Upper(upper) = upper else {
        return None;
    };
    match (upper.protocol, upper.family) {
        (ICMP, Family::Ipv4) | (ICMPV6, Family::Ipv6) => {
            let [_, second] = packet.words::<u32, 2>(upper.at)?;
            Some(echo(&upper, second))
        }
        _ => read_tuple(packet, &upper, false),
    }
}
