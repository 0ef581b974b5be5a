//! Which uplink a new flow gets.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
    bpf_fib_lookup as FibLookup,
};
use aya_ebpf::helpers::generated::bpf_fib_lookup;
use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::rules::Otherwise;
use failover_common::selection::slot;
use failover_common::{Family, FlowKey, Reason, Role, Selection, SelectionKey};

use crate::address::Address;
use crate::maps::{SELECTION, interface, total, uplink, zero};
use crate::packet::Packet;
use crate::{mark, remembered, rules};

/// The address families of sockets (include/linux/socket.h).
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;

/// What a new flow gets.
#[derive(Clone, Copy)]
pub(crate) struct Picked {
    pub(crate) uplink: u8,
    pub(crate) generation: u32,
    pub(crate) translates: bool,
    pub(crate) reason: Reason,
}

/// Picks the uplink of a new flow. `None`: the kernel sends it elsewhere, no uplink is there to be
/// picked, or a rule lets none carry it, which its mark says then.
#[inline(always)]
pub(crate) fn pick<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    key: &FlowKey,
    traffic_class: u8,
) -> Option<Picked> {
    if !leaves_by_an_uplink(packet, key, traffic_class) {
        total(|totals| &mut totals.elsewhere);
        return None;
    }
    let picked = match wanted(packet, key, traffic_class) {
        Wanted::Rule(selection) => select(key, selection, Reason::Rule),
        Wanted::Common => selection(SelectionKey::common(key.family))
            .and_then(|selection| select(key, selection, Reason::Hash)),
        Wanted::Nothing => {
            total(|totals| &mut totals.denied);
            mark::deny(packet);
            return None;
        }
    };
    if picked.is_none() {
        total(|totals| &mut totals.unpicked);
    }
    picked
}

/// Which uplinks a new flow may use.
enum Wanted {
    /// Those of a rule.
    Rule(&'static Selection),
    /// Those of all flows.
    Common,
    /// None: its rule has no usable one, and nothing else will do.
    Nothing,
}

#[inline(always)]
fn wanted<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    key: &FlowKey,
    traffic_class: u8,
) -> Wanted {
    let Some(rule) = rules::first_match(packet, key, traffic_class) else {
        return Wanted::Common;
    };
    let own = SelectionKey {
        pool: rule.action.pool,
        family: key.family,
        generation: rule.generation,
    };
    match (selection(own), rule.action.otherwise) {
        (Some(selection), _) => Wanted::Rule(selection),
        (None, Otherwise::Any) => Wanted::Common,
        (None, Otherwise::Drop) => Wanted::Nothing,
    }
}

#[inline(always)]
fn selection(key: SelectionKey) -> Option<&'static Selection> {
    // SAFETY: the daemon replaces a selection as a whole by a new one. If the memory of an old one
    // is given to its successor while we read, the slot is of either, and both are uplinks.
    unsafe { SELECTION.get(key) }
}

#[inline(always)]
fn select(key: &FlowKey, selection: &Selection, reason: Reason) -> Option<Picked> {
    let mut id = *selection.slots.get(slot(key, selection.affinity))?;
    if selection.memory_ns != 0 {
        id = remembered::uplink(selection, key, id);
    }
    let family = uplink(id, key.family)?;
    Some(Picked {
        uplink: id,
        generation: family.generation,
        translates: family.translates,
        reason,
    })
}

/// `struct bpf_fib_lookup` (include/uapi/linux/bpf.h) by its words, which are written one by one.
#[repr(C, align(8))]
struct Question {
    /// From the low byte on: the family, the protocol, the ports in network order, and no length.
    what: u64,
    /// Where the packet came in; after the call, where it goes.
    ifindex: u32,
    /// The traffic class: for IPv4 the first byte, for IPv6 as in the header.
    class: u32,
    source: Address,
    destination: Address,
    /// Table, and hardware addresses of the answer.
    rest: [u64; 2],
}

const LENGTH: usize = size_of::<Question>();
const _: () = assert!(LENGTH == size_of::<FibLookup>());

/// Whether the kernel's own answer for the packet, by all rules and tables, is an uplink. What a
/// VPN's or the user's rules send elsewhere is left alone, and so is what is for this host or
/// another downlink. A function of its own for its room on the stack; what it is given is in memory
/// anyway.
#[inline(never)]
fn leaves_by_an_uplink<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    key: &FlowKey,
    traffic_class: u8,
) -> bool {
    // Rules by port know these protocols' ports, and no others'.
    let (sport, dport) = match key.protocol {
        TCP | UDP => (key.inside_port.to_be(), key.outside_port.to_be()),
        _ => (0, 0),
    };
    let (family, class) = match key.family {
        Family::Ipv4 => (AF_INET, u32::from(traffic_class)),
        Family::Ipv6 => (AF_INET6, (u32::from(traffic_class) << 20).to_be()),
    };
    let destination = Address::of(&key.outside);
    let zero = zero();
    let mut question = Question {
        what: u64::from(family)
            | u64::from(key.protocol) << 8
            | u64::from(sport) << 16
            | u64::from(dport) << 32,
        ifindex: packet.ifindex(),
        class,
        source: Address::of(&key.inside),
        destination,
        rest: [zero; 2],
    };
    let pointer = (&raw mut question).cast::<FibLookup>();
    // SAFETY: context and structure are valid for the call, and the length is the structure's.
    let answer = unsafe { bpf_fib_lookup(packet.context().as_ptr(), pointer, LENGTH as i32, 0) };
    // Without a neighbour, or too long for the output: the route was found all the same.
    let found = [
        BPF_FIB_LKUP_RET_SUCCESS,
        BPF_FIB_LKUP_RET_NO_NEIGH,
        BPF_FIB_LKUP_RET_FRAG_NEEDED,
    ]
    .into_iter()
    .any(|routed| answer == i64::from(routed));
    found
        && interface(question.ifindex).is_some_and(|out| match out.role {
            Role::Uplink | Role::SharedUplink => true,
            // Behind one arm are users, too: only what goes to a router leaves by an uplink.
            Role::OneArm => question.destination.words() != destination.words(),
            Role::Downlink => false,
        })
}
