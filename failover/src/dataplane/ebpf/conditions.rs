//! The user's rules as the programs look them up: for each kind of condition, which rules hold for a
//! value.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use failover_common::lifetime::protocol::{DCCP, SCTP, TCP, UDP, UDPLITE};
use failover_common::rules::{
    Bitmap, Condition, KIND_BITS, MOST_MASKS, MOST_RULES, RuleSet, VALUE_AT, WORDS, kind,
};

use crate::family::Family;
use crate::flows::Protocol;
use crate::policy::{AddressSet, Matching, Policy, PortRange, PortSet, prefixes_of};
use crate::wanted::dataplane::DownlinkNumbers;

/// The protocols that have ports.
const WITH_PORTS: [u8; 5] = [TCP, UDP, UDPLITE, SCTP, DCCP];

/// What the programs look up, without its generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// The rules that hold, by what is looked up and how many of its bits count.
    pub entries: BTreeMap<(u32, Condition), Bitmap>,
    /// The kinds that any rule has.
    kinds: u16,
    masks: Vec<u32>,
    rules: usize,
    fingerprint: u64,
    /// The numbers of the downlinks in them.
    pub downlinks: DownlinkNumbers,
}

impl Conditions {
    /// Those of a policy. Rules beyond what the programs have bits for, and masks beyond those that
    /// they look at, are left out; the configuration allows neither.
    #[must_use]
    pub fn new(policy: &Policy, downlinks: &DownlinkNumbers) -> Self {
        let rules: Vec<&Matching> = policy
            .rules
            .iter()
            .take(usize::from(MOST_RULES))
            .map(|rule| &rule.matching)
            .collect();
        let masks: BTreeSet<u32> = rules
            .iter()
            .flat_map(|rule| rule.marks.iter().flatten().map(|mark| mark.mask))
            .collect();
        let mut table = Table {
            entries: BTreeMap::new(),
            kinds: 0,
            rules: &rules,
        };
        table.entries.insert(
            (KIND_BITS, condition(kind::ANY, 0, &[])),
            bitmap(0..rules.len()),
        );
        let masks: Vec<u32> = masks.into_iter().take(MOST_MASKS).collect();
        if !rules.is_empty() {
            table.addresses(kind::SOURCE, |rule| rule.source.as_deref());
            table.addresses(kind::DESTINATION, |rule| rule.destination.as_deref());
            table.services();
            table.source_ports();
            table.values(kind::DOWNLINK, |rule| {
                let names = rule.interfaces.as_ref()?;
                let numbers = names.iter().filter_map(|name| downlinks.get(name));
                Some(
                    numbers
                        .map(|number| (0, number.to_be_bytes().to_vec()))
                        .collect(),
                )
            });
            table.values(kind::DSCP, |rule| {
                let points = rule.dscp.as_ref()?;
                Some(points.iter().map(|dscp| (0, vec![dscp.get()])).collect())
            });
            table.values(kind::MAC, |rule| {
                let addresses = rule.macs.as_ref()?;
                Some(addresses.iter().map(|mac| (0, mac.0.to_vec())).collect())
            });
            table.values(kind::MARK, |rule| {
                let marks = rule.marks.as_ref()?.iter();
                let value = |position: usize, value: u32| {
                    (
                        u8::try_from(position).unwrap_or(0),
                        value.to_be_bytes().to_vec(),
                    )
                };
                let looked_at = marks.filter_map(|mark| {
                    let position = masks.iter().position(|mask| *mask == mark.mask)?;
                    Some(value(position, mark.value))
                });
                Some(looked_at.collect())
            });
        }
        let Table { entries, kinds, .. } = table;
        let mut hasher = DefaultHasher::new();
        (kinds, &masks, rules.len()).hash(&mut hasher);
        for ((bits, condition), Bitmap(words)) in &entries {
            (bits, bytemuck::bytes_of(condition), words).hash(&mut hasher);
        }
        let rules = rules.len();
        Self {
            entries,
            kinds,
            masks,
            rules,
            fingerprint: hasher.finish(),
            downlinks: downlinks.clone(),
        }
    }

    /// The rule set that leads to them, once they are there under a generation.
    #[must_use]
    pub fn rule_set(&self, generation: u8) -> RuleSet {
        let mut mask = [0; MOST_MASKS];
        for (place, given) in mask.iter_mut().zip(&self.masks) {
            *place = *given;
        }
        RuleSet {
            fingerprint: self.fingerprint,
            kinds: self.kinds,
            generation,
            words: u8::try_from(self.rules.div_ceil(64)).unwrap_or(u8::MAX),
            masks: u8::try_from(self.masks.len()).unwrap_or(u8::MAX),
            reserved: [0; 3],
            mask,
        }
    }
}

/// The entries while they are being made.
struct Table<'r> {
    entries: BTreeMap<(u32, Condition), Bitmap>,
    kinds: u16,
    rules: &'r [&'r Matching],
}

impl Table<'_> {
    /// The rules that have no condition of a kind, if any has one; they hold whatever the value is.
    fn begin(&mut self, kind: u8, has: impl Fn(&Matching) -> bool) -> Option<Bitmap> {
        if !self.rules.iter().any(|rule| has(rule)) {
            return None;
        }
        let positions = (0..self.rules.len()).zip(self.rules);
        let without = bitmap(positions.filter(|(_, rule)| !has(rule)).map(|(at, _)| at));
        self.kinds |= 1 << kind;
        self.entries
            .insert((KIND_BITS, condition(kind, 0, &[])), without);
        Some(without)
    }

    fn insert(&mut self, bits: u32, condition: Condition, holds: Bitmap) {
        self.entries.insert((bits, condition), holds);
    }

    /// Conditions on single values, each with its selector: the rules whose values have this one.
    fn values(&mut self, kind: u8, of: impl Fn(&Matching) -> Option<BTreeSet<(u8, Vec<u8>)>>) {
        let Some(without) = self.begin(kind, |rule| of(rule).is_some()) else {
            return;
        };
        let mut holding: BTreeMap<(u8, Vec<u8>), Bitmap> = BTreeMap::new();
        for (position, rule) in self.rules.iter().enumerate() {
            for value in of(rule).into_iter().flatten() {
                set(holding.entry(value).or_insert(without), position);
            }
        }
        for ((selector, value), holds) in holding {
            let bits = VALUE_AT + 8 * u32::try_from(value.len()).unwrap_or(0);
            self.insert(bits, condition(kind, selector, &value), holds);
        }
    }

    /// Conditions on addresses: where the rules that hold change, from the first address to the last.
    fn addresses(&mut self, kind: u8, of: impl Fn(&Matching) -> Option<&AddressSet>) {
        let Some(without) = self.begin(kind, |rule| of(rule).is_some()) else {
            return;
        };
        // Rules that have the same set, which may be large, come and go together.
        let mut sharing: BTreeMap<&AddressSet, Bitmap> = BTreeMap::new();
        let rules = self.rules;
        for (position, rule) in rules.iter().enumerate() {
            if let Some(addresses) = of(rule) {
                let sharers = sharing.entry(addresses).or_insert(Bitmap([0; WORDS]));
                set(sharers, position);
            }
        }
        for family in Family::ALL {
            let selector = match family {
                Family::Ipv4 => 4,
                Family::Ipv6 => 6,
            };
            let ranges = sharing.iter().flat_map(|(addresses, sharers)| {
                let ranges = addresses.numbers(family);
                ranges.map(move |(first, last)| (first, last, *sharers))
            });
            let last = match family {
                Family::Ipv4 => u128::from(u32::MAX),
                Family::Ipv6 => u128::MAX,
            };
            for (first, last, holds) in intervals(ranges, last) {
                for prefix in prefixes_of(family, first, last) {
                    let bytes = match prefix.network() {
                        IpAddr::V4(address) => address.octets().to_vec(),
                        IpAddr::V6(address) => address.octets().to_vec(),
                    };
                    let bits = VALUE_AT + u32::from(prefix.prefix_len());
                    let holds = either(holds, without);
                    self.insert(bits, condition(kind, selector, &bytes), holds);
                }
            }
        }
    }

    /// Conditions on the protocol and the port that a packet goes to.
    fn services(&mut self) {
        let has = |rule: &Matching| rule.protocols.is_some() || rule.ports.is_some();
        let Some(without) = self.begin(kind::SERVICE, has) else {
            return;
        };
        let all = (0..=u8::MAX).filter(|number| {
            let mut rules = self.rules.iter();
            rules.any(|rule| match &rule.protocols {
                Some(protocols) => protocols.contains(&Protocol(*number)),
                None => rule.ports.is_some() && WITH_PORTS.contains(number),
            })
        });
        for number in all.collect::<Vec<u8>>() {
            let protocol = Protocol(number);
            let rules = self.rules;
            let speaking = rules.iter().enumerate().filter(|(_, rule)| {
                let protocols = rule.protocols.as_ref();
                has(rule) && protocols.is_none_or(|protocols| protocols.contains(&protocol))
            });
            // Without ports a packet is looked up under port 0.
            let ranges = speaking.flat_map(|(position, rule)| {
                let ranges: Vec<PortRange> = match &rule.ports {
                    None => vec![PortRange::ALL],
                    Some(ports) if protocol.has_ports() => ports.ranges().collect(),
                    Some(_) => Vec::new(),
                };
                ranges.into_iter().map(move |range| (range, position))
            });
            self.ports(kind::SERVICE, number, ranges.collect(), without);
        }
    }

    /// Conditions on the port that a packet comes from.
    fn source_ports(&mut self) {
        let has = |rule: &Matching| rule.source_ports.is_some();
        let Some(without) = self.begin(kind::SOURCE_PORT, has) else {
            return;
        };
        let ranges = self.rules.iter().enumerate().flat_map(|(position, rule)| {
            let ranges = rule.source_ports.iter().flat_map(PortSet::ranges);
            ranges.map(move |range| (range, position))
        });
        self.ports(kind::SOURCE_PORT, 0, ranges.collect(), without);
    }

    fn ports(&mut self, kind: u8, selector: u8, ranges: Vec<(PortRange, usize)>, without: Bitmap) {
        let ranges = ranges.into_iter().map(|(range, position)| {
            let only = bitmap([position]);
            (u128::from(range.first), u128::from(range.last), only)
        });
        for (first, last, holds) in intervals(ranges, u128::from(u16::MAX)) {
            let port = |number: u128| u16::try_from(number).unwrap_or(u16::MAX);
            let range = PortRange {
                first: port(first),
                last: port(last),
            };
            for (port, bits) in range.blocks() {
                let condition = condition(kind, selector, &port.to_be_bytes());
                self.insert(VALUE_AT + bits, condition, either(holds, without));
            }
        }
    }
}

/// The pieces of a line from 0 to `last` in which the same ranges lie, each with what these hold
/// together; pieces without any are left out. What a rule holds comes and goes by its own ranges,
/// which do not meet: taking it off again leaves what others hold.
fn intervals(
    ranges: impl Iterator<Item = (u128, u128, Bitmap)>,
    last: u128,
) -> Vec<(u128, u128, Bitmap)> {
    let mut changes: BTreeMap<u128, Bitmap> = BTreeMap::new();
    let none = Bitmap([0; WORDS]);
    for (from, to, holds) in ranges {
        toggle(changes.entry(from).or_insert(none), holds);
        if to < last {
            toggle(changes.entry(to + 1).or_insert(none), holds);
        }
    }
    let mut pieces: Vec<(u128, u128, Bitmap)> = Vec::with_capacity(changes.len());
    let mut now = none;
    let ends = changes.keys().skip(1).map(|next| next - 1).chain([last]);
    for ((from, change), to) in changes.iter().zip(ends) {
        toggle(&mut now, *change);
        match pieces.last_mut() {
            Some((_, end, before)) if *before == now && *end + 1 == *from => *end = to,
            _ if now != none => pieces.push((*from, to, now)),
            _ => {}
        }
    }
    pieces
}

fn condition(kind: u8, selector: u8, value: &[u8]) -> Condition {
    let mut whole = [0; 16];
    for (place, byte) in whole.iter_mut().zip(value) {
        *place = *byte;
    }
    Condition {
        generation: 0,
        kind,
        selector,
        reserved: 0,
        value: whole,
        padding: [0; 4],
    }
}

fn bitmap(positions: impl IntoIterator<Item = usize>) -> Bitmap {
    let mut made = Bitmap([0; WORDS]);
    for position in positions {
        set(&mut made, position);
    }
    made
}

fn set(bitmap: &mut Bitmap, position: usize) {
    if let Some(word) = bitmap.0.get_mut(position / 64) {
        *word |= 1 << (position % 64);
    }
}

fn toggle(bitmap: &mut Bitmap, change: Bitmap) {
    for (word, change) in bitmap.0.iter_mut().zip(change.0) {
        *word ^= change;
    }
}

fn either(one: Bitmap, other: Bitmap) -> Bitmap {
    let mut both = one;
    for (word, other) in both.0.iter_mut().zip(other.0) {
        *word |= other;
    }
    both
}

#[cfg(test)]
mod tests;
