//! The TC programs: they see every packet of an interface, and for now they only count.
#![no_std]
#![no_main]

use aya_ebpf::btf_maps::PerCpuArray;
use aya_ebpf::macros::{btf_map, classifier};
use aya_ebpf::programs::TcContext;
use aya_log_ebpf::trace;
use failover_common::{Counters, Direction};

/// The next program or filter sees the packet too: `TC_ACT_UNSPEC`, which is `TCX_NEXT`
/// (include/uapi/linux/bpf.h). `TC_ACT_OK` would hide it from programs of others.
const PASS_ON: i32 = -1;

/// What each processor saw, by [`Direction`].
#[btf_map]
static COUNTERS: PerCpuArray<Counters, { Direction::ALL.len() }> = PerCpuArray::new();

/// Sees what comes in.
#[classifier]
fn failover_in(packet: TcContext) -> i32 {
    count(&packet, Direction::Ingress);
    PASS_ON
}

/// Sees what goes out.
#[classifier]
fn failover_out(packet: TcContext) -> i32 {
    count(&packet, Direction::Egress);
    PASS_ON
}

#[inline(always)]
fn count(packet: &TcContext, direction: Direction) {
    let length = packet.len();
    trace!(packet, "{} bytes, direction {}", length, direction.index());
    if let Some(counters) = COUNTERS.get_ptr_mut(direction.index()) {
        // SAFETY: the verifier has checked that the pointer is within the slot of this processor.
        // No other processor uses the slot, and programs at TC run with bottom halves disabled, so
        // none interrupts another on the same processor: nobody else holds a reference.
        let counters = unsafe { &mut *counters };
        counters.packets += 1;
        counters.bytes += u64::from(length);
    }
}

/// The kernel looks for the letters `GPL` here before it lets a program call helpers that are for
/// GPL programs only (`license_is_gpl_compatible`, include/linux/license.h).
// SAFETY: the section is the one that loaders read the licence from, and holds this text alone.
#[unsafe(link_section = "license")]
// SAFETY: no other symbol of this name is linked.
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
