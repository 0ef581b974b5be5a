//! The fast path: a packet is translated and sent out.
//!
//! What the kernel keeps of a packet's checksum is known to its helpers alone: whether the field holds
//! a whole checksum, or that over the pseudo header which hardware or a later look adds the rest to, or
//! whether hardware has summed up all bytes. So the checksum of TCP and UDP is changed by the helper,
//! and that also makes the headers writable up to it. All else is written into the packet directly.

use core::hint::cold_path;
use core::ptr;

use aya_ebpf::bindings::{BPF_F_MARK_MANGLED_0, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::generated::{bpf_l4_csum_replace, bpf_redirect};
use failover_common::{Direction, NextHop};

use crate::internet::Internet;
use crate::maps::{NEXT_HOPS, after};
use crate::packet::{Packet, Word as _};
use crate::plain::{Plain, UDP_HEADER};

/// Where the checksum stands in a TCP header (RFC 9293, section 3.1) and in a UDP header (RFC 768).
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// Translates a packet and sends it out. `None`: it is the stack's, and not changed.
#[inline(always)]
pub(crate) fn by<const HEADER: usize, I: Internet>(
    packet: &Packet<'_, HEADER>,
    plain: &Plain,
    way: &Direction,
) -> Option<()> {
    // The daemon takes the interface away before it changes anything else of a next hop, and waits for
    // all programs before it does that.
    let hop = NEXT_HOPS.get(way.next_hop)?;
    let interface = hop.interface;
    // SAFETY: zero is added.
    let hop = unsafe { &*ptr::from_ref(hop).byte_add(after(interface)) };
    // What does not fit the output is answered or cut by the stack.
    if interface == 0 || plain.size > hop.mtu {
        return None;
    }
    change_checksum::<HEADER, I>(packet, plain.is_tcp, way)?;
    // There is always room: the checksum was changed, which stands behind all of this.
    let frame = packet.front(I::UPPER + UDP_HEADER)?;
    // SAFETY: all words lie within the length that was asked for.
    unsafe {
        I::rewrite(frame, way);
        write_link(frame, hop);
        ports(way).store::<0>(frame + I::UPPER);
    }
    I::sum(packet, way);
    // SAFETY: likewise.
    if !plain.is_tcp && unsafe { u16::load::<UDP_CHECKSUM>(frame + I::UPPER) } == 0 {
        // Without a checksum nothing in it makes up for other ports.
        cold_path();
        packet.tell_change(way.port_sum);
    }
    packet.set_fast();
    // SAFETY: the helper takes two numbers, and says what the program is to return: always the same, as
    // there are no flags.
    let _redirect = unsafe { bpf_redirect(interface, 0) };
    Some(())
}

/// Changes the checksum of TCP or UDP by the differences of addresses and ports.
#[inline(always)]
fn change_checksum<const HEADER: usize, I: Internet>(
    packet: &Packet<'_, HEADER>,
    is_tcp: bool,
    way: &Direction,
) -> Option<()> {
    let (checksum, flags) = if is_tcp {
        (TCP_CHECKSUM, 0)
    } else {
        // Without a checksum it stays so (RFC 768).
        (UDP_CHECKSUM, u64::from(BPF_F_MARK_MANGLED_0))
    };
    let at = (I::UPPER + checksum) as u32;
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
