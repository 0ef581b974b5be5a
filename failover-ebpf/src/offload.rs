//! The fast path: which packets take it.
//!
//! What connection tracking must see, or what is not plain, goes to the stack: packets that begin or
//! end a connection, that have no hop left, fragments, options and extension headers, what is longer than
//! the output takes, what has a next hop that nobody knows, and everything when the daemon is gone.

use core::hint::cold_path;

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use failover_common::fastpath::{SEEN_SHIFT, SETTLE_SHIFT, TRIES};
use failover_common::flow::Offering;
use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{
    Direction, Family, Flow, FlowKey, KeyWords, Lease, Offer, Phase, Reason, Side, UplinkFamily,
};

use crate::address::Address;
use crate::flow::{enter, now_ns, touch};
use crate::headers::{self, Headers, Tuple};
use crate::maps::{FLOWS, LEASE, OFFERS, OFFLOAD, PLACES, REFUSED, add, count_fast, total, uplink};
use crate::mark::{self, Certainty};
use crate::packet::{ETHERNET_HEADER, Packet};
use crate::segment::Next;
use crate::shape::Shape;
use crate::{PASS_ON, send, traffic};

/// After how many packets a flow is first offered. The loader sets it, as the next two.
#[unsafe(no_mangle)]
// SAFETY: no other symbol of this name is linked.
pub(crate) static FIRST_OFFER: Global<u8> = Global::new(Offering::USUAL.first);

/// After how many more it is looked again.
#[unsafe(no_mangle)]
// SAFETY: no other symbol of this name is linked.
static NEXT_OFFER: Global<u8> = Global::new(Offering::USUAL.next);

/// How long a flow is not offered again.
#[unsafe(no_mangle)]
// SAFETY: no other symbol of this name is linked.
static OFFER_AGAIN_NS: Global<u64> = Global::new(Offering::USUAL.again_ns);

/// How many places there are for directions, less one. The loader sets it.
#[unsafe(no_mangle)]
// SAFETY: no other symbol of this name is linked.
static PLACE_MASK: Global<u32> = Global::new(PLACES as u32 - 1);

/// What the daemon allows.
#[inline(always)]
fn lease() -> Option<&'static Lease> {
    // The daemon writes each field on its own while we read.
    LEASE.get(0)
}

/// Whether packets may take the fast path.
#[inline(always)]
pub(crate) fn is_open(now_ns: u64) -> bool {
    lease().is_some_and(|lease| lease.packets_until_ns > now_ns)
}

/// The words of the key of packets, as [`failover_common::OffloadKey`] has them in memory.
#[inline(always)]
fn words(
    [a, b]: [u64; 2],
    [c, d]: [u64; 2],
    (from, to): (u16, u16),
    (protocol, family): (u8, Family),
    side: Side,
) -> KeyWords {
    let rest = u64::from(from)
        | u64::from(to) << 16
        | u64::from(protocol) << 32
        | (family as u64) << 40
        | (side as u64) << 48;
    KeyWords([a, b, c, d, rest])
}

/// The direction of a key. All of it is written before it has an id, and again only after all programs
/// have ended that may look at it.
#[inline(always)]
fn find(key: &KeyWords) -> Option<*mut Direction> {
    let (home, other) = key.homes();
    let way = OFFLOAD.get_ptr_mut(home & PLACE_MASK.load())?;
    if is_of(way, key) {
        return Some(way);
    }
    // SAFETY: the reference is to a byte of the map, which has its memory for good. The daemon writes it
    // while we read.
    if unsafe { (*way).displaced } == 0 {
        return None;
    }
    cold_path();
    for nth in 1..TRIES {
        let way = OFFLOAD.get_ptr_mut(KeyWords::place(home, other, nth) & PLACE_MASK.load())?;
        if is_of(way, key) {
            return Some(way);
        }
    }
    None
}

/// Whether a direction is the one of a key, and somebody's.
#[inline(always)]
fn is_of(way: *const Direction, key: &KeyWords) -> bool {
    // SAFETY: as for what is found. While the place is nobody's the daemon may write the key.
    let (found, id) = unsafe { (&(*way).key, (*way).id) };
    let differs = found
        .iter()
        .zip(&key.0)
        .fold(0, |differs, (one, other)| differs | (one ^ other));
    differs == 0 && id != 0
}

/// Sends a packet from users by the fast path, if that takes it; returns what becomes of it. A function
/// of its own, as the others here, for its room on the stack.
#[inline(never)]
pub(crate) fn from_users<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    key: &FlowKey,
    shape: Shape,
    next: Next,
    now_ns: u64,
) -> i32 {
    to_provider(packet, key, shape, next, now_ns).unwrap_or(PASS_ON)
}

#[inline(always)]
fn to_provider<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    key: &FlowKey,
    shape: Shape,
    next: Next,
    now_ns: u64,
) -> Option<i32> {
    let words = words(
        Address::from_bytes(key.inside).words(),
        Address::from_bytes(key.outside).words(),
        (key.inside_port, key.outside_port),
        (key.protocol, key.family),
        Side::Users,
    );
    let out = find(&words)?;
    // SAFETY: the map has the memory for good. What decides is not written while a program may read it,
    // but for the id and `left`, each a word or a byte of its own that is looked at once. What is counted
    // is written by packets of this direction alone, and what two of them that are on two processors at
    // once lose of it is one of them.
    let out = unsafe { &mut *out };
    let uplink = uplink(out.uplink, key.family);
    let sent = send_by(packet, out, uplink, shape);
    let due = note(packet, out, sent.is_some(), now_ns);
    if let (Some(_), Some(uplink)) = (sent, uplink) {
        mark::give(packet, out.uplink, Certainty::Confirmed);
        if shape.asks() && uplink.translates {
            traffic::ask(key.outside, out.uplink, key.family, now_ns);
        }
        if let Some(next) = next.sequence() {
            let known = out.sequenced != 0;
            if traffic::follow(key.family, out.uplink, known, &mut out.next, next) && !known {
                out.sequenced = 1;
            }
        }
        let (packets, bytes) = (packet.segments(), packet.length());
        count_fast(out.uplink, |counters| &mut counters.lan_in, packets, bytes);
    }
    if due {
        settle(key, out, Side::Users, now_ns);
    }
    sent
}

/// Sends a packet from a provider by the fast path, if that takes it; returns what becomes of it.
#[inline(never)]
pub(crate) fn from_provider<const HEADER: usize>(packet: &Packet<'_, HEADER>) -> i32 {
    let now_ns = now_ns();
    if HEADER != ETHERNET_HEADER || !packet.is_for_us() || !is_open(now_ns) {
        return PASS_ON;
    }
    let Headers::Flow(tuple) = headers::read(packet) else {
        return PASS_ON;
    };
    to_users(packet, &tuple, now_ns).unwrap_or(PASS_ON)
}

#[inline(always)]
fn to_users<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    tuple: &Tuple,
    now_ns: u64,
) -> Option<i32> {
    let words = words(
        tuple.source.words(),
        tuple.destination.words(),
        (tuple.source_port, tuple.destination_port),
        (tuple.protocol, tuple.family),
        Side::Provider,
    );
    let back = find(&words)?;
    // SAFETY: as for packets from users.
    let back = unsafe { &mut *back };
    let uplink = uplink(back.uplink, tuple.family);
    let sent = send_by(packet, back, uplink, Shape::of(packet, tuple));
    let due = note(packet, back, sent.is_some(), now_ns);
    if sent.is_some() {
        let (packets, bytes) = (packet.segments(), packet.length());
        count_fast(
            back.uplink,
            |counters| &mut counters.lan_out,
            packets,
            bytes,
        );
        traffic::heard(tuple.source.bytes(), back.uplink, tuple.family, now_ns);
    }
    if due {
        let key = FlowKey {
            inside: Address::new(back.destination).bytes(),
            outside: Address::new(back.source).bytes(),
            inside_port: back.destination_port,
            outside_port: back.source_port,
            protocol: tuple.protocol,
            family: tuple.family,
            reserved: [0; 2],
        };
        settle(&key, back, Side::Provider, now_ns);
    }
    sent
}

/// Sends a packet the way of its direction, if that may take it. One that ends the flow, or begins
/// another one, sends both directions to the stack from now on.
#[inline(always)]
fn send_by<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    way: &mut Direction,
    uplink: Option<&UplinkFamily>,
    shape: Shape,
) -> Option<i32> {
    if shape.ends() {
        way.left = 1;
        if let Some(other) = OFFLOAD.get_ptr_mut(way.other) {
            // SAFETY: nobody writes anything else to this byte as long as the place is this flow's, and it
            // is until all programs have ended that found the flow.
            unsafe { (*other).left = 1 };
        }
        return None;
    }
    let takes = way.left == 0
        && way.ingress == packet.ifindex()
        && shape.is_plain()
        && uplink.is_some_and(|uplink| uplink.generation == way.generation);
    if takes {
        send::by(packet, shape, way)
    } else {
        None
    }
}

/// Notes what became of a packet; returns whether its flow is to be told what moved.
#[inline(always)]
fn note<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    way: &mut Direction,
    sent: bool,
    now_ns: u64,
) -> bool {
    if !sent {
        total(|totals| &mut totals.returned);
        return way.packets != 0;
    }
    way.packets += packet.segments();
    way.bytes += packet.length();
    let seen = (now_ns >> SEEN_SHIFT) as u32;
    let due = (seen ^ way.seen) >> SETTLE_SHIFT != 0;
    way.seen = seen;
    due
}

/// Tells a flow what moved by the fast path, and so keeps it in the flow table. It may have been pushed
/// out there all the same.
#[inline(never)]
fn settle(key: &FlowKey, way: &mut Direction, side: Side, now_ns: u64) {
    let (packets, bytes) = (way.packets, way.bytes);
    way.packets = 0;
    way.bytes = 0;
    let Some(flow) = FLOWS.get_ptr_mut(key) else {
        let _entered = enter(key, now_ns, |flow| {
            flow.generation = way.generation;
            flow.uplink = way.uplink;
            flow.reason = Reason::Restored;
            flow.phase = Phase::Established;
            flow.confirmed = true;
        });
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

/// Offers a flow for the fast path.
#[inline(never)]
pub(crate) fn consider<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    key: &FlowKey,
    flow: &mut Flow,
    now_ns: u64,
) {
    flow.until_offer = NEXT_OFFER.load();
    let wanted = lease().is_some_and(|lease| lease.offers_until_ns > now_ns);
    if HEADER != ETHERNET_HEADER
        || !wanted
        || !flow.confirmed
        || !matches!(flow.phase, Phase::Established)
        || !matches!(key.protocol, TCP | UDP)
        || now_ns.wrapping_sub(flow.offered_ns) < OFFER_AGAIN_NS.load()
        // SAFETY: nothing is read of what is found.
        || unsafe { REFUSED.get(key) }.is_some()
    {
        return;
    }
    let offer = Offer {
        flow: *key,
        created_ns: flow.created_ns,
        ingress: packet.ifindex(),
        generation: flow.generation,
        uplink: flow.uplink,
        reserved: [0; 7],
    };
    total(|totals| &mut totals.offered);
    match OFFERS.output(offer, 0) {
        Ok(()) => flow.offered_ns = now_ns,
        Err(_) => {
            total(|totals| &mut totals.unheard);
            // Flows that are offered all at once are not all at once the next time.
            // SAFETY: the helper takes nothing and has no effect.
            let random = unsafe { bpf_get_prandom_u32() } as u8;
            flow.until_offer = random % NEXT_OFFER.load().max(1);
        }
    }
}
