//! Which uplink a source or a pair was given, for pools that remember it.

use aya_ebpf::btf_maps::LruHashMap;
use aya_ebpf::macros::btf_map;
use failover_common::{Affinity, FlowKey, Remembered, RememberedKey, Selection, maps};

use crate::address::Address;
use crate::flow::now_ns;
use crate::maps::{FLOW_CAPACITY, zero};

#[btf_map(name = "remembered")]
static REMEMBERED: LruHashMap<
    RememberedKey,
    Remembered,
    { maps::remembered_capacity(FLOW_CAPACITY as u32) as usize },
> = LruHashMap::new();

/// A key by its words, which are written one by one.
#[repr(C, align(8))]
struct Key {
    inside: [u64; 2],
    outside: [u64; 2],
    /// From the low byte on: the pool, the family, what goes together, zero.
    which: u64,
}

const _: () = assert!(size_of::<Key>() == size_of::<RememberedKey>());

/// The uplink that a new flow of a pool goes by: the one that is remembered, or else the one that its
/// hash chose, which is remembered from now on. A function of its own, so that others do not pay for it.
#[inline(never)]
pub(crate) fn uplink(selection: &Selection, flow: &FlowKey, hashed: u8) -> u8 {
    let zero = zero();
    let words = |address: &[u8; 16]| Address::of(address).words();
    let key = Key {
        inside: words(&flow.inside),
        outside: match selection.affinity {
            Affinity::Source => [zero; 2],
            Affinity::Flow | Affinity::Pair => words(&flow.outside),
        },
        which: u64::from(selection.identity)
            | u64::from(flow.family as u8) << 32
            | u64::from(selection.affinity as u8) << 40,
    };
    let key = (&raw const key).cast::<RememberedKey>();
    // SAFETY: the key is as long as this one, has its fields in their places, and is initialised; family
    // and affinity are such.
    let key = unsafe { &*key };
    let now_ns = now_ns();
    if let Some(known) = REMEMBERED.get_ptr_mut(key) {
        // SAFETY: the hazard is an entry that is evicted and given to somebody else while it is held, or
        // written by two processors at once. The kernel keeps its memory for as long as the program runs,
        // each field is written on its own, and any uplink in it is looked at before it is believed.
        let known = unsafe { &mut *known };
        if !selection.goes_by(known, now_ns) {
            known.uplink = hashed;
        }
        known.seen_ns = now_ns;
        return known.uplink;
    }
    let new = Remembered {
        seen_ns: now_ns,
        uplink: hashed,
        reserved: [0; 7],
    };
    // Where there is no room, the hash chooses again.
    REMEMBERED.insert(key, &new, 0).ok();
    hashed
}
