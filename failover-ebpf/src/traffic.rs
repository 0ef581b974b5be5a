//! What users' traffic tells about its uplink: who is asked, who answers, and what is sent again.

use failover_common::traffic::host_bit;
use failover_common::{Family, Flow, FlowKey, Liveness, Phase, Told, TrafficNews};

use crate::headers::Tuple;
use crate::maps::{TRAFFIC_NEWS, connections, liveness};
use crate::pick::Picked;
use crate::segment::Segment;

/// The first packet of a flow from users.
#[inline(always)]
pub(crate) fn begins(key: &FlowKey, segment: Segment, picked: Picked, now_ns: u64) {
    if segment.opens() {
        opens(key, picked.uplink);
        if picked.translates {
            ask(key.outside, picked.uplink, key.family, now_ns);
        }
    }
}

/// A connection is begun.
#[inline(always)]
pub(crate) fn opens(key: &FlowKey, uplink: u8) {
    connections(uplink, key.family, |connections| connections.opened += 1);
}

/// A packet from users of a flow that is known. `translates`: what answers it comes back by the same
/// uplink; where it may come another way, silence tells nothing.
#[inline(always)]
pub(crate) fn goes_on(
    key: &FlowKey,
    tuple: &Tuple,
    flow: &mut Flow,
    translates: bool,
    now_ns: u64,
) {
    let segment = tuple.tcp;
    if let Some(next) = segment.next() {
        let known = flow.sequenced;
        if follow(key.family, flow.uplink, known, &mut flow.out_next, next) {
            flow.sequenced = true;
        }
    }
    let wants_answer = segment.opens()
        || (matches!(flow.phase, Phase::Established) && (segment.has_data() || !segment.is_one()));
    if wants_answer && translates {
        ask(key.outside, flow.uplink, key.family, now_ns);
    }
}

/// Notes how far the inside host has come: `known` says whether that was known so far. Returns whether
/// what it sends is new.
#[inline(always)]
pub(crate) fn follow(
    family: Family,
    uplink: u8,
    known: bool,
    out_next: &mut u32,
    next: u32,
) -> bool {
    let news = next.wrapping_sub(*out_next).cast_signed() > 0;
    if known && !news {
        connections(uplink, family, |connections| {
            connections.repeated += 1;
        });
        return false;
    }
    *out_next = next;
    true
}

/// A packet to users of a flow that they have sent packets of. `accepted`: it is the first answer to
/// a connection that is begun.
#[inline(always)]
pub(crate) fn answered(key: &FlowKey, flow: &Flow, accepted: bool, now_ns: u64) {
    if accepted {
        accept(key, flow, now_ns);
    }
    heard(key.outside, flow.uplink, key.family, now_ns);
}

/// A packet to users of a flow that they have sent packets of came from this host by that uplink.
#[inline(always)]
pub(crate) fn heard(outside: [u8; 16], uplink: u8, family: Family, now_ns: u64) {
    let Some(line) = liveness(uplink, family) else {
        return;
    };
    if line.answer(host_bit(outside), now_ns) {
        tell(family, line, uplink, Told::Answered, now_ns);
    }
}

#[inline(always)]
fn accept(key: &FlowKey, flow: &Flow, now_ns: u64) {
    connections(flow.uplink, key.family, |connections| {
        connections.accepted += 1;
        // Of two SYNs nobody knows which one is answered (RFC 6298, section 3).
        if flow.out_packets == 1 {
            connections.timed += 1;
            connections.handshake_ns += now_ns.wrapping_sub(flow.created_ns);
        }
    });
}

/// A packet that wants an answer goes to a host.
#[inline(always)]
pub(crate) fn ask(outside: [u8; 16], uplink: u8, family: Family, now_ns: u64) {
    let Some(line) = liveness(uplink, family) else {
        return;
    };
    if !line.is_fresh(now_ns) && line.ask(host_bit(outside), now_ns) {
        tell(family, line, uplink, Told::Silent, now_ns);
    }
}

#[inline(always)]
fn tell(family: Family, line: &Liveness, uplink: u8, told: Told, now_ns: u64) {
    let news = TrafficNews {
        at_ns: now_ns,
        asked_ns: line.asked_ns,
        asked: line.asked,
        questions: line.questions,
        uplink,
        family,
        told,
        reserved: 0,
    };
    // A full ring is one that nobody reads.
    let _unread = TRAFFIC_NEWS.output(news, 0);
}
