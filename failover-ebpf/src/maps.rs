//! The maps, and counting in them.

use core::arch::asm;

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use failover_common::{
    Connections, Counters, Direction, Family, Flow, FlowKey, Gateway, GatewayKey, Guard, Interface,
    Lease, Liveness, NextHop, Offer, Selection, SelectionKey, Totals, TrafficNews, Uplink,
    UplinkConnections, UplinkCounters, UplinkFamily, UplinkLiveness, maps,
};

/// The size of the flow table where the loader sets no other.
pub(crate) const FLOW_CAPACITY: usize = 262_144;
#[btf_map(name = "flows")]
pub(crate) static FLOWS: LruHashMap<FlowKey, Flow, FLOW_CAPACITY> = LruHashMap::new();

#[btf_map(name = "uplinks")]
static UPLINKS: Array<Uplink, { maps::UPLINK_CAPACITY as usize + 1 }> = Array::new();

#[btf_map(name = "selection")]
pub(crate) static SELECTION: HashMap<
    SelectionKey,
    Selection,
    { maps::SELECTION_CAPACITY as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

#[btf_map(name = "interfaces")]
pub(crate) static INTERFACES: HashMap<u32, Interface, { maps::INTERFACE_CAPACITY as usize }> =
    HashMap::new();

#[btf_map(name = "gateways")]
static GATEWAYS: HashMap<GatewayKey, Gateway, { maps::GATEWAY_CAPACITY as usize }> = HashMap::new();

#[btf_map(name = "counters")]
static COUNTERS: PerCpuArray<UplinkCounters, { maps::UPLINK_CAPACITY as usize + 1 }> =
    PerCpuArray::new();

#[btf_map(name = "totals")]
static TOTALS: PerCpuArray<Totals, 1> = PerCpuArray::new();

#[btf_map(name = "liveness")]
static LIVENESS: Array<UplinkLiveness, { maps::UPLINK_CAPACITY as usize + 1 }> = Array::new();

#[btf_map(name = "connections")]
static CONNECTIONS: PerCpuArray<UplinkConnections, { maps::UPLINK_CAPACITY as usize + 1 }> =
    PerCpuArray::new();

/// How many places the fast path has for directions where the loader sets no other number.
pub(crate) const PLACES: usize =
    maps::place_count(maps::offload_capacity(FLOW_CAPACITY as u32)) as usize;

#[btf_map(name = "offload")]
pub(crate) static OFFLOAD: Array<Direction, PLACES, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map(name = "refused")]
pub(crate) static REFUSED: HashMap<
    FlowKey,
    u8,
    { maps::REFUSED_CAPACITY as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

#[btf_map(name = "next_hops")]
pub(crate) static NEXT_HOPS: Array<
    NextHop,
    { maps::NEXT_HOP_CAPACITY as usize },
    { BPF_F_MMAPABLE as usize },
> = Array::new();

#[btf_map(name = "lease")]
static LEASE: Array<Lease, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map(name = "offers")]
pub(crate) static OFFERS: RingBuf<Offer, { maps::OFFERS_CAPACITY as usize }> = RingBuf::new();

#[btf_map(name = "guard")]
static GUARD: Array<Guard, 1> = Array::new();

#[btf_map(name = "traffic_news")]
pub(crate) static TRAFFIC_NEWS: RingBuf<TrafficNews, { maps::TRAFFIC_NEWS_CAPACITY as usize }> =
    RingBuf::new();

/// An uplink in a family, by its id, if it is there.
#[inline(always)]
pub(crate) fn uplink(id: u8, family: Family) -> Option<&'static UplinkFamily> {
    // The daemon writes an entry while we read, so that single fields may be old or new. Each field
    // alone is valid, and a flow that is given a generation that its uplink does not have is picked
    // anew with its next packet.
    let uplink = UPLINKS.get(u32::from(id))?.family(family);
    (uplink.generation != 0).then_some(uplink)
}

/// An interface by its index.
#[inline(always)]
pub(crate) fn interface(index: u32) -> Option<&'static Interface> {
    // SAFETY: the daemon replaces an entry as a whole by a new one and never writes into this; the
    // kernel may give the old one's memory to the new one's successor while we read, so that single
    // fields may be of either. Each field alone is valid; a mixture of two is the role of one interface
    // with the uplink of another for one packet.
    unsafe { INTERFACES.get(index) }
}

/// A gateway by its hardware address.
#[inline(always)]
pub(crate) fn gateway(
    interface: u32,
    family: Family,
    address: [u8; 6],
) -> Option<&'static Gateway> {
    let key = GatewayKey {
        interface,
        address,
        family,
        reserved: 0,
    };
    // SAFETY: as in `interface`: replaced as a whole; what was read of an old one's memory is another
    // gateway's uplink, for one packet.
    unsafe { GATEWAYS.get(&key) }
}

/// Counts packets of an uplink.
#[inline(always)]
pub(crate) fn count(
    uplink: u8,
    field: impl FnOnce(&mut UplinkCounters) -> &mut Counters,
    packets: u64,
    bytes: u64,
) {
    if let Some(counters) = counters(uplink) {
        field(counters).note(packets, bytes);
    }
}

/// Counts packets of an uplink that took the fast path, as `note` does.
#[inline(always)]
pub(crate) fn count_fast(uplink: u8, packets: u64, note: impl FnOnce(&mut UplinkCounters)) {
    if let Some(counters) = counters(uplink) {
        note(counters);
        counters.fast += packets;
    }
}

#[inline(always)]
fn counters(uplink: u8) -> Option<&'static mut UplinkCounters> {
    let counters = COUNTERS.get_ptr_mut(u32::from(uplink))?;
    // SAFETY: the slot is this processor's alone, and programs at TC run with bottom halves
    // disabled, so none interrupts another on the same processor: nobody else writes here. The
    // daemon only reads.
    Some(unsafe { &mut *counters })
}

/// Counts one thing more that became of packets.
#[inline(always)]
pub(crate) fn total(field: impl FnOnce(&mut Totals) -> &mut u64) {
    if let Some(totals) = TOTALS.get_ptr_mut(0) {
        // SAFETY: as in `counters`: the slot is this processor's alone.
        let totals = unsafe { &mut *totals };
        *field(totals) += 1;
    }
}

/// What the daemon allows.
#[inline(always)]
pub(crate) fn lease() -> Option<&'static Lease> {
    // The daemon writes each field on its own while we read.
    LEASE.get(0)
}

/// The guard against floods.
#[inline(always)]
pub(crate) fn guard() -> Option<&'static mut Guard> {
    let guard = GUARD.get_ptr_mut(0)?;
    // SAFETY: the hazard is another processor that writes it at the same time. Every field is a word
    // that is written on its own, and what is lost by it is one flow of many in a number that is halved
    // every now and then.
    Some(unsafe { &mut *guard })
}

/// What is known of the answers to users' traffic through an uplink.
#[inline(always)]
pub(crate) fn liveness(uplink: u8, family: Family) -> Option<&'static mut Liveness> {
    let both = LIVENESS.get_ptr_mut(u32::from(uplink))?;
    // SAFETY: the hazard is another processor that writes the same entry. Every field is a word that
    // is written on its own, any mixture of them is valid, and what is lost by it is one packet's
    // part of evidence that is gathered from many.
    let both = unsafe { &mut *both };
    Some(match family {
        Family::Ipv4 => &mut both.ipv4,
        Family::Ipv6 => &mut both.ipv6,
    })
}

/// Counts what becomes of users' connections.
#[inline(always)]
pub(crate) fn connections(uplink: u8, family: Family, note: impl FnOnce(&mut Connections)) {
    if let Some(both) = CONNECTIONS.get_ptr_mut(u32::from(uplink)) {
        // SAFETY: as in `counters`: the slot is this processor's alone.
        let both = unsafe { &mut *both };
        note(match family {
            Family::Ipv4 => &mut both.ipv4,
            Family::Ipv6 => &mut both.ipv6,
        });
    }
}

/// Adds to a counter of a flow. Packets of one direction of one flow may be on two processors at
/// once.
#[inline(always)]
pub(crate) fn add(counter: &mut u64, amount: u64) {
    // SAFETY: the hazard is a write beyond the counter. The instruction (`BPF_XADD`,
    // include/uapi/linux/bpf.h) adds to the aligned u64 that the reference is to, and to nothing
    // else. The compiler has no atomic addition for this target.
    unsafe {
        asm!(
            "lock *(u64 *)({counter} + 0) += {amount}",
            counter = in(reg) counter,
            amount = in(reg) amount,
            options(nostack)
        );
    }
}

/// Zero. Several words that the compiler knows to be zero are filled by a loop, byte after byte: for
/// this target it has no other way.
#[inline(always)]
pub(crate) fn zero() -> u64 {
    let zero: u64;
    // SAFETY: the instruction sets a register and nothing else.
    unsafe {
        asm!("{zero} = 0", zero = lateout(reg) zero, options(nomem, nostack, pure));
    }
    zero
}

/// 0 or 1, which it is given. The compiler does not know that, and makes no branch of it.
#[inline(always)]
pub(crate) fn bit(number: u64) -> u32 {
    let mut bit = number;
    // SAFETY: the instruction changes this register and nothing else.
    unsafe {
        asm!("{bit} &= 1", bit = inout(reg) bit, options(nomem, nostack, pure));
    }
    bit as u32
}

/// Zero, which is known once a word was loaded. What is loaded from an address that it was added to is
/// loaded after that word: the daemon writes that last, and some processors load in any order otherwise
/// (Documentation/memory-barriers.txt, "Address-dependency barriers").
#[inline(always)]
pub(crate) fn after(word: u32) -> usize {
    let mut zero = u64::from(word);
    // SAFETY: the instruction changes this register and nothing else.
    unsafe {
        asm!("{zero} &= 0", zero = inout(reg) zero, options(nomem, nostack));
    }
    zero as usize
}
