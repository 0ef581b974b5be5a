//! What the user's rules come to for the router's own packets, in terms of `ip rule`s and routing
//! tables.
//!
//! The router's own sockets ask for a route before there is a packet, and take the address of the
//! uplink that the answer names: nothing has to be translated, and who is bound to an address or an
//! interface says so in the question. nftables and programs at sockets come later or cannot tell:
//! an `output` chain sees the same source address whether the socket is bound to it or not, and a
//! mark that a cgroup's program gives a socket stays there when the uplink is dead.
//!
//! What a question does not say decides nothing: a rule with an interface, a hardware address or a
//! DSCP is for users' packets only. A rule is one `ip rule` where each of its conditions has one
//! value; where some have several there is a stage for each, whose alternatives lead to the next
//! stage, and behind which the next rule begins. Where a rule goes to many prefixes, its table has
//! nothing to say about all others ([`Way::except`]).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ipnet::IpNet;

use super::addresses::{AddressSet, prefixes_of};
use super::matching::{Facts, first_match};
use super::pools::Policy;
use super::ports::{PortRange, PortSet};
use super::rule::{Matching, Otherwise, Rule};
use super::selector::Selector;
use crate::family::{Family, PerFamily};

/// The most destinations that are rules of their own; more are a table.
const FEW_DESTINATIONS: usize = 8;
/// The most prefixes of a rule's source: each is asked in turn.
const MOST_SOURCES: usize = 64;
/// The most `ip rule`s of a family: the kernel asks them one by one.
const MOST_STEPS: usize = 4096;
/// The most destinations that ways have nothing to say about, of a family and all together: each is a
/// route, or two where packets may be refused, and the kernel takes some 10 µs for one.
const MOST_EXCEPTIONS: usize = 50_000;

/// Prefixes, of which there may be thousands.
pub type Prefixes = Arc<BTreeSet<IpNet>>;

/// What rules come to for the router's own packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnTraffic {
    /// What is asked, by family, in this order.
    pub rules: PerFamily<Vec<OwnRule>>,
    /// Where it leads.
    pub ways: Vec<Way>,
    /// Rules that are not for them, by position, and why.
    pub left_out: Vec<(usize, LeftOut)>,
}

/// What a user's rule comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnRule {
    /// Stages: a packet that none of a stage's selectors is for goes on behind the rule.
    pub stages: Vec<Vec<Selector>>,
    /// A packet that all stages let through, and that one of these is for, goes the way.
    pub last: Vec<Selector>,
    /// The position of the way.
    pub way: usize,
}

/// Where packets go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    /// The position of the pool.
    pub pool: usize,
    /// What becomes of them when that has nobody.
    pub otherwise: Otherwise,
    /// Whether rules of a family lead here.
    pub used: PerFamily<bool>,
    /// Destinations that do not go this way; none of a family: all do.
    pub except: PerFamily<Option<Prefixes>>,
}

/// Why a rule is not for the router's own packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeftOut {
    /// It is for what comes in by an interface, or from a hardware address.
    Users,
    /// It asks for a DSCP.
    Dscp,
    /// Its source has more prefixes than are asked one by one.
    Sources,
    /// With it, the kernel would have to ask too many rules, or to hold too many routes.
    Many,
}

impl OwnTraffic {
    /// What these rules come to.
    #[must_use]
    pub fn of(policy: &Policy) -> Self {
        let mut own = Self::default();
        // Sets are large, and many rules have the same: they are told apart by where they are.
        let mut known: BTreeMap<(usize, Otherwise, Option<*const AddressSet>), usize> =
            BTreeMap::new();
        let mut complements: HashMap<(*const AddressSet, Family), Prefixes> = HashMap::new();
        let mut spent: PerFamily<Spent> = PerFamily::default();
        for (position, (rule, pool)) in policy.iter().enumerate() {
            if let Some(why) = left_out(&rule.matching) {
                own.left_out.push((position, why));
                continue;
            }
            let parts = PerFamily::from_fn(|family| {
                let alternatives = alternatives(&rule.matching, family)?;
                let many = many_destinations(rule, family);
                let place = (pool, rule.otherwise, many.map(Arc::as_ptr));
                let way = known.get(&place).and_then(|way| own.ways.get(*way));
                let is_new = way.is_none_or(|way| way.except.get(family).is_none());
                let except = many.filter(|_| is_new).map(|set| {
                    let known = complements.entry((Arc::as_ptr(set), family));
                    Arc::clone(known.or_insert_with(|| Arc::new(complement(set, family))))
                });
                let part = Part {
                    alternatives,
                    except,
                };
                Some((place, part))
            });
            let both = PerFamily::from_fn(|family| {
                let part = parts.get(family).as_ref();
                spent.get(family).and(part.map(|(_, part)| part.cost()))
            });
            if !(both.ipv4.is_allowed() && both.ipv6.is_allowed()) {
                own.left_out.push((position, LeftOut::Many));
                continue;
            }
            spent = both;
            for (family, part) in [(Family::Ipv4, parts.ipv4), (Family::Ipv6, parts.ipv6)] {
                if let Some((place, part)) = part {
                    let next = own.ways.len();
                    let way = *known.entry(place).or_insert(next);
                    own.add(family, part, way, (pool, rule.otherwise));
                }
            }
        }
        own
    }

    fn add(&mut self, family: Family, part: Part, way: usize, goes: (usize, Otherwise)) {
        if way == self.ways.len() {
            self.ways.push(Way {
                pool: goes.0,
                otherwise: goes.1,
                used: PerFamily::default(),
                except: PerFamily::default(),
            });
        }
        if let Some(way) = self.ways.get_mut(way) {
            *way.used.get_mut(family) = true;
            if let Some(except) = part.except {
                *way.except.get_mut(family) = Some(except);
            }
        }
        let rules = self.rules.get_mut(family);
        rules.push(OwnRule::new(part.alternatives, way));
    }
}

/// A rule's part in a family.
struct Part {
    alternatives: Vec<Vec<Selector>>,
    /// What its way has nothing to say about, where that is not known yet.
    except: Option<Prefixes>,
}

impl Part {
    fn cost(&self) -> Spent {
        Spent {
            steps: self.alternatives.iter().map(|stage| stage.len() + 1).sum(),
            exceptions: self.except.as_ref().map_or(0, |except| except.len()),
        }
    }
}

/// How much of what there may be rules come to in a family.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    steps: usize,
    exceptions: usize,
}

impl Spent {
    fn and(self, cost: Option<Self>) -> Self {
        let cost = cost.unwrap_or_default();
        Self {
            steps: self.steps + cost.steps,
            exceptions: self.exceptions + cost.exceptions,
        }
    }

    const fn is_allowed(self) -> bool {
        self.steps <= MOST_STEPS && self.exceptions <= MOST_EXCEPTIONS
    }
}

impl Policy {
    /// The position of the first rule that decides about a packet: some are not for those that come in
    /// by no interface, the router's own.
    #[must_use]
    pub fn first_match(&self, packet: &Facts) -> Option<usize> {
        if packet.interface.is_some() {
            return first_match(&self.rules, packet);
        }
        let left_out = &self.own_traffic().left_out;
        let is_for = |position| !left_out.iter().any(|(other, _)| *other == position);
        let mut rules = self.rules.iter().enumerate();
        let found = rules.find(|(position, rule)| rule.matching.holds(packet) && is_for(*position));
        found.map(|(position, _)| position)
    }
}

impl OwnRule {
    fn new(alternatives: Vec<Vec<Selector>>, way: usize) -> Self {
        let mut common = Selector::ALL;
        let mut stages = Vec::new();
        for stage in alternatives {
            match <[Selector; 1]>::try_from(stage) {
                Ok([only]) => common = common.and(only),
                Err(several) => stages.push(several),
            }
        }
        let last = stages.pop().unwrap_or_else(|| vec![Selector::ALL]);
        Self {
            stages,
            last: last
                .into_iter()
                .map(|selector| selector.and(common.clone()))
                .collect(),
            way,
        }
    }
}

fn left_out(matching: &Matching) -> Option<LeftOut> {
    if matching.interfaces.is_some() || matching.macs.is_some() {
        return Some(LeftOut::Users);
    }
    if matching.dscp.is_some() {
        return Some(LeftOut::Dscp);
    }
    let too_many = |set: &Arc<AddressSet>| {
        let mut families = Family::ALL.into_iter();
        families.any(|family| prefixes(set, family).nth(MOST_SOURCES).is_some())
    };
    if matching.source.as_ref().is_some_and(too_many) {
        return Some(LeftOut::Sources);
    }
    None
}

/// The values of each condition; `None` where no packet of the family can have them.
fn alternatives(matching: &Matching, family: Family) -> Option<Vec<Vec<Selector>>> {
    let mut all = Vec::new();
    if let Some(services) = services(matching) {
        all.push(services);
    }
    if let Some(marks) = &matching.marks {
        let selector = |mark| Selector {
            mark: Some(mark),
            ..Selector::ALL
        };
        all.push(marks.iter().copied().map(selector).collect());
    }
    if let Some(set) = asked(matching.source.as_ref(), family) {
        let selector = |source| Selector {
            source: Some(source),
            ..Selector::ALL
        };
        all.push(prefixes(set, family).map(selector).collect());
    }
    if let Some(set) = asked(matching.destination.as_ref(), family) {
        if set.lacks(family) {
            return None;
        }
        if !is_many(set, family) {
            let selector = |destination| Selector {
                destination: Some(destination),
                ..Selector::ALL
            };
            all.push(prefixes(set, family).map(selector).collect());
        }
    }
    (!all.iter().any(Vec::is_empty)).then_some(all)
}

/// Protocols and ports; `None` where any will do.
fn services(matching: &Matching) -> Option<Vec<Selector>> {
    let protocols = matching.spoken()?;
    let sources = ranges(matching.source_ports.as_ref());
    let ports = ranges(matching.ports.as_ref());
    let mut services = Vec::new();
    for protocol in protocols {
        for source_ports in &sources {
            for ports in &ports {
                services.push(Selector {
                    protocol: Some(protocol),
                    source_ports: *source_ports,
                    ports: *ports,
                    ..Selector::ALL
                });
            }
        }
    }
    Some(services)
}

/// The ranges of ports as rules can say them: neither 0 nor 65535 can be an end
/// (`fib_rule_port_range_valid` in the kernel's `net/core/fib_rules.c`), so a range that ends there
/// ends one before.
fn ranges(ports: Option<&PortSet>) -> Vec<Option<PortRange>> {
    let Some(ports) = ports else {
        return vec![None];
    };
    let sayable = |range: PortRange| {
        let first = range.first.max(1);
        let last = range.last.min(u16::MAX - 1);
        if first == 1 && last == u16::MAX - 1 {
            return Some(None);
        }
        (first <= last).then_some(Some(PortRange { first, last }))
    };
    ports.ranges().filter_map(sayable).collect()
}

/// A set that does not hold all addresses of a family.
fn asked(set: Option<&Arc<AddressSet>>, family: Family) -> Option<&Arc<AddressSet>> {
    set.filter(|set| !set.is_everything(family))
}

fn many_destinations(rule: &Rule, family: Family) -> Option<&Arc<AddressSet>> {
    asked(rule.matching.destination.as_ref(), family).filter(|set| is_many(set, family))
}

fn is_many(set: &AddressSet, family: Family) -> bool {
    prefixes(set, family).nth(FEW_DESTINATIONS).is_some()
}

fn prefixes(set: &AddressSet, family: Family) -> impl Iterator<Item = IpNet> {
    set.numbers(family)
        .flat_map(move |(first, last)| prefixes_of(family, first, last))
}

/// All addresses of a family that a set has not.
fn complement(set: &AddressSet, family: Family) -> BTreeSet<IpNet> {
    set.without(family)
        .flat_map(|(first, last)| prefixes_of(family, first, last))
        .collect()
}
