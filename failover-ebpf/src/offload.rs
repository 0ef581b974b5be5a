//! The fast path: which packets take it.
//!
//! What connection tracking must see, or what is not plain, goes to the stack: packets that begin or
//! end a connection, that have no hop left, fragments, options and extension headers, what is longer than
//! the output takes, what has a next hop that nobody knows, and everything when the daemon is gone.

use core::ptr;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::programs::TcContext;
use failover_common::fastpath::{SEEN_SHIFT, SETTLE_SHIFT};
use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Direction, FlowKey, KeyWords, Side, UplinkFamily};

use crate::address::Address;
use crate::direction::{find, leave, settle};
use crate::flow::now_ns;
use crate::headers::{self, ETH_P_IP, ETH_P_IPV6, Headers, Tuple};
use crate::internet::{Internet, Ipv4, Ipv6};
use crate::maps::{count_fast, lease, total, uplink, zero};
use crate::mark::{self, Certainty};
use crate::packet::{ETHERNET_HEADER, Packet};
use crate::plain::{self, Plain};
use crate::{PASS_ON, TC_ACT_REDIRECT, send, traffic};

/// Whether packets may take the fast path.
#[inline(always)]
fn is_open(now_ns: u64) -> bool {
    lease().is_some_and(|lease| lease.packets_until_ns > now_ns)
}

/// What became of a packet, and what is to be done about its flow: in one word.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Taken(u64);

impl Taken {
    const SENT: u64 = 1 << 32;
    const DUE: u64 = 1 << 33;
    /// It is the stack's, and its flow is on the fast path.
    const THERE: u64 = 1 << 34;
    /// It is the stack's.
    const NOT: Self = Self(0);
    /// It is the stack's, and not plain: nobody has looked yet whether its flow is on the fast path.
    const ODD: Self = Self(1 << 35);

    #[inline(always)]
    const fn is_odd(self) -> bool {
        self.0 & Self::ODD.0 != 0
    }

    #[inline(always)]
    const fn is_there(self) -> bool {
        self.0 & Self::THERE != 0
    }

    /// Does what is to be done, and says what the program is to return.
    #[inline(always)]
    fn done(self, now_ns: u64) -> i32 {
        if self.0 & Self::DUE != 0 {
            settle(self.0 as u32, now_ns);
        }
        if self.0 & Self::SENT == 0 {
            PASS_ON
        } else {
            TC_ACT_REDIRECT
        }
    }
}

/// Sends a packet from users by the fast path, if that takes it; what the program is to return, and
/// whether the packet is one to be [noted](from_users_odd).
/// What it calls are functions of their own, one after the other, for their room on the stack.
#[inline(always)]
pub(crate) fn from_users<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    now_ns: u64,
) -> (i32, bool) {
    if HEADER != ETHERNET_HEADER || !is_open(now_ns) {
        return (PASS_ON, false);
    }
    let context = packet.context().skb.skb;
    let taken = match packet.protocol() {
        ETH_P_IP => to_provider::<HEADER, Ipv4>(context, now_ns),
        ETH_P_IPV6 => to_provider::<HEADER, Ipv6>(context, now_ns),
        _ => Taken::NOT,
    };
    (taken.done(now_ns), taken.is_odd())
}

/// Whether a flow may be on the fast path by its protocol.
#[inline(always)]
const fn may_be_there(tuple: &Tuple) -> bool {
    matches!(tuple.protocol, TCP | UDP)
}

/// Notes a packet from users that is not plain, if its flow is on the fast path.
#[inline(always)]
pub(crate) fn from_users_odd(key: &FlowKey, tuple: &Tuple, now_ns: u64) {
    if !may_be_there(tuple) {
        return;
    }
    // SAFETY: both are 40 initialised bytes, aligned alike, and any words are valid. Those of users' packets
    // are the flow's.
    let key = unsafe { &*ptr::from_ref(key).cast::<KeyWords>() };
    odd(key, tuple.tcp.is_for_the_stack(), now_ns);
}

/// The context is given as it is: one that lies in memory would be fetched from there again and again.
#[inline(never)]
fn to_provider<const HEADER: usize, I: Internet>(context: *mut __sk_buff, now_ns: u64) -> Taken {
    let context = TcContext::new(context);
    let packet = &Packet::<HEADER>::new(&context);
    let Some(plain) = plain::read::<HEADER, I>(packet, Side::Users) else {
        return Taken::ODD;
    };
    let Some((place, out)) = find(&plain.key) else {
        return Taken::NOT;
    };
    let Some(uplink) = send_by::<HEADER, I>(packet, &plain, out) else {
        return returned(place, out);
    };
    mark::give(packet, out.uplink, Certainty::Confirmed);
    if plain.asks() && uplink.translates {
        let [_, _, high, low, _] = out.key;
        let outside = Address::new([high, low]).bytes();
        traffic::ask(outside, out.uplink, I::FAMILY, now_ns);
    }
    if let Some(next) = plain.next {
        let known = out.sequenced != 0;
        if traffic::follow(I::FAMILY, out.uplink, known, &mut out.next, next) && !known {
            out.sequenced = 1;
        }
    }
    let (packets, bytes) = (packet.segments(), packet.length());
    count_fast(out.uplink, packets, |counters| {
        counters.lan_in.note(packets, bytes);
    });
    note(place, out, packets, bytes, now_ns)
}

/// Sends a packet from a provider by the fast path, if that takes it; returns what the program is to
/// return.
#[inline(always)]
pub(crate) fn from_provider<const HEADER: usize>(packet: &Packet<'_, HEADER>) -> i32 {
    let now_ns = now_ns();
    if HEADER != ETHERNET_HEADER || !packet.is_for_us() || !is_open(now_ns) {
        return PASS_ON;
    }
    let context = packet.context().skb.skb;
    let taken = match packet.protocol() {
        ETH_P_IP => to_users::<HEADER, Ipv4>(context, now_ns),
        ETH_P_IPV6 => to_users::<HEADER, Ipv6>(context, now_ns),
        _ => Taken::NOT,
    };
    let result = taken.done(now_ns);
    if taken.is_odd() {
        from_provider_odd(packet, now_ns);
    }
    result
}

/// Notes a packet from a provider that is not plain, if its flow is on the fast path.
#[inline(always)]
fn from_provider_odd<const HEADER: usize>(packet: &Packet<'_, HEADER>, now_ns: u64) {
    let none = zero();
    let mut key = KeyWords([none; 5]);
    if let Some(ends) = read_odd(packet, &mut key) {
        odd(&key, ends, now_ns);
    }
}

/// Reads a packet from a provider that is not plain: its key, and whether it begins or ends a connection.
#[inline(never)]
fn read_odd<const HEADER: usize>(packet: &Packet<'_, HEADER>, key: &mut KeyWords) -> Option<bool> {
    let Headers::Flow(tuple) = headers::read(packet) else {
        return None;
    };
    if !may_be_there(&tuple) {
        return None;
    }
    let KeyWords([a, b, c, d, rest]) = key;
    [*a, *b] = tuple.source.words();
    [*c, *d] = tuple.destination.words();
    *rest = u64::from(tuple.source_port)
        | u64::from(tuple.destination_port) << 16
        | u64::from(tuple.protocol) << 32
        | (tuple.family as u64) << 40
        | (Side::Provider as u64) << 48;
    Some(tuple.tcp.is_for_the_stack())
}

/// As for packets from users.
#[inline(never)]
fn to_users<const HEADER: usize, I: Internet>(context: *mut __sk_buff, now_ns: u64) -> Taken {
    let context = TcContext::new(context);
    let packet = &Packet::<HEADER>::new(&context);
    let Some(plain) = plain::read::<HEADER, I>(packet, Side::Provider) else {
        return Taken::ODD;
    };
    let Some((place, back)) = find(&plain.key) else {
        return Taken::NOT;
    };
    if send_by::<HEADER, I>(packet, &plain, back).is_none() {
        return returned(place, back);
    }
    let (packets, bytes) = (packet.segments(), packet.length());
    let uplink = back.uplink;
    count_fast(uplink, packets, |counters| {
        counters.wan_in.note(packets, bytes);
        counters.lan_out.note(packets, bytes);
    });
    // By its words: the compiler would load each byte by itself.
    let [high, low] = back.source;
    let outside = Address::new([high, low]).bytes();
    traffic::heard(outside, uplink, I::FAMILY, now_ns);
    note(place, back, packets, bytes, now_ns)
}

/// Sends a packet the way of its direction, if that may take it; returns its uplink then.
#[inline(always)]
fn send_by<const HEADER: usize, I: Internet>(
    packet: &Packet<'_, HEADER>,
    plain: &Plain,
    way: &Direction,
) -> Option<&'static UplinkFamily> {
    let uplink = uplink(way.uplink, I::FAMILY)?;
    let may = way.left == 0
        && way.ingress == packet.ifindex()
        && uplink.generation == way.generation
        && send::by::<HEADER, I>(packet, plain, way).is_some();
    may.then_some(uplink)
}

/// Notes that a packet took the fast path.
#[inline(always)]
fn note(place: u32, way: &mut Direction, packets: u64, bytes: u64, now_ns: u64) -> Taken {
    way.packets += packets;
    way.bytes += bytes;
    let seen = (now_ns >> SEEN_SHIFT) as u32;
    let due = (seen ^ way.seen) >> SETTLE_SHIFT != 0;
    way.seen = seen;
    let due = if due { Taken::DUE } else { 0 };
    Taken(u64::from(place) | due | Taken::SENT)
}

/// Notes that a packet which is not plain did not take the fast path, if its flow does. `ends`: it begins or
/// ends a connection, and sends both directions to the stack from now on.
#[inline(always)]
fn odd(key: &KeyWords, ends: bool, now_ns: u64) {
    let found = place_of(key);
    found.done(now_ns);
    if ends && found.is_there() {
        leave(found.0 as u32);
    }
}

/// The place of a flow of which a packet did not take the fast path.
#[inline(never)]
fn place_of(key: &KeyWords) -> Taken {
    match find(key) {
        Some((place, way)) => returned(place, way),
        None => Taken::NOT,
    }
}

/// Notes that a packet did not take the fast path.
#[inline(always)]
fn returned(place: u32, way: &Direction) -> Taken {
    total(|totals| &mut totals.returned);
    let due = way.left == 0 || way.packets != 0;
    let due = if due { Taken::DUE } else { 0 };
    Taken(u64::from(place) | due | Taken::THERE)
}
