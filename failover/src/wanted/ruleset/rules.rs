//! The chains that try the user's rules on a new flow: one for each family, a line for each rule, the
//! first that holds goes to the chain of the rule's uplinks.
//!
//! While uplinks come and go only the chains of uplinks change: `via_N` leads to where the flows of the
//! rules that name the same uplinks go, `via_N_drop` the same for rules whose flows are dropped when
//! none of these is usable.
//!
//! Addresses that are many, and lists that stand in several lines, are in sets with names: `nft` asks
//! the kernel for each anonymous set by itself whenever it reads or changes the table, and with some
//! thousands that takes a second. Ranges of addresses stand beside each other: nft need not join them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Formatter, Write as _};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::lists::{Kind, Lists, anonymous};
use super::picking::Picking;
use super::{Ruleset, family_number, nfproto, pick_name, slots_name};
use crate::family::Family;
use crate::policy::{
    AddressSet, Destination, MarkMatch, Matching, Otherwise, Policy, PortSet, Rule, RulePool,
};
use crate::select::Pool;
use crate::uplink::UplinkId;

/// The most ranges that a rule has in its own line.
const FEW: usize = 8;

/// The addresses of rules that are in sets with names, and the number of each.
type Named<'p> = BTreeMap<&'p AddressSet, usize>;

/// What rules come to in the table, whatever state uplinks are in: the sets, and the chains `rules4`
/// and `rules6`.
pub(super) fn written(policy: &Policy) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    write(policy, &mut text).ok();
    text
}

fn write(policy: &Policy, text: &mut String) -> fmt::Result {
    let named = named(policy);
    let mut lists = Lists::default();
    // What stands in several lines is known when all have been written once.
    chains(policy, &named, &mut lists, &mut String::new())?;
    lists.counted = true;
    for family in Family::ALL {
        for (set, number) in &named {
            if !set.lacks(family) {
                named_set(text, family, set, *number)?;
            }
        }
    }
    lists.write(text)?;
    chains(policy, &named, &mut lists, text)
}

fn chains(policy: &Policy, named: &Named<'_>, lists: &mut Lists, text: &mut String) -> fmt::Result {
    for family in Family::ALL {
        writeln!(text, "  chain {} {{", chain(family))?;
        for (rule, pool) in policy.iter() {
            let to = via(pool, rule.otherwise);
            for conditions in lines(&rule.matching, family, named, lists) {
                writeln!(text, "    {conditions}goto {to}")?;
            }
        }
        writeln!(text, "    goto {}\n  }}", pick_name(family))?;
    }
    Ok(())
}

impl Ruleset<'_> {
    /// Whether rules are tried in the table: in eBPF mode only where a rule asks for marks, which the
    /// user's own rules set behind the programs.
    pub(super) fn tries_rules(&self) -> bool {
        let policy = &self.0.policy;
        let tried = !self.by_tc() || policy.asks_for_marks();
        !policy.rules.is_empty() && !self.0.downlinks.is_empty() && tried
    }

    /// The chain that tries the rules on a new flow of a family.
    pub(super) fn tried_chain(&self, family: Family) -> &'static str {
        if self.tries_rules() {
            chain(family)
        } else {
            pick_name(family)
        }
    }

    /// The slots and chains of the uplinks that rules name.
    pub(super) fn vias(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let policy = self.0.policy.iter();
        let used: BTreeSet<(usize, Otherwise)> =
            policy.map(|(rule, pool)| (pool, rule.otherwise)).collect();
        for (number, rule_pool) in self.0.rule_pools.iter().enumerate() {
            for family in Family::ALL {
                let pool = rule_pool.pools.get(family).as_ref();
                if pool.is_none_or(|pool| only(rule_pool, pool).is_none()) {
                    let picking = Picking {
                        identity: rule_pool.identity,
                        family,
                        affinity: rule_pool.affinity,
                        named: &rule_pool.named,
                        pool,
                        chain: &own(pick_name(family), number),
                        slots: &own(slots_name(family), number),
                    };
                    picking.write(f)?;
                }
            }
        }
        for (number, otherwise) in used {
            writeln!(f, "  chain {} {{", via(number, otherwise))?;
            for family in Family::ALL {
                let to = self.verdict(number, family, otherwise);
                writeln!(f, "    meta nfproto {} {to}", nfproto(family))?;
            }
            writeln!(f, "  }}")?;
        }
        Ok(())
    }

    fn verdict(&self, number: usize, family: Family, otherwise: Otherwise) -> String {
        let common = || format!("goto {}", pick_name(family));
        let Some(pool) = self.0.rule_pools.get(number) else {
            return common();
        };
        match pool.destination(family, otherwise) {
            Destination::Common => common(),
            Destination::Nowhere => "drop".to_owned(),
            Destination::Pool(members, _) => match only(pool, members) {
                Some(only) => format!("goto to_{only}"),
                None => format!("goto {}", own(pick_name(family), number)),
            },
        }
    }
}

/// The uplink of a pool that has no other, and of which nothing is remembered.
fn only(rule_pool: &RulePool, pool: &Pool) -> Option<UplinkId> {
    let mut members = pool.members.keys();
    match (
        members.next(),
        members.next(),
        rule_pool.affinity.remembers(),
    ) {
        (Some(only), None, None) => Some(*only),
        _ => None,
    }
}

const fn chain(family: Family) -> &'static str {
    match family {
        Family::Ipv4 => "rules4",
        Family::Ipv6 => "rules6",
    }
}

/// The name of what only the rules with these uplinks have.
fn own(name: &str, number: usize) -> String {
    format!("{name}_{number}")
}

fn via(number: usize, otherwise: Otherwise) -> String {
    match otherwise {
        Otherwise::Any => format!("via_{number}"),
        Otherwise::Drop => format!("via_{number}_drop"),
    }
}

/// Numbers the sets that get names, in the order in which rules name them.
fn named(policy: &Policy) -> Named<'_> {
    let mut uses: BTreeMap<&AddressSet, (usize, usize)> = BTreeMap::new();
    let rules = policy.rules.iter().map(|rule: &Rule| &rule.matching);
    let sets = rules.flat_map(|matching| [&matching.source, &matching.destination]);
    for set in sets.flatten().map(Arc::as_ref) {
        let next = uses.len();
        uses.entry(set).or_insert((next, 0)).1 += 1;
    }
    let mut worth: Vec<(usize, &AddressSet)> = uses
        .into_iter()
        .filter(|(set, (_, count))| {
            let ranges = Family::ALL.map(|family| set.numbers(family).count());
            ranges.iter().any(|ranges| *ranges > FEW)
                || *count > 1 && ranges.iter().any(|ranges| *ranges > 1)
        })
        .map(|(set, (first, _))| (first, set))
        .collect();
    worth.sort_unstable_by_key(|(first, _)| *first);
    let sets = worth.into_iter().map(|(_, set)| set);
    sets.zip(0..).collect()
}

fn set_name(family: Family, number: usize) -> String {
    format!("addresses{}_{number}", family_number(family))
}

fn named_set(text: &mut String, family: Family, set: &AddressSet, number: usize) -> fmt::Result {
    let kind = match family {
        Family::Ipv4 => "ipv4_addr",
        Family::Ipv6 => "ipv6_addr",
    };
    writeln!(text, "  set {} {{", set_name(family, number))?;
    writeln!(text, "    type {kind}\n    flags interval")?;
    write!(text, "    elements = {{ ")?;
    ranges(text, family, set)?;
    writeln!(text, " }}\n  }}")
}

/// The ranges of a family, as nft reads them.
fn ranges(text: &mut String, family: Family, set: &AddressSet) -> fmt::Result {
    for (position, (first, last)) in set.numbers(family).enumerate() {
        if position > 0 {
            text.push_str(", ");
        }
        range(text, family, first, last)?;
    }
    Ok(())
}

fn range(text: &mut String, family: Family, first: u128, last: u128) -> fmt::Result {
    let mut one = |number: u128| match (family, u32::try_from(number)) {
        (Family::Ipv4, Ok(number)) => write!(text, "{}", Ipv4Addr::from(number)),
        _ => write!(text, "{}", Ipv6Addr::from(number)),
    };
    one(first)?;
    if last > first {
        text.push('-');
        range(text, family, last, last)?;
    }
    Ok(())
}

/// What must hold, as nft has it, with a space behind each: a line for each mask that marks are
/// looked at by. None where it cannot hold of the family.
fn lines(matching: &Matching, family: Family, named: &Named<'_>, lists: &mut Lists) -> Vec<String> {
    let Some(conditions) = conditions(matching, family, named, lists) else {
        return Vec::new();
    };
    let Some(marks) = &matching.marks else {
        return vec![conditions];
    };
    let mut by_mask: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for MarkMatch { mask, value } in marks {
        let values = by_mask.entry(*mask).or_default();
        values.push(format!("{value:#010x}"));
    }
    by_mask
        .into_iter()
        .map(|(mask, values)| match values.as_slice() {
            [only] => format!("meta mark & {mask:#010x} == {only} {conditions}"),
            several => {
                let several = several.join(", ");
                format!("meta mark & {mask:#010x} {{ {several} }} {conditions}")
            }
        })
        .collect()
}

/// All but the marks. What is cheap, and what holds of few packets, comes first.
fn conditions(
    matching: &Matching,
    family: Family,
    named: &Named<'_>,
    lists: &mut Lists,
) -> Option<String> {
    if !can_hold(matching, family) {
        return None;
    }
    let mut text = String::new();
    if let Some(names) = &matching.interfaces {
        let names = names.iter().map(|name| format!("\"{name}\""));
        let names = lists.one_of(Kind::Interfaces, names);
        text.push_str(&format!("iifname {names} "));
    }
    let ip = match family {
        Family::Ipv4 => "ip",
        Family::Ipv6 => "ip6",
    };
    text.push_str(&service(matching, lists)?);
    if let Some(points) = &matching.dscp {
        let points = points.iter().map(|point| point.get());
        let points = match family {
            Family::Ipv4 => lists.one_of(Kind::CodePoints, points),
            // nft 1.0.6 looks them up wrongly in a set that has a name.
            Family::Ipv6 => anonymous(points),
        };
        text.push_str(&format!("{ip} dscp {points} "));
    }
    if let Some(macs) = &matching.macs {
        let macs = lists.one_of(Kind::HardwareAddresses, macs);
        text.push_str(&format!("ether saddr {macs} "));
    }
    for (field, set) in [
        ("daddr", &matching.destination),
        ("saddr", &matching.source),
    ] {
        if let Some(set) = set {
            text.push_str(&addresses(&format!("{ip} {field}"), family, set, named)?);
        }
    }
    Some(text)
}

/// Protocols and ports.
fn service(matching: &Matching, lists: &mut Lists) -> Option<String> {
    let Some(protocols) = matching.spoken() else {
        return Some(String::new());
    };
    let protocols: Vec<u8> = protocols.into_iter().map(|p| p.0).collect();
    if protocols.is_empty() {
        return None;
    }
    let mut text = format!("meta l4proto {} ", lists.one_of(Kind::Protocols, protocols));
    for (field, ports) in [
        ("dport", &matching.ports),
        ("sport", &matching.source_ports),
    ] {
        if let Some(ports) = ports {
            let ports = lists.one_of(Kind::Ports, some(ports)?);
            text.push_str(&format!("th {field} {ports} "));
        }
    }
    Some(text)
}

fn some(ports: &PortSet) -> Option<Vec<String>> {
    let ranges: Vec<String> = ports.ranges().map(|range| range.to_string()).collect();
    (!ranges.is_empty()).then_some(ranges)
}

/// Whether the addresses of a rule can be of a family at all.
fn can_hold(matching: &Matching, family: Family) -> bool {
    let sets = [&matching.source, &matching.destination];
    sets.into_iter().flatten().all(|set| !set.lacks(family))
}

fn addresses(field: &str, family: Family, set: &AddressSet, named: &Named<'_>) -> Option<String> {
    if set.is_everything(family) {
        // The line stands in the chain of the family.
        return Some(String::new());
    }
    if let Some(number) = named.get(set) {
        return Some(format!("{field} @{} ", set_name(family, *number)));
    }
    let mut text = String::new();
    ranges(&mut text, family, set).ok()?;
    Some(if set.numbers(family).nth(1).is_some() {
        format!("{field} {{ {text} }} ")
    } else {
        format!("{field} {text} ")
    })
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
