//! The fast path: a packet is translated and sent out.
//!
//! What the kernel keeps of a packet's checksum is known to its helpers alone: whether the field holds
//! a whole checksum, or that over the pseudo header which hardware or a later look adds the rest to, or
//! whether hardware has summed up all bytes. So the checksum of TCP and UDP is changed by the helper,
//! and that also makes the headers writable up to it. All else is written into the packet directly.

use core::ptr;

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::generated::{bpf_csum_update, bpf_l4_csum_replace, bpf_redirect};
use failover_common::{Direction, Family, NextHop};

use crate::maps::{NEXT_HOPS, after};
use crate::packet::{ETHERNET_HEADER, Packet, Word as _};
use crate::shape::{IPV4_HEADER, IPV6_HEADER, Shape};

/// Where the checksum stands in a TCP header (RFC 9293, section 3.1) and in a UDP header (RFC 768).
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;
/// The length of the ports that both begin with.
const PORTS: usize = 4;

/// Where fields stand in the headers of IP (RFC 791, section 3.1; RFC 8200, section 3).
const IPV4_HOPS: usize = 8;
const IPV4_SOURCE: usize = 12;
const IPV4_DESTINATION: usize = 16;
const IPV6_HOPS: usize = 7;
const IPV6_SOURCE: usize = 8;
const IPV6_DESTINATION: usize = 24;

/// One hop less, as a difference in one's complement: of the word that holds the hops and the protocol of
/// an IPv4 header, and of the one that holds the next header and the hops of an IPv6 header.
const ONE_HOP_IPV4: u16 = !1;
const ONE_HOP_IPV6: u16 = !0x0100;

/// Translates a packet and sends it out; returns whether it did. Otherwise it is not changed, and the
/// stack's.
#[inline(always)]
pub(crate) fn by<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    shape: Shape,
    way: &Direction,
) -> bool {
    translate(packet, shape, way).is_some()
}

#[inline(always)]
fn translate<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    shape: Shape,
    way: &Direction,
) -> Option<()> {
    // The daemon takes the interface away before it changes anything else of a next hop, and waits for
    // all programs before it does that.
    let hop = NEXT_HOPS.get(way.next_hop)?;
    let interface = hop.interface;
    // SAFETY: zero is added.
    let hop = unsafe { &*ptr::from_ref(hop).byte_add(after(interface)) };
    // What does not fit the output is answered or cut by the stack.
    if interface == 0 || shape.size() > hop.mtu {
        return None;
    }
    if matches!(shape.family(), Family::Ipv6) {
        change_checksum::<_, IPV6_HEADER>(packet, shape, way)?;
        rewrite_ipv6(packet, way, hop)?;
        // Nothing in the IPv6 header makes up for what changes there, as the checksum of IPv4's does, and
        // the helper that changed the checksum of TCP or UDP did as if there were.
        let change = plus(way.address_sum, ONE_HOP_IPV6);
        // SAFETY: the context is valid for the call. It fails where hardware has not summed up the
        // packet.
        let _unneeded = unsafe { bpf_csum_update(packet.context().skb.skb, u32::from(change)) };
    } else {
        change_checksum::<_, IPV4_HEADER>(packet, shape, way)?;
        rewrite_ipv4(packet, way, hop)?;
    }
    packet.set_fast();
    // SAFETY: the helper takes two numbers, and says what the program is to return: always the same, as
    // there are no flags.
    let _redirect = unsafe { bpf_redirect(interface, 0) };
    Some(())
}

/// Changes the checksum of TCP or UDP by the differences of addresses and ports, behind an IP header of
/// a length.
#[inline(always)]
fn change_checksum<const HEADER: usize, const INTERNET: usize>(
    packet: &Packet<'_, HEADER>,
    shape: Shape,
    way: &Direction,
) -> Option<()> {
    let (checksum, flags) = if shape.is_tcp() {
        (TCP_CHECKSUM, 0)
    } else {
        // Without a checksum it stays so (RFC 768).
        (UDP_CHECKSUM, u64::from(BPF_F_MARK_MANGLED_0))
    };
    let at = (ETHERNET_HEADER + INTERNET + checksum) as u32;
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

/// Writes what is new of an IPv4 packet. There is always room: its checksum was changed, which stands
/// behind all of this.
#[inline(always)]
fn rewrite_ipv4<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    way: &Direction,
    hop: &NextHop,
) -> Option<()> {
    const IP: usize = ETHERNET_HEADER;
    const UPPER: usize = IP + IPV4_HEADER;
    let start = packet.front(UPPER + PORTS)?;
    // SAFETY: all words lie within the length that was asked for.
    unsafe {
        let third = u32::load::<{ IP + IPV4_HOPS }>(start);
        let [hops, protocol, high, low] = third.to_ne_bytes();
        let sum = plus(!u16::from_ne_bytes([high, low]), way.address_sum);
        let [high, low] = (!plus(sum, ONE_HOP_IPV4)).to_ne_bytes();
        let third = u32::from_ne_bytes([hops.wrapping_sub(1), protocol, high, low]);
        let ([source, _], [destination, _]) = (way.source, way.destination);
        write_link(start, hop);
        third.store::<{ IP + IPV4_HOPS }>(start);
        (source as u32).store::<{ IP + IPV4_SOURCE }>(start);
        (destination as u32).store::<{ IP + IPV4_DESTINATION }>(start);
        ports(way).store::<UPPER>(start);
    }
    Some(())
}

/// Writes what is new of an IPv6 packet, likewise.
#[inline(always)]
fn rewrite_ipv6<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    way: &Direction,
    hop: &NextHop,
) -> Option<()> {
    const IP: usize = ETHERNET_HEADER;
    const UPPER: usize = IP + IPV6_HEADER;
    let start = packet.front(UPPER + PORTS)?;
    let [source, source_low] = way.source;
    let [destination, destination_low] = way.destination;
    // SAFETY: all words lie within the length that was asked for.
    unsafe {
        let hops = u8::load::<{ IP + IPV6_HOPS }>(start).wrapping_sub(1);
        write_link(start, hop);
        hops.store::<{ IP + IPV6_HOPS }>(start);
        source.store::<{ IP + IPV6_SOURCE }>(start);
        source_low.store::<{ IP + IPV6_SOURCE + 8 }>(start);
        destination.store::<{ IP + IPV6_DESTINATION }>(start);
        destination_low.store::<{ IP + IPV6_DESTINATION + 8 }>(start);
        ports(way).store::<UPPER>(start);
    }
    Some(())
}

/// Writes the Ethernet header.
///
/// # Safety
/// It must lie within the packet, as for [`Word::store`](crate::packet::Word::store).
#[inline(always)]
unsafe fn write_link(start: usize, hop: &NextHop) {
    // SAFETY: by the caller's promise.
    unsafe {
        hop.start.store::<0>(start);
        hop.middle.store::<8>(start);
        hop.kind.store::<12>(start);
    }
}

/// The ports as they stand in a packet.
#[inline(always)]
fn ports(way: &Direction) -> u32 {
    u32::from(way.source_port.to_be()) | u32::from(way.destination_port.to_be()) << 16
}
