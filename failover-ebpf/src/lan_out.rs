//! A packet to users: it tells by which uplink its flow comes back.

use failover_common::{Flow, FlowKey, Phase, Reason, Role};

use crate::flow::{self, first_phase, now_ns, touch};
use crate::headers::{self, Headers, Tuple};
use crate::maps::{FLOWS, add, count, guard, interface, total, uplink};
use crate::packet::Packet;
use crate::{log, mark, traffic};

/// What a packet says about its flow's uplink.
#[derive(Clone, Copy)]
struct Evidence {
    /// The id.
    uplink: u8,
    /// Its connection mark says so, which decides; otherwise the interface by which it came in.
    connection: bool,
}

/// Learns from a packet that came in by an uplink and goes to users.
#[inline(always)]
pub(crate) fn handle<const HEADER: usize>(packet: &Packet<'_, HEADER>) {
    let from = packet.ingress_ifindex();
    // The host's own, and what is counted already.
    if from == 0 || packet.is_fast() || packet.is_tagged() {
        return;
    }
    let Some(from) = interface(from) else {
        return;
    };
    let evidence = match from.role {
        Role::Uplink => Evidence {
            uplink: from.uplink,
            connection: false,
        },
        Role::SharedUplink | Role::OneArm => Evidence {
            uplink: mark::told(packet),
            connection: true,
        },
        Role::Downlink => return,
    };
    if evidence.uplink == 0 {
        return;
    }
    count(
        evidence.uplink,
        |counters| &mut counters.lan_out,
        packet.segments(),
        packet.length(),
    );
    match headers::read(packet) {
        Headers::Flow(tuple) => learn(packet, &tuple, evidence),
        // An ICMP error may come from anybody on the way, and by any uplink.
        Headers::Error(_) | Headers::Other => {}
        Headers::Unread => total(|totals| &mut totals.unread),
    }
}

#[inline(always)]
fn learn<const HEADER: usize>(packet: &Packet<'_, HEADER>, tuple: &Tuple, evidence: Evidence) {
    let key = tuple.inward();
    let now_ns = now_ns();
    let Some(flow) = FLOWS.get_ptr_mut(key) else {
        if !tuple.tcp.resets() {
            enter(packet, tuple, &key, evidence, now_ns);
        }
        return;
    };
    // SAFETY: as for an entry that a packet from users found: the memory stays while the program
    // runs, fields are written one by one, and a mixture is corrected by the connection mark.
    let flow = unsafe { &mut *flow };
    let agreed = flow.confirmed && flow.uplink == evidence.uplink;
    if !agreed && !tuple.tcp.resets() {
        agree(flow, &key, evidence);
    }
    let opening = matches!(flow.phase, Phase::Opening);
    let asked = flow.out_packets != 0;
    if tuple.tcp.closes() {
        flow.phase = Phase::Closing;
    } else if opening && asked {
        flow.phase = Phase::Established;
        if flow.waits
            && let Some(guard) = guard()
        {
            flow.waits = false;
            guard.answered();
        }
    }
    // A reset may be anybody's. Late packets by another uplink say nothing about the flow's own.
    if asked && !tuple.tcp.resets() && flow.uplink == evidence.uplink {
        traffic::answered(&key, flow, opening && tuple.tcp.accepts(), now_ns);
    }
    touch(flow, now_ns);
    add(&mut flow.in_packets, packet.segments());
    add(&mut flow.in_bytes, packet.length());
}

/// What comes back by the flow's uplink confirms it. What comes back by another one that translates
/// can belong to no other than that, and what a connection mark says holds anyway: it corrects it. A
/// late packet by an uplink that is down does neither. A late one of a confirmed flow whose uplink's
/// flows were forgotten does not get here: the generation stays the old one, so that the next packet
/// from inside is picked anew.
#[inline(always)]
fn agree(flow: &mut Flow, key: &FlowKey, evidence: Evidence) {
    let id = evidence.uplink;
    let Some(family) = uplink(id, key.family) else {
        return;
    };
    if !family.state.teaches() {
        return;
    }
    if flow.uplink == id && flow.generation == family.generation {
        flow.confirmed = true;
    } else if family.translates || evidence.connection {
        flow.confirmed = true;
        flow.reason = Reason::Restored;
        flow.uplink = id;
        flow.generation = family.generation;
        total(|totals| &mut totals.corrected);
    }
}

/// Enters a flow that is not known: one that begins outside, or that is older than its entry. Where
/// nothing is translated an answer may come by another uplink than the question went, so that only
/// the first packet of a connection tells, or its mark.
#[inline(always)]
fn enter<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    tuple: &Tuple,
    key: &FlowKey,
    evidence: Evidence,
    now_ns: u64,
) {
    let id = evidence.uplink;
    let Some(family) = uplink(id, key.family) else {
        return;
    };
    let begins = mark::asks(packet);
    if !family.state.teaches() || !(begins || family.translates || evidence.connection) {
        return;
    }
    let reason = if begins {
        Reason::Inbound
    } else {
        Reason::Restored
    };
    let entered = flow::enter(key, now_ns, |flow| {
        flow.in_packets = packet.segments();
        flow.in_bytes = packet.length();
        flow.generation = family.generation;
        flow.uplink = id;
        flow.reason = reason;
        flow.phase = first_phase(tuple.tcp);
        flow.confirmed = true;
    });
    if entered {
        log::new_flow(packet, key, id, reason);
    }
}
