//! Which of the user's rules a new flow matches.

use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie};
use aya_ebpf::macros::btf_map;
use failover_common::lifetime::protocol::{DCCP, SCTP, TCP, UDP, UDPLITE};
use failover_common::rules::{Action, Bitmap, Condition, RuleSet, WORDS, action_index, kind};
use failover_common::{Family, maps};

use crate::headers::Tuple;
use crate::maps::{interface, zero};
use crate::mark;
use crate::packet::Packet;

#[btf_map(name = "rule_set")]
static RULE_SET: HashMap<u32, RuleSet, 1> = HashMap::new();

#[btf_map(name = "conditions")]
static CONDITIONS: LpmTrie<Condition, Bitmap, { maps::CONDITION_CAPACITY as usize }> =
    LpmTrie::new();

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
    tuple: &Tuple,
) -> Option<Matched> {
    // SAFETY: the daemon replaces it as a whole by a new one. If the memory of the old one is given
    // to its successor while we read, conditions of one generation may be compared with those of the
    // other, for one packet: its rule is one of either generation then.
    let set = unsafe { RULE_SET.get(0) }?;
    if set.words == 0 {
        return None;
    }
    let rule = find(packet, tuple, set);
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

/// A question to the trie, by words: a key begins with the number of its bits, and with that before
/// it a condition is aligned.
#[repr(C, align(8))]
struct Question {
    bits: u32,
    generation_kind_selector: u32,
    value: [u64; 2],
    padding: u64,
}

impl Question {
    #[inline(always)]
    fn new() -> Self {
        let zero = zero();
        Self {
            bits: size_of::<Condition>() as u32 * 8,
            generation_kind_selector: 0,
            value: [zero; 2],
            padding: zero,
        }
    }

    /// The rules whose condition of a kind holds for this value, or that have none.
    #[inline(always)]
    fn ask(
        &mut self,
        generation: u8,
        kind: u8,
        selector: u8,
        value: [u64; 2],
    ) -> Option<&'static Bitmap> {
        self.generation_kind_selector = u32::from_ne_bytes([generation, kind, selector, 0]);
        self.value = value;
        let key = (&raw const *self).cast::<Key<Condition>>();
        // SAFETY: the question is as long as a key or longer, has the fields of one in their places,
        // and is initialised.
        let key = unsafe { &*key };
        CONDITIONS.get(key)
    }
}

/// A big-endian number at the beginning of a value.
#[inline(always)]
const fn first_u16(number: u16) -> [u64; 2] {
    [number.to_be() as u64, 0]
}

/// The number of the first rule that a packet matches, or [`NONE`]. A function of its own, so that the
/// programs hold it once, and so that known flows do not pay for its registers.
#[inline(never)]
fn find<const HEADER: usize>(packet: &Packet<'_, HEADER>, tuple: &Tuple, set: &RuleSet) -> u32 {
    match bits(packet, tuple, set) {
        Some(rule) => rule,
        None => NONE,
    }
}

#[inline(always)]
fn bits<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    tuple: &Tuple,
    set: &RuleSet,
) -> Option<u32> {
    let generation = set.generation & 1;
    let mut question = Question::new();
    let family = match tuple.family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 6,
    };
    // A kind of condition that no rule has changes nothing: what is there already stands for it, so
    // that the verifier meets the same kind of pointer on each way and follows one of them.
    let source = if set.has(kind::SOURCE) {
        question.ask(generation, kind::SOURCE, family, tuple.source.words())?
    } else {
        question.ask(generation, kind::ANY, 0, [0; 2])?
    };
    let all = source;
    let mut destination = all;
    if set.has(kind::DESTINATION) {
        let value = tuple.destination.words();
        destination = question.ask(generation, kind::DESTINATION, family, value)?;
    }
    let mut service = all;
    if set.has(kind::SERVICE) {
        let value = first_u16(port(tuple, tuple.destination_port));
        service = question.ask(generation, kind::SERVICE, tuple.protocol, value)?;
    }
    let mut source_port = all;
    if set.has(kind::SOURCE_PORT) {
        let value = first_u16(port(tuple, tuple.source_port));
        source_port = question.ask(generation, kind::SOURCE_PORT, 0, value)?;
    }
    let mut downlink = all;
    if set.has(kind::DOWNLINK) {
        let number = interface(packet.ifindex()).map_or(0, |interface| interface.downlink);
        downlink = question.ask(generation, kind::DOWNLINK, 0, first_u16(number))?;
    }
    let mut dscp = all;
    if set.has(kind::DSCP) {
        let value = [u64::from(tuple.traffic_class >> 2), 0];
        dscp = question.ask(generation, kind::DSCP, 0, value)?;
    }
    let mut mac = all;
    if set.has(kind::MAC) {
        // Where there is none, what no address has.
        let (selector, [a, b, c, d, e, f]) = match packet.hardware_addresses() {
            Some((_, source)) => (0, source),
            None => (1, [0; 6]),
        };
        let value = [u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]), 0];
        mac = question.ask(generation, kind::MAC, selector, value)?;
    }
    let [mut one, mut two, mut three, mut four] = [all; 4];
    if set.has(kind::MARK) {
        let marked = mark::others(packet);
        let [first, second, third, fourth] = set.mask;
        let mut ask = |position: u8, mask: u32| {
            let value = [u64::from((marked & mask).to_be()), 0];
            question.ask(generation, kind::MARK, position, value)
        };
        one = ask(0, first)?;
        (two, three, four) = (one, one, one);
        if set.masks > 1 {
            two = ask(1, second)?;
        }
        if set.masks > 2 {
            three = ask(2, third)?;
        }
        if set.masks > 3 {
            four = ask(3, fourth)?;
        }
    }
    for word in 0..WORDS {
        if word >= usize::from(set.words) {
            break;
        }
        let of = |bitmap: &Bitmap| bitmap.0.get(word).copied();
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
const fn port(tuple: &Tuple, port: u16) -> u16 {
    match tuple.protocol {
        TCP | UDP | UDPLITE | SCTP | DCCP => port,
        _ => 0,
    }
}
