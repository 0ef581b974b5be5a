//! The fast path: which packets take it.
//!
//! What connection tracking must see, or what is not plain, goes to the stack: packets that begin or
//! end a connection, that have no hop left, fragments, options and extension headers, what is longer than
//! the output takes, what has a next hop that nobody knows, and everything when the daemon is gone.

use core::hint::cold_path;
use core::ptr;

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
use crate::maps::{
    FLOWS, LEASE, OFFERS, OFFLOAD, PLACES, REFUSED, add, after, count_fast, total, uplink, zero,
};
use crate::mark::{self, Certainty};
use crate::packet::{ETHERNET_HEADER, Packet};
use crate::segment::Next;
use crate::shape::Shape;
use crate::{PASS_ON, TC_ACT_REDIRECT, send, traffic};

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
fn is_open(now_ns: u64) -> bool {
    lease().is_some_and(|lease| lease.packets_until_ns > now_ns)
}

/// Reads a packet from a provider: what it looks like, and its key as [`failover_common::OffloadKey`] has
/// it in memory.
#[inline(never)]
fn read_answer<const HEADER: usize>(packet: &Packet<'_, HEADER>, key: &mut KeyWords) -> Shape {
    let Headers::Flow(tuple) = headers::read(packet) else {
        return Shape::NONE;
    };
    let KeyWords([a, b, c, d, rest]) = key;
    [*a, *b] = tuple.source.words();
    [*c, *d] = tuple.destination.words();
    *rest = u64::from(tuple.source_port)
        | u64::from(tuple.destination_port) << 16
        | u64::from(tuple.protocol) << 32
        | (tuple.family as u64) << 40
        | (Side::Provider as u64) << 48;
    Shape::of(packet, &tuple)
}

/// The place of the direction of a key; beyond all places if there is none. All of it is written before
/// it has an id, and again only after all programs have ended that may look at it. A number, not what is
/// there: the verifier would follow all that comes after it once for each place.
#[inline(never)]
fn find(key: &KeyWords) -> u32 {
    let (home, other) = key.homes();
    let home = home & PLACE_MASK.load();
    let Some(way) = OFFLOAD.get_ptr(home) else {
        return NOWHERE;
    };
    if let Some(after) = is_of(way, key) {
        return home + after;
    }
    // SAFETY: the reference is to a byte of the map, which has its memory for good. The daemon writes it
    // while we read.
    if unsafe { (*way).displaced } == 0 {
        return NOWHERE;
    }
    cold_path();
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

/// What became of a packet, and what is to be done about its flow: in one word.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Taken(u64);

impl Taken {
    const SENT: u64 = 1 << 32;
    const DUE: u64 = 1 << 33;
    const ENDS: u64 = 1 << 34;
    /// It is the stack's.
    const NOT: Self = Self(0);

    /// Does what is to be done, and says what the program is to return.
    #[inline(always)]
    fn done(self, now_ns: u64) -> i32 {
        let place = self.0 as u32;
        if self.0 & Self::DUE != 0 {
            settle(place, now_ns);
        }
        if self.0 & Self::ENDS != 0 {
            leave(place);
        }
        if self.0 & Self::SENT == 0 {
            PASS_ON
        } else {
            TC_ACT_REDIRECT
        }
    }
}

/// Sends a packet from users by the fast path, if that takes it; returns what the program is to return.
/// What it calls are functions of their own, one after the other, for their room on the stack.
#[inline(always)]
pub(crate) fn from_users<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    key: &FlowKey,
    tuple: &Tuple,
    now_ns: u64,
) -> i32 {
    if HEADER != ETHERNET_HEADER || !is_open(now_ns) {
        return PASS_ON;
    }
    // SAFETY: both are 40 initialised bytes, aligned alike, and any words are valid. Those of users' packets
    // are the flow's.
    let place = find(unsafe { &*ptr::from_ref(key).cast::<KeyWords>() });
    if place == NOWHERE {
        return PASS_ON;
    }
    let (shape, next) = (Shape::of(packet, tuple), Next::of(tuple.tcp));
    to_provider(packet, place, shape, next, now_ns).done(now_ns)
}

#[inline(never)]
fn to_provider<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    place: u32,
    shape: Shape,
    next: Next,
    now_ns: u64,
) -> Taken {
    let Some(out) = OFFLOAD.get_ptr_mut(place) else {
        return Taken::NOT;
    };
    // SAFETY: the map has the memory for good. What decides is not written while a program may read it,
    // but for the id and `left`, each a word or a byte of its own that is looked at once. What is counted
    // is written by packets of this direction alone, and what two of them that are on two processors at
    // once lose of it is one of them.
    let out = unsafe { &mut *out };
    let family = shape.family();
    let uplink = uplink(out.uplink, family);
    let sent = send_by(packet, out, uplink, shape);
    if let (true, Some(uplink)) = (sent, uplink) {
        mark::give(packet, out.uplink, Certainty::Confirmed);
        if shape.asks() && uplink.translates {
            let [_, _, high, low, _] = out.key;
            let outside = Address::new([high, low]).bytes();
            traffic::ask(outside, out.uplink, family, now_ns);
        }
        if let Some(next) = next.sequence() {
            let known = out.sequenced != 0;
            if traffic::follow(family, out.uplink, known, &mut out.next, next) && !known {
                out.sequenced = 1;
            }
        }
        let (packets, bytes) = (packet.segments(), packet.length());
        count_fast(out.uplink, |counters| &mut counters.lan_in, packets, bytes);
    }
    note(packet, place, out, shape, sent, now_ns)
}

/// Sends a packet from a provider by the fast path, if that takes it; returns what the program is to
/// return.
#[inline(always)]
pub(crate) fn from_provider<const HEADER: usize>(packet: &Packet<'_, HEADER>) -> i32 {
    let now_ns = now_ns();
    if HEADER != ETHERNET_HEADER || !packet.is_for_us() || !is_open(now_ns) {
        return PASS_ON;
    }
    let none = zero();
    let mut key = KeyWords([none; 5]);
    let shape = read_answer(packet, &mut key);
    if shape.is_none() {
        return PASS_ON;
    }
    let place = find(&key);
    if place == NOWHERE {
        return PASS_ON;
    }
    to_users(packet, place, shape, now_ns).done(now_ns)
}

#[inline(never)]
fn to_users<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    place: u32,
    shape: Shape,
    now_ns: u64,
) -> Taken {
    let Some(back) = OFFLOAD.get_ptr_mut(place) else {
        return Taken::NOT;
    };
    // SAFETY: as for packets from users.
    let back = unsafe { &mut *back };
    let family = shape.family();
    let uplink = uplink(back.uplink, family);
    let sent = send_by(packet, back, uplink, shape);
    if sent {
        let (packets, bytes) = (packet.segments(), packet.length());
        count_fast(
            back.uplink,
            |counters| &mut counters.lan_out,
            packets,
            bytes,
        );
        let [high, low, ..] = back.key;
        let outside = Address::new([high, low]).bytes();
        traffic::heard(outside, back.uplink, family, now_ns);
    }
    note(packet, place, back, shape, sent, now_ns)
}

/// Sends a packet the way of its direction, if that may take it.
#[inline(always)]
fn send_by<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    way: &Direction,
    uplink: Option<&UplinkFamily>,
    shape: Shape,
) -> bool {
    way.left == 0
        && !shape.ends()
        && way.ingress == packet.ifindex()
        && shape.is_plain()
        && uplink.is_some_and(|uplink| uplink.generation == way.generation)
        && send::by(packet, shape, way)
}

/// Notes what became of a packet.
#[inline(always)]
fn note<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    place: u32,
    way: &mut Direction,
    shape: Shape,
    sent: bool,
    now_ns: u64,
) -> Taken {
    let place = u64::from(place);
    if !sent {
        total(|totals| &mut totals.returned);
        let due = way.left == 0 || way.packets != 0;
        let due = if due { Taken::DUE } else { 0 };
        let ends = if shape.ends() { Taken::ENDS } else { 0 };
        return Taken(place | due | ends);
    }
    way.packets += packet.segments();
    way.bytes += packet.length();
    let seen = (now_ns >> SEEN_SHIFT) as u32;
    let due = (seen ^ way.seen) >> SETTLE_SHIFT != 0;
    way.seen = seen;
    let due = if due { Taken::DUE } else { 0 };
    Taken(place | due | Taken::SENT)
}

/// A packet that ends a flow, or begins another one, sends both directions to the stack from now on.
#[inline(always)]
fn leave(place: u32) {
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
    let (inside_port, outside_port) = match side {
        Side::Users => (rest as u16, (rest >> 16) as u16),
        Side::Provider => (way.destination_port, way.source_port),
    };
    FlowKey {
        inside: Address::new(inside).bytes(),
        outside: Address::new(outside).bytes(),
        inside_port,
        outside_port,
        protocol: (rest >> 32) as u8,
        family: if (rest >> 40) as u8 == Family::Ipv4 as u8 {
            Family::Ipv4
        } else {
            Family::Ipv6
        },
        reserved: [0; 2],
    }
}

/// Tells a flow what moved by the fast path, and so keeps it in the flow table. It may have been pushed
/// out there all the same.
#[inline(never)]
fn settle(place: u32, now_ns: u64) {
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
