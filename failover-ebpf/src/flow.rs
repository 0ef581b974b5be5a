//! An entry of the flow table: how it begins, what keeps it fresh, and whether its uplink still
//! stands behind it.

use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use failover_common::{Family, Flow, FlowKey, Phase, Reason, UplinkFamily};

use crate::maps::{FLOWS, total, uplink, zero};
use crate::segment::Segment;

/// How stale the time of a flow's last packet may be.
const REFRESH_NS: u64 = 1_000_000_000;

/// The monotonic clock, as of the last timer tick: asking for more costs more than all else here.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing and has no effect.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// A flow that begins now, on no uplink yet.
#[inline(always)]
pub(crate) fn begun(now_ns: u64) -> Flow {
    let none = zero();
    Flow {
        created_ns: now_ns,
        seen_ns: now_ns,
        out_packets: none,
        out_bytes: none,
        in_packets: none,
        in_bytes: none,
        generation: 0,
        uplink: 0,
        reason: Reason::Hash,
        phase: Phase::Opening,
        confirmed: false,
        out_next: 0,
        sequenced: false,
        reserved: [0; 3],
    }
}

/// How far a flow has come with its first packet.
#[inline(always)]
pub(crate) fn first_phase(tcp: Segment) -> Phase {
    if tcp.closes() {
        Phase::Closing
    } else {
        Phase::Opening
    }
}

/// Puts a flow into the table; returns whether it was taken.
#[inline(always)]
pub(crate) fn enter(key: &FlowKey, flow: Flow) -> bool {
    match FLOWS.insert(key, flow, 0) {
        Ok(()) => {
            total(|totals| &mut totals.entered);
            true
        }
        Err(_) => {
            total(|totals| &mut totals.refused);
            false
        }
    }
}

/// Notes that a packet was seen. Not for each: other processors have the entry in their caches too.
#[inline(always)]
pub(crate) fn touch(flow: &mut Flow, now_ns: u64) {
    if now_ns.wrapping_sub(flow.seen_ns) >= REFRESH_NS {
        flow.seen_ns = now_ns;
    }
}

/// The flow's uplink, if it has not forgotten its flows since it was given to this one.
#[inline(always)]
pub(crate) fn current(flow: &Flow, family: Family) -> Option<&'static UplinkFamily> {
    let uplink = uplink(flow.uplink)?.family(family);
    (uplink.generation == flow.generation).then_some(uplink)
}
