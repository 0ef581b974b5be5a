//! The fast path: which packets take it.
//!
//! What connection tracking must see, or what is not plain, goes to the stack: packets that begin or
//! end a connection, that have no hop left, fragments, options and extension headers, what is longer than
//! the output takes, what has a next hop that nobody knows, and everything when the daemon is gone.

use core::ptr::addr_of_mut;

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use failover_common::fastpath::OffloadKey;
use failover_common::flow::Offering;
use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{
    Direction, Flow, FlowKey, Lease, Offer, Offloaded, Pair, Phase, Reason, Side,
};

use crate::flow::{enter, now_ns};
use crate::headers::{self, Headers, Tuple};
use crate::maps::{LEASE, OFFERS, OFFLOAD, PAIRS, count_fast, total, uplink};
use crate::mark::{self, Certainty};
use crate::packet::{ETHERNET_HEADER, Packet};
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

/// How stale the time of a direction's last packet may be.
const REFRESH_NS: u64 = 1_000_000_000;

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

/// Where a key leads. The directions of a pair are written before anybody is told of it, and again only
/// after all programs have ended that may know it: what is read of them, under its id, is whole.
#[inline(always)]
fn pair(offloaded: Offloaded) -> Option<*mut Pair> {
    if offloaded.id == 0 {
        return None;
    }
    PAIRS.get_ptr_mut(offloaded.slot)
}

/// Sends a packet from users by the fast path, if that takes it; returns what becomes of it. A function
/// of its own, as the others here, for its room on the stack.
#[inline(never)]
pub(crate) fn from_users<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    shape: Shape,
    flow: &mut Flow,
    now_ns: u64,
) -> i32 {
    by_its_pair(packet, shape, flow, now_ns).unwrap_or(PASS_ON)
}

#[inline(always)]
fn by_its_pair<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    shape: Shape,
    flow: &mut Flow,
    now_ns: u64,
) -> Option<i32> {
    if HEADER != ETHERNET_HEADER || !is_open(now_ns) {
        return None;
    }
    let pair = PAIRS.get_ptr_mut(flow.offloaded.slot)?;
    // SAFETY: the map has the memory for good. The direction is not written while a program may read
    // it, but for its id and `left`, each a word or a byte of its own that is looked at once.
    let out = unsafe { &(*pair).out };
    if out.id != flow.offloaded.id {
        flow.offloaded = Offloaded::default();
        return None;
    }
    let sent = if out.generation == flow.generation && is_plain(packet, shape, pair, out) {
        send::by(packet, shape, out)
    } else {
        None
    };
    let Some(sent) = sent else {
        total(|totals| &mut totals.returned);
        return None;
    };
    mark::give(packet, flow.uplink, Certainty::Confirmed);
    if now_ns.wrapping_sub(flow.offered_ns) >= REFRESH_NS {
        flow.offered_ns = now_ns;
        flow.seen_ns = now_ns;
        // SAFETY: as above; the word is written by packets of users alone.
        unsafe { (*pair).moved.out_seen_ns = now_ns };
    }
    let (packets, bytes) = (packet.segments(), packet.length());
    flow.out_packets += packets;
    flow.out_bytes += bytes;
    count_fast(flow.uplink, |counters| &mut counters.lan_in, packets, bytes);
    Some(sent)
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
    answer(packet, &tuple, now_ns).unwrap_or(PASS_ON)
}

#[inline(always)]
fn answer<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    tuple: &Tuple,
    now_ns: u64,
) -> Option<i32> {
    let key = OffloadKey {
        source: tuple.source.bytes(),
        destination: tuple.destination.bytes(),
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
        protocol: tuple.protocol,
        family: tuple.family,
        side: Side::Provider,
        reserved: 0,
    };
    let offloaded = known(&key)?;
    let pair = pair(offloaded)?;
    // SAFETY: as for packets from users.
    let back = unsafe { &(*pair).back };
    if back.id != offloaded.id {
        return None;
    }
    let current = uplink(back.uplink, tuple.family)?.generation;
    let shape = Shape::of(packet, tuple);
    let sent = if back.generation == current && is_plain(packet, shape, pair, back) {
        send::by(packet, shape, back)
    } else {
        None
    };
    let Some(sent) = sent else {
        total(|totals| &mut totals.returned);
        return None;
    };
    // SAFETY: as above; the words are written by packets of providers alone, and each on its own.
    let moved = unsafe { &mut *addr_of_mut!((*pair).moved) };
    if now_ns.wrapping_sub(moved.back_seen_ns) >= REFRESH_NS {
        moved.back_seen_ns = now_ns;
    }
    let (packets, bytes) = (packet.segments(), packet.length());
    moved.back_packets += packets;
    moved.back_bytes += bytes;
    count_fast(
        back.uplink,
        |counters| &mut counters.lan_out,
        packets,
        bytes,
    );
    traffic::heard(tuple.source.bytes(), back.uplink, tuple.family, now_ns);
    Some(sent)
}

/// What the daemon says of packets that look so.
#[inline(always)]
fn known(key: &OffloadKey) -> Option<Offloaded> {
    // SAFETY: the hazard is an entry whose memory is given to another one while it is read. Slot and id
    // may then be of either, or of both: an id that is not that of the pair in the slot is not
    // believed.
    unsafe { OFFLOAD.get(key) }.copied()
}

/// Whether a packet of an offloaded flow is one that the fast path may take. One that ends the flow, or
/// begins another one, sends both directions to the stack from now on.
#[inline(always)]
fn is_plain<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    shape: Shape,
    pair: *mut Pair,
    way: &Direction,
) -> bool {
    if shape.ends() {
        // SAFETY: as in `from_users`; nobody writes anything else to these bytes as long as the pair is
        // this flow's, and the daemon looks at them no more once it is another one's.
        unsafe { (*pair).out.left = 1 };
        // SAFETY: likewise.
        unsafe { (*pair).back.left = 1 };
        return false;
    }
    way.left == 0 && way.ingress == packet.ifindex() && shape.is_plain()
}

/// Looks whether a flow takes the fast path by now, and offers it otherwise.
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
    {
        return;
    }
    if let Some(offloaded) = known(&OffloadKey::from_users(key)) {
        flow.offloaded = offloaded;
        return;
    }
    if now_ns.wrapping_sub(flow.offered_ns) < OFFER_AGAIN_NS.load() {
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

/// Enters a flow again that takes the fast path and was pushed out of the flow table all the same;
/// returns whether it is such a flow.
#[inline(never)]
pub(crate) fn enter_again(key: &FlowKey, now_ns: u64) -> bool {
    pushed_out(key, now_ns).is_some_and(|(offloaded, out)| {
        enter(key, now_ns, |flow| {
            flow.generation = out.generation;
            flow.uplink = out.uplink;
            flow.reason = Reason::Restored;
            flow.phase = Phase::Established;
            flow.confirmed = true;
            flow.offloaded = offloaded;
        })
    })
}

#[inline(always)]
fn pushed_out(key: &FlowKey, now_ns: u64) -> Option<(Offloaded, &'static Direction)> {
    if !is_open(now_ns) {
        return None;
    }
    let offloaded = known(&OffloadKey::from_users(key))?;
    let pair = pair(offloaded)?;
    // SAFETY: as in `from_users`.
    let out = unsafe { &(*pair).out };
    let current = uplink(out.uplink, key.family)?.generation;
    let goes_on = out.id == offloaded.id && out.left == 0 && out.generation == current;
    goes_on.then_some((offloaded, out))
}
