//! Rules that cannot mean what they say: those that no packet can match, those whose packets all
//! match an earlier rule, and those that share packets with an earlier rule which sends them
//! elsewhere, or lets them take the fast path.
//!
//! An exception before the rule that it is one of is no conflict.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::addresses::AddressSet;
use super::own_traffic::LeftOut;
use super::pools::Policy;
use super::ports::PortSet;
use super::rule::{MarkMatch, Matching, Rule};
use super::sets::Sets;
use crate::config::{Config, FastPathSetting};
use crate::family::Family;
use crate::flows::Protocol;

/// How many are told.
const TOLD: usize = 20;

/// Something that is wrong with a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The position of the rule.
    pub rule: usize,
    /// What is wrong.
    pub kind: Kind,
}

/// What is wrong with a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// No packet is such.
    Impossible(Impossible),
    /// All of its packets match the rule at this position before.
    Hidden(usize),
    /// Some of its packets match the rule at this position before, which sends them elsewhere.
    Overlaps(usize),
    /// It forbids the fast path, and some of its packets match the rule at this position before, which
    /// does not.
    Unseen(usize),
}

/// Why no packet is such.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impossible {
    /// The source has no address.
    Source,
    /// The destination has no address.
    Destination,
    /// Source and destination are of different families.
    Families,
    /// The protocol is not spoken in the family of the addresses.
    Protocol,
}

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Source => "its source has no address",
            Self::Destination => "its destination has no address",
            Self::Families => "its source and its destination have no family in common",
            Self::Protocol => "its protocol is not spoken in the family of its addresses",
        })
    }
}

/// All conflicts, in the order of the rules; one for each rule at most, the worst.
#[must_use]
pub fn conflicts(rules: &[Rule]) -> Vec<Conflict> {
    let scopes: Vec<Scope<'_>> = rules.iter().map(|rule| Scope::of(&rule.matching)).collect();
    let mut compared = Compared::default();
    let mut found = Vec::new();
    // Those that decide nothing.
    let mut dead = BTreeSet::new();
    for (position, (rule, scope)) in rules.iter().zip(&scopes).enumerate() {
        let kind = scope.impossible().map(Kind::Impossible).or_else(|| {
            let mut before = (0..position).zip(rules).zip(&scopes);
            let hidden = before.find(|((_, _), earlier)| earlier.covers(scope, &mut compared));
            hidden.map(|((earlier, _), _)| Kind::Hidden(earlier))
        });
        let goes_elsewhere =
            |other: &Rule| (&other.via, other.otherwise) != (&rule.via, rule.otherwise);
        // The other way round nothing passes by unseen.
        let is_unseen = |other: &Rule| {
            (other.fast_path, rule.fast_path) == (FastPathSetting::Auto, FastPathSetting::Off)
        };
        let kind = kind.or_else(|| {
            let mut before = (0..position).zip(rules).zip(&scopes);
            let overlapping = before.find(|((position, other), earlier)| {
                !dead.contains(position)
                    && (goes_elsewhere(other) || is_unseen(other))
                    && earlier.meets(scope, &mut compared)
                    && !scope.covers(earlier, &mut compared)
            });
            overlapping.map(|((earlier, other), _)| {
                if goes_elsewhere(other) {
                    Kind::Overlaps(earlier)
                } else {
                    Kind::Unseen(earlier)
                }
            })
        });
        if matches!(kind, Some(Kind::Impossible(_) | Kind::Hidden(_))) {
            dead.insert(position);
        }
        found.extend(kind.map(|kind| Conflict {
            rule: position,
            kind,
        }));
    }
    found
}

/// The conflicts of a configuration as people read them, each with the places of its rules.
#[must_use]
pub fn told(config: &Config, sets: &Sets, file: &Path) -> Vec<String> {
    let policy = Policy::of(config, sets);
    let rule = |position: usize| config.rules.get(position);
    let conflicts = conflicts(&policy.rules);
    let more = conflicts.len().saturating_sub(TOLD);
    let mut told: Vec<String> = conflicts
        .into_iter()
        .take(TOLD)
        .filter_map(|conflict| {
            let own = rule(conflict.rule)?;
            let (name, place) = (&own.name, own.place);
            let why = match conflict.kind {
                Kind::Impossible(why) => format!("rule `{name}` can never match: {why}"),
                Kind::Hidden(earlier) => {
                    let earlier = rule(earlier)?;
                    format!(
                        "rule `{name}` can never match: all of its packets match rule `{}` at {} before",
                        earlier.name, earlier.place
                    )
                }
                Kind::Overlaps(earlier) => {
                    let earlier = rule(earlier)?;
                    format!(
                        "rule `{name}` overlaps with rule `{}` at {}, which sends what matches both to {} instead of {}",
                        earlier.name, earlier.place, earlier.via, own.via
                    )
                }
                Kind::Unseen(earlier) => {
                    let earlier = rule(earlier)?;
                    format!(
                        "rule `{name}` overlaps with rule `{}` at {}, which lets what matches both take the fast path",
                        earlier.name, earlier.place
                    )
                }
            };
            Some(format!("{}:{place}: {why}", file.display()))
        })
        .collect();
    if more > 0 {
        told.push(format!(
            "{}: and {more} more rules like these",
            file.display()
        ));
    }
    told.extend(not_for_own(config, &policy, file));
    told
}

/// Rules that a user would expect to be for what this host itself sends, and are not.
fn not_for_own(config: &Config, policy: &Policy, file: &Path) -> Option<String> {
    let unexpected = |(position, why): &(usize, LeftOut)| {
        let why = match why {
            LeftOut::Users | LeftOut::Dscp => return None,
            LeftOut::Sources => "its source has too many prefixes",
            LeftOut::Many => "rules and sets before it are too many",
        };
        Some((config.rules.get(*position)?, why))
    };
    let mut rules = policy.own_traffic().left_out.iter().filter_map(unexpected);
    let (first, why) = rules.next()?;
    let others = match rules.count() {
        0 => String::new(),
        count => format!(", and {count} more are not"),
    };
    let (name, place) = (&first.name, first.place);
    Some(format!(
        "{}:{place}: rule `{name}` is not for what this host itself sends, since {why}{others}",
        file.display()
    ))
}

/// What was found when two sets were compared in a family: whether the first covers the second, and
/// whether they meet. Sets are large, and many rules have the same.
#[derive(Debug, Default)]
struct Compared(HashMap<(*const AddressSet, *const AddressSet, Family), (bool, bool)>);

type Addresses = Option<Arc<AddressSet>>;

impl Compared {
    fn compare(
        &mut self,
        one: &Arc<AddressSet>,
        two: &Arc<AddressSet>,
        family: Family,
    ) -> (bool, bool) {
        if Arc::ptr_eq(one, two) {
            return (true, !one.lacks(family));
        }
        *self
            .0
            .entry((Arc::as_ptr(one), Arc::as_ptr(two), family))
            .or_insert_with(|| (one.covers(two, family), one.meets(two, family)))
    }

    fn covers(&mut self, one: &Addresses, two: &Addresses, family: Family) -> bool {
        match (one, two) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(one), Some(two)) => self.compare(one, two, family).0,
        }
    }

    fn meets(&mut self, one: &Addresses, two: &Addresses, family: Family) -> bool {
        match (one, two) {
            (Some(one), Some(two)) => self.compare(one, two, family).1,
            _ => true,
        }
    }
}

/// Protocols by their numbers, a bit for each: those of every pair of rules are compared.
#[derive(Clone, Copy)]
struct Protocols([u64; 4]);

impl Protocols {
    fn of(has: impl Fn(u8) -> bool) -> Self {
        let mut words = [0; 4];
        for (word, first) in words.iter_mut().zip((0..=u8::MAX).step_by(64)) {
            for bit in (0..64).filter(|bit| has(first + bit)) {
                *word |= 1 << bit;
            }
        }
        Self(words)
    }

    fn covers(self, other: Self) -> bool {
        let mut pairs = self.0.into_iter().zip(other.0);
        pairs.all(|(ours, theirs)| theirs & !ours == 0)
    }

    fn meets(self, other: Self) -> bool {
        let mut pairs = self.0.into_iter().zip(other.0);
        pairs.any(|(ours, theirs)| ours & theirs != 0)
    }
}

/// What a rule matches, with what its conditions imply.
struct Scope<'r> {
    matching: &'r Matching,
    protocols: Protocols,
    families: Vec<Family>,
}

impl<'r> Scope<'r> {
    fn of(matching: &'r Matching) -> Self {
        let needs_ports = matching.ports.is_some() || matching.source_ports.is_some();
        let protocols = Protocols::of(|number| {
            let protocol = Protocol(number);
            let named = matching.protocols.as_ref();
            named.is_none_or(|named| named.contains(&protocol))
                && (!needs_ports || protocol.has_ports())
        });
        let spoken = |family| Protocols::of(|number| is_spoken(number, family));
        let has = |addresses: &Addresses, family| {
            addresses
                .as_ref()
                .is_none_or(|addresses| !addresses.lacks(family))
        };
        let families = Family::ALL
            .into_iter()
            .filter(|family| {
                has(&matching.source, *family)
                    && has(&matching.destination, *family)
                    && protocols.meets(spoken(*family))
            })
            .collect();
        Self {
            matching,
            protocols,
            families,
        }
    }

    fn impossible(&self) -> Option<Impossible> {
        let empty = |addresses: &Addresses| addresses.as_ref().is_some_and(|set| set.is_empty());
        let Matching {
            source,
            destination,
            ..
        } = self.matching;
        if empty(source) {
            return Some(Impossible::Source);
        }
        if empty(destination) {
            return Some(Impossible::Destination);
        }
        let both = |family: &Family| {
            let lacks =
                |addresses: &Addresses| addresses.as_ref().is_some_and(|set| set.lacks(*family));
            !lacks(source) && !lacks(destination)
        };
        if !Family::ALL.iter().any(both) {
            return Some(Impossible::Families);
        }
        self.families.is_empty().then_some(Impossible::Protocol)
    }

    /// Whether it matches all that another one matches.
    fn covers(&self, other: &Self, compared: &mut Compared) -> bool {
        let (ours, theirs) = (self.matching, other.matching);
        self.protocols.covers(other.protocols)
            && covers(&ours.interfaces, &theirs.interfaces, BTreeSet::is_superset)
            && covers(&ours.ports, &theirs.ports, PortSet::covers)
            && covers(&ours.source_ports, &theirs.source_ports, PortSet::covers)
            && covers(&ours.dscp, &theirs.dscp, BTreeSet::is_superset)
            && covers(&ours.marks, &theirs.marks, marks_cover)
            && covers(&ours.macs, &theirs.macs, BTreeSet::is_superset)
            && other.families.iter().all(|family| {
                compared.covers(&ours.source, &theirs.source, *family)
                    && compared.covers(&ours.destination, &theirs.destination, *family)
            })
    }

    /// Whether some packet matches both.
    fn meets(&self, other: &Self, compared: &mut Compared) -> bool {
        let (ours, theirs) = (self.matching, other.matching);
        self.protocols.meets(other.protocols)
            && meets(&ours.interfaces, &theirs.interfaces, |a, b| {
                !a.is_disjoint(b)
            })
            && meets(&ours.ports, &theirs.ports, PortSet::meets)
            && meets(&ours.source_ports, &theirs.source_ports, PortSet::meets)
            && meets(&ours.dscp, &theirs.dscp, |a, b| !a.is_disjoint(b))
            && meets(&ours.marks, &theirs.marks, marks_meet)
            && meets(&ours.macs, &theirs.macs, |a, b| !a.is_disjoint(b))
            && other.families.iter().any(|family| {
                self.families.contains(family)
                    && compared.meets(&ours.source, &theirs.source, *family)
                    && compared.meets(&ours.destination, &theirs.destination, *family)
            })
    }
}

/// ICMP of each family is spoken in that alone.
const fn is_spoken(protocol: u8, family: Family) -> bool {
    use failover_common::lifetime::protocol::{ICMP, ICMPV6};
    match family {
        Family::Ipv4 => protocol != ICMPV6,
        Family::Ipv6 => protocol != ICMP,
    }
}

fn covers<C>(ours: &Option<C>, theirs: &Option<C>, covers: impl Fn(&C, &C) -> bool) -> bool {
    match (ours, theirs) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(ours), Some(theirs)) => covers(ours, theirs),
    }
}

fn meets<C>(ours: &Option<C>, theirs: &Option<C>, meets: impl Fn(&C, &C) -> bool) -> bool {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => meets(ours, theirs),
        _ => true,
    }
}

/// Each of theirs implies one of ours.
fn marks_cover(ours: &BTreeSet<MarkMatch>, theirs: &BTreeSet<MarkMatch>) -> bool {
    theirs.iter().all(|theirs| {
        let mut ours = ours.iter();
        ours.any(|ours| ours.mask & !theirs.mask == 0 && ours.holds(theirs.value))
    })
}

fn marks_meet(ours: &BTreeSet<MarkMatch>, theirs: &BTreeSet<MarkMatch>) -> bool {
    let mut pairs = ours
        .iter()
        .flat_map(|one| theirs.iter().map(move |two| (one, two)));
    pairs.any(|(one, two)| (one.value ^ two.value) & one.mask & two.mask == 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;
    use crate::policy::Sets;

    /// The conflicts of rules that are written as in a file, without their names.
    fn of(rules: &[&str]) -> Vec<(usize, Kind)> {
        let rules: String = rules.iter().map(|rule| format!("  - {rule}\n")).collect();
        let text = format!(
            "uplinks: {{a: {{interface: wan1}}, b: {{interface: wan2}}}}\ndownlinks: [lan0, lan1]\nrules:\n{rules}"
        );
        let config = parse(&text).unwrap_or_else(|error| panic!("{error}"));
        let rules: Vec<Rule> = config
            .rules
            .iter()
            .map(|rule| rule.resolve(&Sets::new()))
            .collect();
        let found = conflicts(&rules);
        found
            .into_iter()
            .map(|conflict| (conflict.rule, conflict.kind))
            .collect()
    }

    #[test]
    fn protocols_are_compared_by_their_bits() {
        let all = Protocols::of(|_| true);
        let ends = Protocols::of(|number| matches!(number, 0 | 63 | 64 | 255));
        let last = Protocols::of(|number| number == 255);
        assert!(all.covers(ends) && !ends.covers(all) && ends.covers(last));
        assert!(ends.meets(last) && !last.meets(Protocols::of(|number| number < 255)));
    }

    #[test]
    fn rules_that_are_apart_have_none() {
        let rules = [
            "{match: {protocol: tcp, ports: [25]}, via: [a]}",
            "{match: {protocol: udp}, via: [b]}",
            "{match: {source: 198.18.0.0/24, protocol: tcp, ports: [80]}, via: [b]}",
            "{match: {protocol: [icmp, icmpv6]}, via: [a]}",
        ];
        assert_eq!(of(&rules), []);
    }

    #[test]
    fn an_exception_before_its_rule_is_none() {
        let rules = [
            "{match: {source: 198.18.0.7}, via: [a]}",
            "{match: {source: 198.18.0.0/24}, via: [b]}",
            "{via: [a]}",
        ];
        assert_eq!(of(&rules), []);
    }

    #[test]
    fn what_an_earlier_rule_takes_whole_is_hidden() {
        let rules = [
            "{match: {source: 198.18.0.0/24, protocol: [tcp, udp]}, via: [a]}",
            "{match: {source: 198.18.0.100-198.18.0.149, protocol: tcp, ports: [25]}, via: [b]}",
            "{match: {source: 198.19.0.7, protocol: icmp}, via: [a]}",
            "{match: {mark: 0x10/0x10}, via: [a]}",
            "{match: {mark: 0x11/0xff}, via: [a]}",
            "{match: {ports: 1-65535}, via: [a]}",
            "{match: {protocol: sctp, ports: 5}, via: [a]}",
        ];
        assert_eq!(
            of(&rules),
            [
                (1, Kind::Hidden(0)),
                (4, Kind::Hidden(3)),
                (6, Kind::Hidden(5))
            ]
        );
    }

    #[test]
    fn rules_that_share_packets_and_send_them_elsewhere_overlap() {
        let rules = [
            "{match: {source: 198.18.0.0/24}, via: [a]}",
            "{match: {protocol: tcp, ports: [25]}, via: [b]}",
            "{match: {source: 198.18.0.128-198.18.1.9}, via: [a]}",
            "{match: {interface: lan0, dscp: ef}, via: [b]}",
        ];
        assert_eq!(
            of(&rules),
            [
                (1, Kind::Overlaps(0)),
                (2, Kind::Overlaps(1)),
                (3, Kind::Overlaps(0))
            ]
        );
        let alike = [
            "{match: {source: 198.18.0.0/24}, via: [a]}",
            "{match: {protocol: tcp, ports: [25]}, via: [a]}",
        ];
        assert_eq!(of(&alike), []);
    }

    #[test]
    fn an_earlier_rule_that_lets_packets_take_the_fast_path_is_told() {
        let office = "{match: {source: 198.18.0.0/24}, via: [a]}";
        let voice = "{match: {ports: [5060]}, via: [a], fastpath: off}";
        assert_eq!(of(&[office, voice]), [(1, Kind::Unseen(0))]);
        assert_eq!(of(&[voice, office]), []);
        let guests = "{match: {source: 198.18.0.0/24}, via: [a], fastpath: off}";
        assert_eq!(of(&[guests, voice]), []);
        // An exception.
        let desk = "{match: {source: 198.18.0.7, ports: [5060]}, via: [a]}";
        assert_eq!(of(&[desk, voice]), []);
    }

    #[test]
    fn what_no_packet_is_is_told() {
        let rules = [
            "{match: {source: 198.18.0.0/24, destination: 'fd00::/8'}, via: [a]}",
            "{match: {source: 198.18.0.0/24, protocol: icmpv6}, via: [a]}",
        ];
        assert_eq!(
            of(&rules),
            [
                (0, Kind::Impossible(Impossible::Families)),
                (1, Kind::Impossible(Impossible::Protocol))
            ]
        );
    }
}
