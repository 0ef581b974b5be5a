//! The fast path: a packet is translated and sent out.
//!
//! What the kernel keeps of a packet's checksum is known to its helpers alone: whether the field holds
//! a whole checksum, or that over the pseudo header which hardware or a later look adds the rest to, or
//! whether hardware has summed up all bytes. So the checksum of TCP and UDP is changed by the helper,
//! and that also makes the headers writable. All else is computed here and written at once.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::generated::{
    bpf_csum_update, bpf_l4_csum_replace, bpf_redirect, bpf_skb_store_bytes,
};
use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Direction, Family, NextHop};

use crate::headers::Tuple;
use crate::maps::{NEXT_HOPS, zero};
use crate::packet::{ETHERNET_HEADER, Packet};

/// Where the checksum stands in a TCP header (RFC 9293, section 3.1) and in a UDP header (RFC 768).
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;
/// The lengths of the headers, in bytes; that of TCP without options.
const TCP_HEADER: u32 = 20;
const UDP_HEADER: u32 = 8;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const PORTS: usize = 4;
/// A frame begins two bytes into what it is written from, so that the words behind its Ethernet header
/// are aligned.
const SHIFT: usize = 2;

/// One hop less, as a difference in one's complement: of the word that holds the hops and the protocol of
/// an IPv4 header, and of the one that holds the next header and the hops of an IPv6 header.
const ONE_HOP_IPV4: u16 = !1;
const ONE_HOP_IPV6: u16 = !0x0100;

/// Translates a packet and sends it out. `None`: it is not changed, and the stack's.
#[inline(always)]
pub(crate) fn by<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    tuple: &Tuple,
    way: &Direction,
) -> Option<i32> {
    // The daemon takes the interface away before it changes anything else of a next hop, and waits for
    // all programs before it does that.
    let hop = NEXT_HOPS.get(way.next_hop)?;
    let interface = hop.interface;
    if interface == 0 || !fits(packet, tuple, hop) {
        return None;
    }
    change_checksum(packet, tuple, way)?;
    let (front, length) = match tuple.family {
        Family::Ipv4 => (front_ipv4(packet, way, hop)?, IPV4_HEADER),
        Family::Ipv6 => (front_ipv6(packet, way, hop)?, IPV6_HEADER),
    };
    write(packet, &front, ETHERNET_HEADER + length + PORTS)?;
    if matches!(tuple.family, Family::Ipv6) {
        // Nothing in the IPv6 header makes up for what changes there, as the checksum of IPv4's does, and
        // the helper that changed the checksum of TCP or UDP did as if there were.
        let change = plus(way.address_sum, ONE_HOP_IPV6);
        // SAFETY: the context is valid for the call. It fails where hardware has not summed up the
        // packet.
        let _unneeded = unsafe { bpf_csum_update(packet.context().skb.skb, u32::from(change)) };
    }
    packet.set_fast();
    // SAFETY: the helper takes two numbers.
    Some(unsafe { bpf_redirect(interface, 0) } as i32)
}

/// Whether the packet, or each segment that it is cut into, fits the output. What does not is answered
/// or cut by the stack.
#[inline(always)]
fn fits<const HEADER: usize>(packet: &Packet<'_, HEADER>, tuple: &Tuple, hop: &NextHop) -> bool {
    let internet = match tuple.family {
        Family::Ipv4 => IPV4_HEADER,
        Family::Ipv6 => IPV6_HEADER,
    } as u32;
    let upper = if tuple.protocol == TCP {
        tuple.tcp.header()
    } else {
        UDP_HEADER
    };
    let headers = internet + upper;
    let segment = packet.gso_size();
    if segment != 0 {
        return headers + segment <= hop.mtu;
    }
    // One that is shorter than it says, or than its headers are, is broken, and the stack's to judge.
    let is_whole = u64::from(tuple.length) + ETHERNET_HEADER as u64 <= packet.length()
        && headers <= tuple.length
        && (tuple.protocol != TCP || upper >= TCP_HEADER);
    is_whole && tuple.length <= hop.mtu
}

/// Changes the checksum of TCP or UDP by the differences of addresses and ports.
#[inline(always)]
fn change_checksum<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    tuple: &Tuple,
    way: &Direction,
) -> Option<()> {
    let internet = match tuple.family {
        Family::Ipv4 => IPV4_HEADER,
        Family::Ipv6 => IPV6_HEADER,
    };
    let (checksum, flags) = match tuple.protocol {
        TCP => (TCP_CHECKSUM, 0),
        // Without a checksum it stays so (RFC 768).
        UDP => (UDP_CHECKSUM, u64::from(BPF_F_MARK_MANGLED_0)),
        _ => return None,
    };
    let at = (ETHERNET_HEADER + internet + checksum) as u32;
    let change = |difference: u16, flags: u64| {
        // SAFETY: the context is valid for the call; the helper looks itself whether the packet reaches
        // so far.
        let done = unsafe {
            bpf_l4_csum_replace(
                packet.context().skb.skb,
                at,
                0,
                u64::from(difference),
                flags,
            )
        };
        (done == 0).then_some(())
    };
    // Also where nothing changes: the helper makes the headers writable.
    change(way.address_sum, flags | u64::from(BPF_F_PSEUDO_HDR))?;
    if way.port_sum != 0 {
        change(way.port_sum, flags)?;
    }
    Some(())
}

/// Adds in one's complement.
#[inline(always)]
const fn plus(a: u16, b: u16) -> u16 {
    let sum = a as u32 + b as u32;
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// The front of a frame from the words that hold it, the first two bytes left out: up to the ports.
type Front = [u64; 8];

#[inline(always)]
fn front_ipv4<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    way: &Direction,
    hop: &NextHop,
) -> Option<Front> {
    let [first, second, third] = packet.words::<u32, 3>(0)?;
    let [hops, protocol, high, low] = third.to_ne_bytes();
    let sum = plus(!u16::from_ne_bytes([high, low]), way.address_sum);
    let [high, low] = (!plus(sum, ONE_HOP_IPV4)).to_ne_bytes();
    let third = u32::from_ne_bytes([hops.wrapping_sub(1), protocol, high, low]);
    let [link, rest] = hop.frame;
    let ([source, _], [destination, _]) = (way.source, way.destination);
    let none = zero();
    Some([
        link,
        rest,
        u64::from(first) | u64::from(second) << 32,
        u64::from(third) | source << 32,
        destination & 0xffff_ffff | u64::from(ports(way)) << 32,
        none,
        none,
        none,
    ])
}

#[inline(always)]
fn front_ipv6<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    way: &Direction,
    hop: &NextHop,
) -> Option<Front> {
    let [first] = packet.words::<u64, 1>(0)?;
    let [a, b, c, d, e, f, next, hops] = first.to_ne_bytes();
    let first = u64::from_ne_bytes([a, b, c, d, e, f, next, hops.wrapping_sub(1)]);
    let [link, rest] = hop.frame;
    let [source, source_low] = way.source;
    let [destination, destination_low] = way.destination;
    Some([
        link,
        rest,
        first,
        source,
        source_low,
        destination,
        destination_low,
        u64::from(ports(way)),
    ])
}

/// Writes the front of a frame.
#[inline(always)]
fn write<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    front: &Front,
    length: usize,
) -> Option<()> {
    const LONGEST: usize = ETHERNET_HEADER + IPV6_HEADER + PORTS;
    const { assert!(SHIFT + LONGEST <= size_of::<Front>()) };
    // SAFETY: two bytes into the words is within them.
    let from = unsafe { front.as_ptr().cast::<u8>().add(SHIFT) };
    // SAFETY: the words hold so many bytes behind their first two, by the assertion above; the helper
    // looks itself whether the packet has them.
    let written = unsafe {
        bpf_skb_store_bytes(
            packet.context().as_ptr().cast(),
            0,
            from.cast(),
            length as u32,
            0,
        )
    };
    (written == 0).then_some(())
}

/// The ports as they stand in a packet.
#[inline(always)]
fn ports(way: &Direction) -> u32 {
    u32::from(way.source_port.to_be()) | u32::from(way.destination_port.to_be()) << 16
}
