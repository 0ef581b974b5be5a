//! The fast path: which packets take it.
//!
//! What connection tracking must see, or what is not plain, goes to the stack: packets that begin or
//! end a connection, that have no hop left, fragments, options and extension headers, what is longer than
//! the output takes, what has a next hop that nobody knows, and everything when the daemon is gone.

use core::ptr;

use failover_common::fastpath::{SEEN_SHIFT, SETTLE_SHIFT};
use failover_common::{Direction, FlowKey, KeyWords, Side, UplinkFamily};

use crate::address::Address;
use crate::direction::{NOWHERE, find, leave, settle};
use crate::flow::now_ns;
use crate::headers::{self, Headers, Tuple};
use crate::maps::{OFFLOAD, count_fast, lease, total, uplink, zero};
use crate::mark::{self, Certainty};
use crate::packet::{ETHERNET_HEADER, Packet};
use crate::segment::Next;
use crate::shape::Shape;
use crate::{PASS_ON, TC_ACT_REDIRECT, send, traffic};

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
    // is written by packets of this direction alone: where two of them are on two processors at once one
    // may be lost, or what was settled meanwhile be counted twice.
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
        let outside = Address::new(back.source).bytes();
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
