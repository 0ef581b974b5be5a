//! Which of the user's rules a new flow matches.

use aya_ebpf::bindings::BPF_F_INNER_MAP;
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap};
use aya_ebpf::macros::btf_map;
use failover_common::lifetime::protocol::{DCCP, SCTP, TCP, UDP, UDPLITE};
use failover_common::rules::{
    Action, Block, GENERATIONS, Line, Lines, NO_RULE, RuleSet, WORDS, action_index,
};
use failover_common::{Family, FlowKey, maps};

use crate::address::Address;
use crate::maps::{bit, interface};
use crate::mark;
use crate::packet::Packet;

#[btf_map(name = "rule_set")]
static RULE_SET: HashMap<u32, RuleSet, 1> = HashMap::new();

/// As many as the rules need.
type Blocks = Array<Block, 1, { BPF_F_INNER_MAP as usize }>;

#[btf_map(name = "conditions")]
static CONDITIONS: ArrayOfMaps<Blocks, { GENERATIONS as usize }> = ArrayOfMaps::new();

#[btf_map(name = "rule_actions")]
static ACTIONS: Array<Action, { maps::ACTION_CAPACITY as usize }> = Array::new();

/// What [`find`] returns where no rule matches.
const NONE: u32 = u32::MAX;

/// The rule that a flow matches.
#[derive(Clone, Copy)]
pub(crate) struct Matched {
    pub(crate) action: Action,
    pub(crate) generation: u8,
}

/// The first rule that a packet matches, if there is any rule.
#[inline(always)]
pub(crate) fn first_match<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    key: &FlowKey,
    traffic_class: u8,
) -> Option<Matched> {
    // SAFETY: the daemon replaces it as a whole by a new one. If the memory of the old one is given
    // to its successor while we read, conditions of one generation may be compared with those of the
    // other, for one packet: its rule is one of either generation then.
    let set = unsafe { RULE_SET.get(0) }?;
    if set.words == 0 {
        return None;
    }
    let rule = find(packet, key, traffic_class, set);
    if rule == NONE {
        return None;
    }
    // SAFETY: the hazard is an action that is written while it is read. Each is four bytes, which
    // are written at once, and the daemon writes those of the generation that decides only when
    // somebody else changed them.
    let action = *ACTIONS.get(action_index(set.generation & 1, rule as u16))?;
    Some(Matched {
        action,
        generation: set.generation,
    })
}

/// The number of the block with the bitmap of a value; if something is not there, that of no rule.
/// `line` is its root and above that its last piece, `tree` its levels and above that the generation.
/// A global function, which the kernel's verifier looks at once and not wherever it is called: so it
/// takes numbers alone.
// SAFETY: no other function of the object has this name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fo_bitmap(line: u64, tree: u64, high: u64, low: u64) -> u32 {
    let Some(blocks) = CONDITIONS.get((tree >> 32) as u32) else {
        return NO_RULE;
    };
    let line = Line {
        root: line as u32,
        last: (line >> 32) as u32,
        levels: tree as u32,
    };
    line.find(|number| blocks.get(number), bit, [high, low])
        .unwrap_or(NO_RULE)
}

/// A value that begins with a number of so many bits.
#[inline(always)]
const fn first(number: u64, bits: u32) -> [u64; 2] {
    [number << (64 - bits), 0]
}

/// An address as numbers that compare as its bytes do.
#[inline(always)]
const fn numbers(address: &[u8; 16]) -> [u64; 2] {
    let [high, low] = Address::of(address).words();
    [u64::from_be(high), u64::from_be(low)]
}

/// The number of the first rule that a packet matches, or [`NONE`]. A function of its own, so that the
/// programs hold it once, and so that known flows do not pay for its registers.
#[inline(never)]
fn find<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    key: &FlowKey,
    traffic_class: u8,
    set: &RuleSet,
) -> u32 {
    match bits(packet, key, traffic_class, set) {
        Some(rule) => rule,
        None => NONE,
    }
}

#[inline(always)]
fn bits<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    key: &FlowKey,
    traffic_class: u8,
    set: &RuleSet,
) -> Option<u32> {
    let generation = u32::from(set.generation & 1);
    let blocks = CONDITIONS.get(generation)?;
    let all = blocks.get(set.all)?;
    // A kind of condition that no rule has changes nothing: the bitmap of all rules stands for it.
    let ask = |line: &Line, [high, low]: [u64; 2]| {
        if line.is_asked() {
            let tree = u64::from(line.levels) | u64::from(generation) << 32;
            let line = u64::from(line.root) | u64::from(line.last) << 32;
            blocks.get(fo_bitmap(line, tree, high, low))
        } else {
            Some(all)
        }
    };
    let Lines {
        source,
        destination,
        ..
    } = &set.lines;
    let (source, destination) = match key.family {
        Family::Ipv4 => (&source.ipv4, &destination.ipv4),
        Family::Ipv6 => (&source.ipv6, &destination.ipv6),
    };
    let source = ask(source, numbers(&key.inside))?;
    let destination = ask(destination, numbers(&key.outside))?;
    let lines = &set.lines;
    let to = u64::from(key.protocol) << 16 | u64::from(port(key, key.outside_port));
    let service = ask(&lines.service, first(to, 24))?;
    let from = port(key, key.inside_port);
    let source_port = ask(&lines.source_port, first(u64::from(from), 16))?;
    let mut downlink = all;
    if lines.downlink.is_asked() {
        let number = interface(packet.ifindex()).map_or(0, |interface| interface.downlink);
        downlink = ask(&lines.downlink, first(u64::from(number), 16))?;
    }
    let dscp = ask(&lines.dscp, first(u64::from(traffic_class >> 2), 8))?;
    let mut mac = all;
    if lines.mac.is_asked() {
        let number = match packet.hardware_addresses() {
            Some((_, [a, b, c, d, e, f])) => u64::from_be_bytes([0, a, b, c, d, e, f, 0]),
            None => first(1, 8)[0],
        };
        mac = ask(&lines.mac, [number, 0])?;
    }
    let [mut one, mut two, mut three, mut four] = [all; 4];
    let [first_line, second_line, third_line, fourth_line] = &lines.mark;
    if first_line.is_asked() {
        let marked = mark::others(packet);
        let under = |mask: u32| first(u64::from(marked & mask), 32);
        let [first_mask, second_mask, third_mask, fourth_mask] = set.mask;
        one = ask(first_line, under(first_mask))?;
        (two, three, four) = (one, one, one);
        if second_line.is_asked() {
            two = ask(second_line, under(second_mask))?;
        }
        if third_line.is_asked() {
            three = ask(third_line, under(third_mask))?;
        }
        if fourth_line.is_asked() {
            four = ask(fourth_line, under(fourth_mask))?;
        }
    }
    for word in 0..WORDS {
        if word >= usize::from(set.words) {
            break;
        }
        let of = |bitmap: &Block| bitmap.get(word).copied();
        let mut left = of(source)? & of(destination)? & of(service)? & of(downlink)?;
        if left == 0 {
            continue;
        }
        left &= of(source_port)? & of(dscp)? & of(mac)?;
        left &= of(one)? | of(two)? | of(three)? | of(four)?;
        if left != 0 {
            return Some(word as u32 * 64 + left.trailing_zeros());
        }
    }
    None
}

/// A port, or 0 for a protocol without ports: what is taken for one there is the identifier of an
/// echo.
#[inline(always)]
const fn port(key: &FlowKey, port: u16) -> u16 {
    match key.protocol {
        TCP | UDP | UDPLITE | SCTP | DCCP => port,
        _ => 0,
    }
}
