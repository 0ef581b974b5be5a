//! The user's rules as the programs look them up: for each kind of condition, which rules hold for a
//! value.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use failover_common::lifetime::protocol::{DCCP, SCTP, TCP, UDP, UDPLITE};
use failover_common::rules::{
    Block, Line, Lines, MOST_MASKS, MOST_RULES, NODE, NUMBERS, RuleSet, WORDS,
};

use crate::family::Family;
use crate::flows::Protocol;
use crate::policy::{AddressSet, Matching, Policy, PortRange};
use crate::wanted::dataplane::DownlinkNumbers;

/// The protocols that have ports.
const WITH_PORTS: [u8; 5] = [TCP, UDP, UDPLITE, SCTP, DCCP];

/// A bit for each rule.
type Bitmap = Block;
/// Values of a kind from the first to the last one, and the rules that have them.
type Range = (u128, u128, Bitmap);

/// What the programs look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// The array.
    pub blocks: Vec<Block>,
    lines: Lines,
    /// The block that is the bitmap of all rules.
    all: u32,
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
        let masks: Vec<u32> = masks.into_iter().take(MOST_MASKS).collect();
        let mut table = Table {
            blocks: Vec::new(),
            bitmaps: HashMap::new(),
            rules: &rules,
        };
        // The first block, `NO_RULE`.
        table.bitmap([0; WORDS]);
        let all = table.bitmap(bitmap(0..rules.len()));
        let lines = table.lines(downlinks, &masks);
        let Table { blocks, .. } = table;
        let mut hasher = DefaultHasher::new();
        (&masks, rules.len()).hash(&mut hasher);
        bytemuck::cast_slice::<Block, u8>(&blocks).hash(&mut hasher);
        bytemuck::bytes_of(&lines).hash(&mut hasher);
        let rules = rules.len();
        Self {
            blocks,
            lines,
            all,
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
            generation,
            words: u8::try_from(self.rules.div_ceil(64)).unwrap_or(u8::MAX),
            reserved: [0; 2],
            all: self.all,
            mask,
            lines: self.lines,
            padding: 0,
        }
    }
}

/// The blocks while they are being made.
struct Table<'r> {
    blocks: Vec<Block>,
    /// The bitmaps among them, and where they are.
    bitmaps: HashMap<Bitmap, u32>,
    rules: &'r [&'r Matching],
}

impl Table<'_> {
    fn lines(&mut self, downlinks: &DownlinkNumbers, masks: &[u32]) -> Lines {
        let mut lines = Lines::default();
        for family in Family::ALL {
            let source = self.addresses(family, |rule| rule.source.as_deref());
            let destination = self.addresses(family, |rule| rule.destination.as_deref());
            let (to_source, to_destination) = match family {
                Family::Ipv4 => (&mut lines.source.ipv4, &mut lines.destination.ipv4),
                Family::Ipv6 => (&mut lines.source.ipv6, &mut lines.destination.ipv6),
            };
            (*to_source, *to_destination) = (source, destination);
        }
        lines.service = self.services();
        lines.source_port = self.values(|rule| {
            let ports = rule.source_ports.as_ref()?;
            let ranges = ports.ranges();
            Some(ranges.map(|range| span(range.first, range.last)).collect())
        });
        lines.downlink = self.values(|rule| {
            let names = rule.interfaces.as_ref()?;
            let numbers = names.iter().filter_map(|name| downlinks.get(name));
            Some(numbers.map(|number| span(*number, *number)).collect())
        });
        lines.dscp = self.values(|rule| {
            let points = rule.dscp.as_ref()?.iter();
            Some(points.map(|dscp| starting([dscp.get()])).collect())
        });
        lines.mac = self.values(|rule| {
            let addresses = rule.macs.as_ref()?.iter();
            // Behind a zero: packets without an address have a one there.
            let value = |[a, b, c, d, e, f]: [u8; 6]| starting([0, a, b, c, d, e, f]);
            Some(addresses.map(|mac| value(mac.0)).collect())
        });
        for (line, mask) in lines.mark.iter_mut().zip(masks) {
            *line = self.values(|rule| {
                let marks = rule.marks.as_ref()?.iter();
                let under = marks.filter(|mark| mark.mask == *mask);
                Some(
                    under
                        .map(|mark| starting(mark.value.to_be_bytes()))
                        .collect(),
                )
            });
        }
        lines
    }

    /// A kind of conditions: the values that each rule has of it, if it has such a condition.
    fn values(&mut self, of: impl Fn(&Matching) -> Option<Vec<(u128, u128)>>) -> Line {
        let values: Vec<_> = self.rules.iter().map(|rule| of(rule)).collect();
        let having = (0..)
            .zip(&values)
            .filter_map(|(at, values)| Some((at, values.as_ref()?)));
        let ranges = having.flat_map(|(position, values)| {
            let only = bitmap([position]);
            values
                .iter()
                .map(move |(first, last)| (*first, *last, only))
        });
        let ranges = ranges.collect::<Vec<Range>>().into_iter();
        self.line(ranges, |rule| of(rule).is_some())
    }

    /// Conditions on addresses of a family.
    fn addresses(&mut self, family: Family, of: impl Fn(&Matching) -> Option<&AddressSet>) -> Line {
        // Rules that have the same set, which may be large, come and go together.
        let mut sharing: BTreeMap<&AddressSet, Bitmap> = BTreeMap::new();
        let rules = self.rules;
        for (position, rule) in rules.iter().enumerate() {
            if let Some(addresses) = of(rule) {
                set(sharing.entry(addresses).or_insert([0; WORDS]), position);
            }
        }
        let rest = match family {
            Family::Ipv4 => u128::BITS - u32::BITS,
            Family::Ipv6 => 0,
        };
        let ranges = sharing.iter().flat_map(|(addresses, sharers)| {
            let ranges = addresses.numbers(family);
            ranges.map(move |(first, last)| {
                (
                    first << rest,
                    (last << rest) | !(u128::MAX << rest),
                    *sharers,
                )
            })
        });
        self.line(ranges, |rule| of(rule).is_some())
    }

    /// Conditions on the protocol and the port that a packet goes to.
    fn services(&mut self) -> Line {
        self.values(|rule| {
            if rule.protocols.is_none() && rule.ports.is_none() {
                return None;
            }
            let protocols: Vec<Protocol> = match &rule.protocols {
                Some(protocols) => protocols.iter().copied().collect(),
                None => WITH_PORTS.map(Protocol).to_vec(),
            };
            let values = protocols.into_iter().flat_map(|protocol| {
                let ranges: Vec<PortRange> = match &rule.ports {
                    None => vec![PortRange::ALL],
                    Some(ports) if protocol.has_ports() => ports.ranges().collect(),
                    Some(_) => Vec::new(),
                };
                let Protocol(number) = protocol;
                let value = move |port: u16| {
                    let [high, low] = port.to_be_bytes();
                    starting([number, high, low])
                };
                ranges
                    .into_iter()
                    .map(move |range| (value(range.first).0, value(range.last).1))
            });
            Some(values.collect())
        })
    }

    /// Cuts a kind's values where the rules that hold change; nothing where no rule has such a
    /// condition.
    fn line(
        &mut self,
        ranges: impl Iterator<Item = Range>,
        has: impl Fn(&Matching) -> bool,
    ) -> Line {
        if !self.rules.iter().any(|rule| has(rule)) {
            return Line::default();
        }
        let positions = (0..self.rules.len()).zip(self.rules);
        let without = bitmap(positions.filter(|(_, rule)| !has(rule)).map(|(at, _)| at));
        let (firsts, numbers): (Vec<u128>, Vec<u32>) = pieces(ranges, without)
            .into_iter()
            .map(|(first, holds)| (first, self.bitmap(holds)))
            .unzip();
        let line = Line::new(
            self.count(),
            u32::try_from(firsts.len()).unwrap_or(u32::MAX),
        );
        let step = |level: u32| NODE.pow(level);
        for level in (0..line.levels).rev() {
            let values: Vec<u128> = firsts.iter().copied().step_by(step(level)).collect();
            self.blocks.extend(values.chunks(NODE).map(node));
        }
        self.blocks
            .extend(numbers.chunks(NUMBERS).map(numbers_block));
        line
    }

    /// The number of the block with this bitmap.
    fn bitmap(&mut self, holds: Bitmap) -> u32 {
        let next = self.count();
        let number = *self.bitmaps.entry(holds).or_insert(next);
        if number == next {
            self.blocks.push(holds);
        }
        number
    }

    fn count(&self) -> u32 {
        u32::try_from(self.blocks.len()).unwrap_or(u32::MAX)
    }
}

/// A node of the tree. Behind its last value is the largest that there is.
fn node(values: &[u128]) -> Block {
    let mut words = [u64::MAX; WORDS];
    for (place, value) in words.as_chunks_mut::<2>().0.iter_mut().zip(values) {
        *place = bytemuck::cast(value.to_be_bytes());
    }
    words
}

/// The numbers of the bitmaps of pieces.
fn numbers_block(numbers: &[u32]) -> Block {
    let mut all = numbers.iter().copied();
    let mut word = || u64::from(all.next().unwrap_or_default());
    std::array::from_fn(|_| word() | word() << 32)
}

/// All values that begin with these bytes.
fn starting<const LENGTH: usize>(bytes: [u8; LENGTH]) -> (u128, u128) {
    let mut whole = [0; 16];
    let mut rest = [0xff; 16];
    for ((place, rest), byte) in whole.iter_mut().zip(&mut rest).zip(bytes) {
        (*place, *rest) = (byte, 0);
    }
    let first = u128::from_be_bytes(whole);
    (first, first | u128::from_be_bytes(rest))
}

/// All values that begin with one of these numbers.
fn span(first: u16, last: u16) -> (u128, u128) {
    (
        starting(first.to_be_bytes()).0,
        starting(last.to_be_bytes()).1,
    )
}

/// All values, cut where the ranges that they lie in change: the first value of each piece, and what
/// its ranges hold together with what all hold. What a rule holds comes and goes by its own ranges,
/// which do not meet: taking it off again leaves what others hold.
fn pieces(ranges: impl Iterator<Item = Range>, without: Bitmap) -> Vec<(u128, Bitmap)> {
    let none = [0; WORDS];
    let mut changes: BTreeMap<u128, Bitmap> = BTreeMap::from([(0, none)]);
    for (first, last, holds) in ranges {
        toggle(changes.entry(first).or_insert(none), holds);
        if let Some(next) = last.checked_add(1) {
            toggle(changes.entry(next).or_insert(none), holds);
        }
    }
    let mut pieces: Vec<(u128, Bitmap)> = Vec::with_capacity(changes.len());
    let mut now = without;
    for (first, change) in changes {
        toggle(&mut now, change);
        if pieces.last().is_none_or(|(_, before)| *before != now) {
            pieces.push((first, now));
        }
    }
    pieces
}

fn bitmap(positions: impl IntoIterator<Item = usize>) -> Bitmap {
    let mut made = [0; WORDS];
    for position in positions {
        set(&mut made, position);
    }
    made
}

fn set(bitmap: &mut Bitmap, position: usize) {
    if let Some(word) = bitmap.get_mut(position / 64) {
        *word |= 1 << (position % 64);
    }
}

fn toggle(bitmap: &mut Bitmap, change: Bitmap) {
    for (word, change) in bitmap.iter_mut().zip(change) {
        *word ^= change;
    }
}

#[cfg(test)]
mod tests;
