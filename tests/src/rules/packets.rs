//! Random first packets of flows, most of them at the edges of what rules are for.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use failover::family::Family;
use failover::flows::Protocol;
use failover::interface::InterfaceName;
use failover::network::MacAddress;
use failover::policy::{AddressSet, Dscp, Facts, MarkMatch, Matching, PortSet, Rule};

use super::conditions::{MACS, PROTOCOLS, mac};
use super::space::{Side, address};
use crate::chance::Chance;

/// Ranges that are remembered of one condition, among them the first and the last.
const REMEMBERED: usize = 64;
/// How often a packet is drawn until it is of a flow that there was none of.
const ATTEMPTS: usize = 100;
/// Bits of others' marks that no mask of a condition need have.
const NOISE: u32 = 0x0020_0080;

/// Packets without end, each the first of a new flow.
///
/// What differs only in ports is a new flow where the protocol is TCP or UDP. Of all others no two
/// go to the same address: a gateway could not tell them apart behind its translation.
#[derive(Debug)]
pub struct Packets<'r> {
    rules: &'r [Rule],
    edges: Vec<Edges>,
    downlinks: Vec<InterfaceName>,
    marks: Vec<u32>,
    known: HashSet<Flow>,
    chance: Chance,
}

type Flow = (Option<IpAddr>, IpAddr, Protocol, u16, u16);

/// Some ranges of a rule's addresses as numbers.
#[derive(Clone, Debug, Default)]
struct Edges {
    source: [Vec<(u128, u128)>; 2],
    destination: [Vec<(u128, u128)>; 2],
}

impl<'r> Packets<'r> {
    /// Packets for these rules, which come by these downlinks.
    #[must_use]
    pub fn new(rules: &'r [Rule], downlinks: &[String], seed: u64) -> Self {
        let edges = rules.iter().map(|rule| Edges {
            source: remembered(rule.matching.source.as_deref()),
            destination: remembered(rule.matching.destination.as_deref()),
        });
        let of_rules = rules.iter().filter_map(|rule| rule.matching.marks.as_ref());
        let distinct: BTreeSet<MarkMatch> = of_rules.flatten().copied().collect();
        let held = distinct
            .iter()
            .flat_map(|mark| [mark.value, mark.value | NOISE & !mark.mask & 0x00ff_ffff]);
        let marks: BTreeSet<u32> = held.chain([0]).collect();
        Self {
            rules,
            edges: edges.collect(),
            downlinks: downlinks.iter().filter_map(|n| n.parse().ok()).collect(),
            marks: marks.into_iter().collect(),
            known: HashSet::new(),
            chance: Chance::from_seed(seed),
        }
    }

    /// All marks that packets have, ascending.
    #[must_use]
    pub fn marks(&self) -> &[u32] {
        &self.marks
    }

    fn draw(&mut self) -> Option<Facts> {
        let target = self.any_rule();
        let family = self.family_of(target);
        let (source, destination) = (
            self.address(target, family, Side::Users),
            self.address(target, family, Side::Destinations),
        );
        let protocol = self.protocol(target, family);
        let (source_port, port) = if protocol.has_ports() {
            (
                self.port(target, |matching| &matching.source_ports),
                self.port(target, |matching| &matching.ports),
            )
        } else {
            (0, 0)
        };
        Some(Facts {
            interface: Some(self.interface(target)?),
            source,
            destination,
            protocol,
            source_port,
            port,
            dscp: self.dscp(target)?,
            mark: self.mark(target),
            mac: Some(self.mac(target)?),
        })
    }

    fn any_rule(&mut self) -> usize {
        let count = u64::try_from(self.rules.len()).unwrap_or(u64::MAX);
        usize::try_from(self.chance.below(count)).unwrap_or_default()
    }

    /// The rule whose condition a value is to be drawn from: the packet's own, if it has that
    /// condition, or another. At times none.
    fn model(&mut self, target: usize, has: impl Fn(&Matching) -> bool) -> Option<usize> {
        let rules = self.rules;
        let is = |at: usize| rules.get(at).is_some_and(|rule| has(&rule.matching));
        if is(target) {
            return self.chance.percent(97).then_some(target);
        }
        let other = self.any_rule();
        (is(other) && self.chance.percent(70)).then_some(other)
    }

    fn matching(&self, rule: Option<usize>) -> Option<&'r Matching> {
        let rules: &'r [Rule] = self.rules;
        rules.get(rule?).map(|rule| &rule.matching)
    }

    /// A family that the rule can be for.
    fn family_of(&mut self, target: usize) -> Family {
        let drawn = self.chance.pick(&Family::ALL).copied();
        let drawn = drawn.unwrap_or(Family::Ipv4);
        let Some(matching) = self.matching(Some(target)) else {
            return drawn;
        };
        let lacks = |family| {
            let sets = [&matching.source, &matching.destination];
            sets.into_iter().flatten().any(|set| set.lacks(family))
        };
        let others = Family::ALL.into_iter().find(|family| !lacks(*family));
        if lacks(drawn) {
            others.unwrap_or(drawn)
        } else {
            drawn
        }
    }

    /// The first or last address of a range, the one before or behind it, or one within.
    fn address(&mut self, target: usize, family: Family, side: Side) -> IpAddr {
        let model = self.model(target, |matching| match side {
            Side::Users => matching.source.is_some(),
            Side::Destinations => matching.destination.is_some(),
        });
        let edges = model.and_then(|model| self.edges.get(model));
        let ranges = edges.map(|edges| match side {
            Side::Users => &edges.source,
            Side::Destinations => &edges.destination,
        });
        let ranges = ranges.map(|[v4, v6]| match family {
            Family::Ipv4 => v4.as_slice(),
            Family::Ipv6 => v6.as_slice(),
        });
        let drawn = self.chance.pick(ranges.unwrap_or_default());
        let number = drawn.copied().and_then(|(first, last)| {
            match self.chance.below(12) {
                0..=4 => Some(first),
                5..=8 => Some(last),
                9 => first.checked_sub(1),
                10 => last.checked_add(1),
                _ => Some(first + (last - first) / 2),
            }
            .filter(|number| side.has(family, *number))
        });
        let number = number.unwrap_or_else(|| side.any(family, &mut self.chance));
        address(family, number)
    }

    fn protocol(&mut self, target: usize, family: Family) -> Protocol {
        let model = self.model(target, |matching| matching.protocols.is_some());
        let needs_ports = self
            .matching(Some(target))
            .is_some_and(|matching| matching.ports.is_some() || matching.source_ports.is_some());
        let named = self.matching(model).and_then(|matching| {
            let protocols: Vec<Protocol> = matching.protocols.iter().flatten().copied().collect();
            self.chance.pick(&protocols).copied()
        });
        let named = named.filter(|named| named.has_ports() || !needs_ports);
        let usual = |chance: &mut Chance| match chance.below(10) {
            0..=4 => Protocol::TCP,
            5..=7 => UDP,
            _ => {
                let any = chance.pick(&PROTOCOLS).and_then(|name| name.parse().ok());
                any.unwrap_or(UDP)
            }
        };
        let drawn = named.unwrap_or_else(|| usual(&mut self.chance));
        match (family, drawn) {
            _ if needs_ports && !drawn.has_ports() => UDP,
            (Family::Ipv4, ICMPV6) => ICMP,
            (Family::Ipv6, ICMP) => ICMPV6,
            _ => drawn,
        }
    }

    fn port(&mut self, target: usize, of: impl Fn(&Matching) -> &Option<PortSet>) -> u16 {
        let model = self.model(target, |matching| of(matching).is_some());
        let ranges: Vec<_> = self
            .matching(model)
            .and_then(|matching| of(matching).as_ref())
            .map(|set| set.ranges().collect())
            .unwrap_or_default();
        let edge = self
            .chance
            .pick(&ranges)
            .copied()
            .map(|range| match self.chance.below(10) {
                0..=3 => range.first,
                4..=6 => range.last,
                7 => range.first.saturating_sub(1).max(1),
                8 => range.last.saturating_add(1),
                _ => range.first + (range.last - range.first) / 2,
            });
        edge.unwrap_or_else(|| {
            let any = 1 + self.chance.below(u64::from(u16::MAX));
            u16::try_from(any).unwrap_or(u16::MAX)
        })
    }

    fn interface(&mut self, target: usize) -> Option<InterfaceName> {
        let model = self.model(target, |matching| matching.interfaces.is_some());
        let named = self.matching(model).and_then(|m| m.interfaces.as_ref());
        let named = named.and_then(|names| names.first());
        named.or_else(|| self.chance.pick(&self.downlinks)).cloned()
    }

    fn dscp(&mut self, target: usize) -> Option<Dscp> {
        let model = self.model(target, |matching| matching.dscp.is_some());
        let named: Vec<Dscp> = match self.matching(model) {
            Some(matching) => matching.dscp.iter().flatten().copied().collect(),
            None => Vec::new(),
        };
        match self.chance.pick(&named) {
            Some(named) => Some(*named),
            None if self.chance.percent(40) => Dscp::new(0),
            None => Dscp::new(u8::try_from(self.chance.below(64)).ok()?),
        }
    }

    fn mark(&mut self, target: usize) -> u32 {
        let model = self.model(target, |matching| matching.marks.is_some());
        let wanted = self.matching(model).and_then(|m| m.marks.as_ref());
        let held: Vec<u32> = self
            .marks
            .iter()
            .copied()
            .filter(|mark| {
                wanted.is_some_and(|wanted| wanted.iter().any(|wanted| wanted.holds(*mark)))
            })
            .collect();
        let any = match self.chance.below(2) {
            0 => Some(0),
            _ => self.chance.one_of(&self.marks),
        };
        self.chance.one_of(&held).or(any).unwrap_or_default()
    }

    fn mac(&mut self, target: usize) -> Option<MacAddress> {
        let model = self.model(target, |matching| matching.macs.is_some());
        let named: Vec<MacAddress> = match self.matching(model) {
            Some(matching) => matching.macs.iter().flatten().copied().collect(),
            None => Vec::new(),
        };
        match self.chance.pick(&named) {
            Some(named) => Some(*named),
            // Also some that no rule names.
            None => mac(self.chance.below(MACS + 2)).parse().ok(),
        }
    }
}

impl Iterator for Packets<'_> {
    type Item = Facts;

    fn next(&mut self) -> Option<Facts> {
        for _ in 0..ATTEMPTS {
            let facts = self.draw()?;
            if self.known.insert(flow(&facts)) {
                return Some(facts);
            }
        }
        // None is left at the edges: one that differs by its port.
        loop {
            let mut facts = self.draw()?;
            facts.protocol = UDP;
            facts.port = 1 + u16::try_from(self.chance.below(65_534)).ok()?;
            facts.source_port = 1 + u16::try_from(self.chance.below(65_534)).ok()?;
            if self.known.insert(flow(&facts)) {
                return Some(facts);
            }
        }
    }
}

const UDP: Protocol = Protocol(17);
const ICMP: Protocol = Protocol(1);
const ICMPV6: Protocol = Protocol(58);

/// What no two packets have in common.
fn flow(facts: &Facts) -> Flow {
    let protocol = facts.protocol;
    if matches!(protocol, Protocol::TCP | UDP) {
        let source = Some(facts.source);
        let ports = (facts.source_port, facts.port);
        (source, facts.destination, protocol, ports.0, ports.1)
    } else {
        (None, facts.destination, protocol, 0, 0)
    }
}

/// Ranges of a set by family, spread over all.
fn remembered(set: Option<&AddressSet>) -> [Vec<(u128, u128)>; 2] {
    Family::ALL.map(|family| {
        let Some(set) = set else {
            return Vec::new();
        };
        let count = set.numbers(family).count();
        let step = count.div_ceil(REMEMBERED).max(1);
        let mut found: Vec<_> = set.numbers(family).step_by(step).collect();
        found.extend(set.numbers(family).last());
        found
    })
}
