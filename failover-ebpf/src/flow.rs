//! An entry of the flow table: how it begins, what keeps it fresh, and whether its uplink still
//! stands behind it.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::btf_map;
use failover_common::{Family, Flow, FlowKey, Phase, Reason, UplinkFamily};

use crate::maps::{FLOWS, total, uplink, zero};
use crate::offer::FIRST_OFFER;
use crate::segment::Segment;

/// How stale the time of a flow's last packet may be.
const REFRESH_NS: u64 = 1_000_000_000;

/// The monotonic clock, as of the last timer tick: asking for more costs more than all else here.
#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: the helper takes nothing and has no effect.
    unsafe { bpf_ktime_get_coarse_ns() }
}

/// Where a new flow is written before it is put into the table: it is too large for the stack.
#[btf_map(name = "new_flow")]
static NEW_FLOW: PerCpuArray<Flow, 1> = PerCpuArray::new();

/// Makes of an entry a flow that begins now, on no uplink yet.
#[inline(always)]
pub(crate) fn begin(flow: &mut Flow, now_ns: u64) {
    let none = zero();
    flow.created_ns = now_ns;
    flow.seen_ns = now_ns;
    flow.generation = 0;
    flow.uplink = 0;
    flow.reason = Reason::Hash;
    flow.phase = Phase::Opening;
    flow.confirmed = false;
    flow.out_packets = none;
    flow.out_bytes = none;
    flow.offered_ns = none;
    flow.out_next = 0;
    flow.sequenced = false;
    flow.until_offer = FIRST_OFFER.load();
    flow.waits = false;
    flow.in_packets = none;
    flow.in_bytes = none;
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

/// Puts a flow that begins now into the table, with what is said of it; returns whether it was taken.
#[inline(always)]
pub(crate) fn enter(key: &FlowKey, now_ns: u64, tell: impl FnOnce(&mut Flow)) -> bool {
    let entered = NEW_FLOW.get_ptr_mut(0).is_some_and(|new| {
        // SAFETY: the memory is this processor's alone, and no program interrupts another one on the same
        // processor: nobody else writes here until the table has its copy.
        let new = unsafe { &mut *new };
        begin(new, now_ns);
        tell(new);
        FLOWS.insert(key, &*new, 0).is_ok()
    });
    if entered {
        total(|totals| &mut totals.entered);
    } else {
        total(|totals| &mut totals.refused);
    }
    entered
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
    let uplink = uplink(flow.uplink, family)?;
    (uplink.generation == flow.generation).then_some(uplink)
}
