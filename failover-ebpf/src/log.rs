//! A line in the daemon's log for each new flow, when it asks for that.

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::btf_map;
use aya_log_ebpf::debug;
use aya_log_ebpf::macro_support::{Level, level_enabled};
use failover_common::{Family, FlowKey, Reason};

use crate::flow::now_ns;
use crate::packet::Packet;

/// How many lines a processor may write in a second.
const LINES: u32 = 100;
const SECOND_NS: u64 = 1_000_000_000;

/// What a processor has written.
#[derive(Clone, Copy)]
#[repr(C)]
struct Budget {
    /// When its second began.
    since_ns: u64,
    /// Lines in this second.
    lines: u32,
    /// Lines that were left out since the last one.
    left_out: u32,
}

#[btf_map(name = "log_budget")]
static BUDGET: PerCpuArray<Budget, 1> = PerCpuArray::new();

/// Writes a line. Where logging is off the kernel removes all of this when it loads the program.
#[inline(always)]
pub(crate) fn new_flow<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    key: &FlowKey,
    uplink: u8,
    reason: Reason,
) {
    if level_enabled(Level::Debug) {
        if let Some(left_out) = spend() {
            write(packet, key, uplink, reason, left_out);
        }
    }
}

/// Whether a line may be written, and how many were left out before it.
#[inline(always)]
fn spend() -> Option<u32> {
    let budget = BUDGET.get_ptr_mut(0)?;
    // SAFETY: the slot is this processor's alone, and nothing interrupts a program at TC that could
    // write here.
    let budget = unsafe { &mut *budget };
    let now_ns = now_ns();
    if now_ns.wrapping_sub(budget.since_ns) >= SECOND_NS {
        budget.since_ns = now_ns;
        budget.lines = 0;
    }
    if budget.lines >= LINES {
        budget.left_out = budget.left_out.wrapping_add(1);
        return None;
    }
    budget.lines += 1;
    Some(core::mem::take(&mut budget.left_out))
}

#[inline(never)]
fn write<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    key: &FlowKey,
    uplink: u8,
    reason: Reason,
    left_out: u32,
) {
    let context = packet.context();
    let reason = match reason {
        Reason::Hash => "hash",
        Reason::Rule => "rule",
        Reason::Inbound => "inbound",
        Reason::Restored => "restored",
    };
    if left_out != 0 {
        debug!(context, "{} new flows are not told", left_out);
    }
    match key.family {
        Family::Ipv4 => debug!(
            context,
            "new flow {:i}:{} {:i}:{} protocol {} uplink {} {}",
            ipv4(key.inside),
            key.inside_port,
            ipv4(key.outside),
            key.outside_port,
            key.protocol,
            uplink,
            reason
        ),
        Family::Ipv6 => debug!(
            context,
            "new flow [{:i}]:{} [{:i}]:{} protocol {} uplink {} {}",
            key.inside,
            key.inside_port,
            key.outside,
            key.outside_port,
            key.protocol,
            uplink,
            reason
        ),
    }
}

/// An IPv4 address as the formatter wants it.
#[inline(always)]
const fn ipv4(address: [u8; 16]) -> u32 {
    let [a, b, c, d, ..] = address;
    u32::from_be_bytes([a, b, c, d])
}
