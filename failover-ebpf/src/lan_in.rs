//! A packet from users: it is given the uplink of its flow.

use core::hint::cold_path;

use aya_ebpf::Global;
use failover_common::lifetime::is_alive;
use failover_common::{Flow, FlowKey, Phase, UplinkFamily};

use crate::flow::{begin, current, enter, first_phase, now_ns, touch};
use crate::headers::{self, Headers, Tuple};
use crate::maps::{FLOWS, add, count, guard, total};
use crate::mark::{self, Certainty};
use crate::packet::Packet;
use crate::pick::{Picked, pick};
use crate::{PASS_ON, log, offer, offload, traffic};

/// How many new flows may wait for their first answer. The loader sets it.
#[unsafe(no_mangle)]
// SAFETY: no other symbol of this name is linked.
static UNANSWERED: Global<u32> = Global::new(u32::MAX);

/// Gives a packet from users its uplink. `ONE_SIDED`: answers may go straight to users.
#[inline(always)]
pub(crate) fn handle<const HEADER: usize, const ONE_SIDED: bool>(
    packet: &Packet<'_, HEADER>,
) -> i32 {
    if packet.is_tagged() || !packet.is_for_us() {
        return PASS_ON;
    }
    let now_ns = now_ns();
    let (sent, odd) = offload::from_users(packet, now_ns);
    if sent != PASS_ON {
        return sent;
    }
    match headers::read(packet) {
        Headers::Flow(tuple) => {
            let key = tuple.outward();
            if odd {
                offload::from_users_odd(&key, &tuple, now_ns);
            }
            return steer::<HEADER, ONE_SIDED>(packet, &key, &tuple, now_ns);
        }
        Headers::Error(about) => {
            cold_path();
            match headers::read_about(packet, &about) {
                Some(tuple) => follow(packet, &tuple.inward()),
                None => total(|totals| &mut totals.unread),
            }
        }
        Headers::Other => {}
        Headers::Unread => total(|totals| &mut totals.unread),
    }
    PASS_ON
}

/// What the flow table says about a flow.
enum Known {
    /// It is on its uplink.
    Here(&'static mut Flow, &'static UplinkFamily),
    /// It is to be picked anew: its uplink's flows were forgotten, or it is another flow with the
    /// same addresses and ports.
    Stale(&'static mut Flow),
    Not,
}

#[inline(always)]
fn known(key: &FlowKey, tuple: &Tuple, now_ns: u64) -> Known {
    let Some(flow) = FLOWS.get_ptr_mut(key) else {
        return Known::Not;
    };
    // SAFETY: the hazard is an entry that is evicted and given to another flow while it is held, or
    // written by two processors at once. The kernel keeps the memory of map values for as long as
    // the program runs (RCU), every field is written on its own, and whatever mixture of two flows
    // an entry holds is corrected by the connection mark: an unconfirmed entry asks it, and an
    // answer by another uplink than the entry's corrects that.
    let flow = unsafe { &mut *flow };
    let current = current(flow, key.family);
    let ended =
        !is_alive(key, flow, now_ns) || (tuple.tcp.opens() && matches!(flow.phase, Phase::Closing));
    match current {
        Some(uplink) if !ended => Known::Here(flow, uplink),
        _ => {
            if ended {
                // What was counted is another flow's.
                begin(flow, now_ns);
            }
            Known::Stale(flow)
        }
    }
}

#[inline(always)]
fn steer<const HEADER: usize, const ONE_SIDED: bool>(
    packet: &Packet<'_, HEADER>,
    key: &FlowKey,
    tuple: &Tuple,
    now_ns: u64,
) -> i32 {
    match known(key, tuple, now_ns) {
        Known::Here(flow, uplink) => {
            traffic::goes_on(key, tuple, flow, uplink.translates, now_ns);
            let certainty = if flow.confirmed {
                Certainty::Confirmed
            } else {
                Certainty::Ask
            };
            // Nobody else will say that the other end has answered.
            if ONE_SIDED && matches!(flow.phase, Phase::Opening) && tuple.tcp.answers() {
                flow.phase = Phase::Established;
            }
            carry(packet, tuple, flow, now_ns, certainty);
            if flow.until_offer == 0 {
                offer::consider(packet, key, flow, now_ns);
            }
        }
        Known::Stale(flow) => {
            cold_path();
            let Some(picked) = pick(packet, key, tuple.traffic_class) else {
                return PASS_ON;
            };
            total(|totals| &mut totals.renewed);
            flow.confirmed = false;
            flow.reason = picked.reason;
            // Until it is answered there: a reset ends it first where it cannot go on.
            flow.phase = first_phase(tuple.tcp);
            flow.uplink = picked.uplink;
            flow.generation = picked.generation;
            if flow.out_packets == 0 && tuple.tcp.opens() {
                traffic::opens(key, picked.uplink);
            }
            traffic::goes_on(key, tuple, flow, picked.translates, now_ns);
            log::new_flow(packet, key, picked.uplink, picked.reason);
            carry(packet, tuple, flow, now_ns, Certainty::Ask);
        }
        Known::Not => {
            cold_path();
            let Some(picked) = pick(packet, key, tuple.traffic_class) else {
                return PASS_ON;
            };
            // A reset ends a flow; it begins none.
            if !tuple.tcp.resets() && is_admitted(now_ns) {
                enter(key, now_ns, |flow| first(packet, tuple, picked, flow));
                traffic::begins(key, tuple.tcp, picked, now_ns);
                log::new_flow(packet, key, picked.uplink, picked.reason);
            }
            mark::give(packet, picked.uplink, Certainty::Ask);
            count(
                picked.uplink,
                |counters| &mut counters.lan_in,
                packet.segments(),
                packet.length(),
            );
        }
    }
    PASS_ON
}

/// Whether one more flow may wait for its first answer.
#[inline(always)]
fn is_admitted(now_ns: u64) -> bool {
    let admitted = guard().is_none_or(|guard| guard.admit(UNANSWERED.load(), now_ns));
    if !admitted {
        total(|totals| &mut totals.held_off);
    }
    admitted
}

/// Sends a packet with its flow.
#[inline(always)]
fn carry<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    tuple: &Tuple,
    flow: &mut Flow,
    now_ns: u64,
    certainty: Certainty,
) {
    mark::give(packet, flow.uplink, certainty);
    touch(flow, now_ns);
    if tuple.tcp.closes() {
        flow.phase = Phase::Closing;
    }
    flow.until_offer = flow.until_offer.saturating_sub(1);
    let (packets, bytes) = (packet.segments(), packet.length());
    add(&mut flow.out_packets, packets);
    add(&mut flow.out_bytes, bytes);
    count(flow.uplink, |counters| &mut counters.lan_in, packets, bytes);
}

/// An ICMP error goes with the flow that it is about; a flow that is not known is the connection
/// mark's to know.
#[inline(always)]
fn follow<const HEADER: usize>(packet: &Packet<'_, HEADER>, key: &FlowKey) {
    // SAFETY: only fields of their own are read; as in `known`.
    let Some(flow) = (unsafe { FLOWS.get(key) }) else {
        return;
    };
    if flow.confirmed && current(flow, key.family).is_some() {
        mark::give(packet, flow.uplink, Certainty::Confirmed);
    }
}

/// What the first packet of a flow says of it.
#[inline(always)]
fn first<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    tuple: &Tuple,
    picked: Picked,
    flow: &mut Flow,
) {
    flow.out_packets = packet.segments();
    flow.out_bytes = packet.length();
    flow.generation = picked.generation;
    flow.uplink = picked.uplink;
    flow.reason = picked.reason;
    flow.phase = first_phase(tuple.tcp);
    flow.out_next = tuple.tcp.next().unwrap_or_default();
    flow.sequenced = tuple.tcp.next().is_some();
    flow.waits = true;
}
