//! The table of the fast path: where the direction of a packet is, and what its flow is told of it.

use core::hint::cold_path;

use aya_ebpf::Global;
use failover_common::fastpath::TRIES;
use failover_common::{Direction, Family, FlowKey, KeyWords, Phase, Reason, Side};

use crate::address::Address;
use crate::flow::{enter, touch};
use crate::headers::flow_key;
use crate::maps::{FLOWS, OFFLOAD, PLACES, add, after, uplink};

/// How many places there are for directions, less one. The loader sets it.
#[unsafe(no_mangle)]
// SAFETY: no other symbol of this name is linked.
static PLACE_MASK: Global<u32> = Global::new(PLACES as u32 - 1);

/// The direction of a key, and its place; `None` where the flow is not on the fast path. All of it is
/// written before it has an id, and again only after all programs have ended that may look at it.
#[inline(always)]
pub(crate) fn find(key: &KeyWords) -> Option<(u32, &'static mut Direction)> {
    let (home, other) = key.homes();
    let home = home & PLACE_MASK.load();
    let way = OFFLOAD.get_ptr_mut(home)?;
    if let Some(after) = is_of(way, key) {
        // SAFETY: zero is added, and the map has the memory for good. What decides is not written while a
        // program may read it, but for the id, `left` and `displaced`, each a word or a byte of its own of
        // which any value is valid. What is counted is written by packets of this direction alone: where
        // two of them are on two processors at once one may be lost, or what was settled meanwhile be
        // counted twice.
        let way = unsafe { &mut *way.byte_add(after as usize) };
        return Some((home + after, way));
    }
    // SAFETY: it is a byte of the map, which the daemon writes while we read.
    if unsafe { (*way).displaced } == 0 {
        return None;
    }
    cold_path();
    // Of its own: one that lies in memory for this would do so for all.
    let key = *key;
    let place = find_displaced(&key, home, other);
    let way = OFFLOAD.get_ptr_mut(place)?;
    // SAFETY: as above; the place is known after the id was read.
    Some((place, unsafe { &mut *way }))
}

/// The place of a direction that is not where its key leads to first; beyond all places if there is none.
#[inline(never)]
fn find_displaced(key: &KeyWords, home: u32, other: u32) -> u32 {
    for nth in 1..TRIES {
        let place = KeyWords::place(home, other, nth) & PLACE_MASK.load();
        if let Some(after) = OFFLOAD.get_ptr(place).and_then(|way| is_of(way, key)) {
            return place + after;
        }
    }
    NOWHERE
}

/// No place.
const NOWHERE: u32 = u32::MAX;

/// Whether a direction is the one of a key, and somebody's: zero, by which it is read after its id.
#[inline(always)]
fn is_of(way: *const Direction, key: &KeyWords) -> Option<u32> {
    // SAFETY: as for what is found. While the place is nobody's the daemon may write the key.
    let (found, id) = unsafe { (&(*way).key, (*way).id) };
    let differs = found
        .iter()
        .zip(&key.0)
        .fold(0, |differs, (one, other)| differs | (one ^ other));
    (differs == 0 && id != 0).then(|| after(id) as u32)
}

/// A packet that ends a flow, or begins another one, sends both directions to the stack from now on.
#[inline(always)]
pub(crate) fn leave(place: u32) {
    let Some(way) = OFFLOAD.get_ptr_mut(place) else {
        return;
    };
    // SAFETY: the place is this flow's until all programs have ended that found it, and nobody writes
    // anything else to this byte.
    let other = unsafe {
        (*way).left = 1;
        (*way).other
    };
    if let Some(other) = OFFLOAD.get_ptr_mut(other) {
        // SAFETY: likewise.
        unsafe { (*other).left = 1 };
    }
}

/// The flow of a direction.
#[inline(always)]
fn flow_of(way: &Direction, side: Side) -> FlowKey {
    let [a, b, c, d, rest] = way.key;
    let (inside, outside) = match side {
        Side::Users => ([a, b], [c, d]),
        Side::Provider => (way.destination, way.source),
    };
    let ports = match side {
        Side::Users => (rest as u16, (rest >> 16) as u16),
        Side::Provider => (way.destination_port, way.source_port),
    };
    let family = if (rest >> 40) as u8 == Family::Ipv4 as u8 {
        Family::Ipv4
    } else {
        Family::Ipv6
    };
    let protocol = (rest >> 32) as u8;
    flow_key(
        Address::new(inside),
        Address::new(outside),
        ports,
        (protocol, family),
    )
}

/// Tells a flow what moved by the fast path, and so keeps it in the flow table. It may have been pushed
/// out there all the same.
#[inline(never)]
pub(crate) fn settle(place: u32, now_ns: u64) {
    let Some(way) = OFFLOAD.get_ptr_mut(place) else {
        return;
    };
    // SAFETY: as where the packet was sent.
    let way = unsafe { &mut *way };
    let [.., rest] = way.key;
    let side = if (rest >> 48) as u8 == Side::Users as u8 {
        Side::Users
    } else {
        Side::Provider
    };
    let key = flow_of(way, side);
    let (packets, bytes) = (way.packets, way.bytes);
    way.packets = 0;
    way.bytes = 0;
    let Some(flow) = FLOWS.get_ptr_mut(key) else {
        let current = uplink(way.uplink, key.family)
            .is_some_and(|uplink| uplink.generation == way.generation);
        if current && way.left == 0 {
            let _entered = enter(&key, now_ns, |flow| {
                flow.generation = way.generation;
                flow.uplink = way.uplink;
                flow.reason = Reason::Restored;
                flow.phase = Phase::Established;
                flow.confirmed = true;
                match side {
                    Side::Users => {
                        flow.out_packets = packets;
                        flow.out_bytes = bytes;
                        flow.out_next = way.next;
                        flow.sequenced = way.sequenced != 0;
                    }
                    Side::Provider => {
                        flow.in_packets = packets;
                        flow.in_bytes = bytes;
                    }
                }
            });
        }
        return;
    };
    // SAFETY: as for an entry that a packet from users found by the stack (`lan_in`).
    let flow = unsafe { &mut *flow };
    touch(flow, now_ns);
    match side {
        Side::Users => {
            add(&mut flow.out_packets, packets);
            add(&mut flow.out_bytes, bytes);
            flow.out_next = way.next;
            flow.sequenced = way.sequenced != 0;
        }
        Side::Provider => {
            add(&mut flow.in_packets, packets);
            add(&mut flow.in_bytes, bytes);
        }
    }
}
