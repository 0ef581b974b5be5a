//! The keys `sets` and `rules`: which uplinks new flows may use.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::Arc;

use super::affinity::affinity;
use super::matching::{Known, matching};
use super::model::FastPathSetting;
use super::problem::{Problem, shown};
use super::rule::RuleConfig;
use super::section::{Keys, Problems, Read, Section, Value, did_you_mean};
use super::settings::FAST_PATH;
use super::strategy::{strategy, without_capacity};
use super::tree::Content;
use super::value::{integer, line_of_text, path, word};
use crate::policy::{
    AddressRange, AddressSet, Group, InvalidSetName, Otherwise, SetName, SetSource, Via,
};
use crate::select::Strategy;
use crate::uplink::UplinkName;

const KEYS: Keys = Keys {
    known: &[
        "name",
        "match",
        "via",
        "strategy",
        "affinity",
        "otherwise",
        "fastpath",
    ],
    later: &[],
};
const OTHERWISE: [(&str, Otherwise); 2] = [("any", Otherwise::Any), ("drop", Otherwise::Drop)];
/// As those of uplinks.
const WEIGHTS: RangeInclusive<u16> = 1..=256;

/// How many rules there may be: the programs have a bit for each
/// ([`failover_common::rules::MOST_RULES`]).
const MOST_RULES: usize = failover_common::rules::MOST_RULES as usize;

/// How many different masks of marks there may be.
const MOST_MASKS: usize = failover_common::rules::MOST_MASKS;

/// The longest path of a file.
const LONGEST_PATH: usize = 3840;

/// Reads `sets`.
pub(super) fn sets(value: &Value<'_>) -> Read<BTreeMap<SetName, SetSource>> {
    const ALLOWED: &str = "a map of sets, such as {offices: [198.51.100.0/24], streaming: /etc/failover/streaming.txt}";
    let mut sets = BTreeMap::new();
    let mut problems = Problems::default();
    for (name, place, value) in value.named(ALLOWED)? {
        let parsed: Result<SetName, InvalidSetName> = name.parse();
        match (parsed, set(&value)) {
            (Ok(name), Ok(set)) => {
                sets.insert(name, set);
            }
            (parsed, read) => {
                if parsed.is_err() {
                    let allowed =
                        "a name of 1 to 32 of the characters a-z A-Z 0-9 _ -, the first a letter";
                    let found = format!("`{}`", shown(name));
                    problems
                        .0
                        .push(value.problem_with(found, allowed).at(place));
                }
                problems.0.extend(read.err().unwrap_or_default().0);
            }
        }
    }
    if problems.0.is_empty() {
        Ok(sets)
    } else {
        Err(problems)
    }
}

fn set(value: &Value<'_>) -> Read<SetSource> {
    const ALLOWED: &str = "a list of addresses, prefixes and ranges, or the absolute path of a file with one in each line";
    if matches!(value.node.content, Content::List(_)) {
        let ranges = value.list(ALLOWED, addresses)?;
        let set = AddressSet::of(ranges.into_iter().map(|(range, _)| range));
        return Ok(SetSource::Inline(Arc::new(set)));
    }
    path(value, LONGEST_PATH)
        .map(SetSource::File)
        .map_err(|_| value.problem(ALLOWED).into())
}

/// Addresses in one of the three forms that they are written in.
pub(super) fn addresses(value: &Value<'_>) -> Read<AddressRange> {
    let text = value.spelled().unwrap_or_default();
    text.parse()
        .map_err(|error: crate::policy::InvalidAddresses| value.problem(error.to_string()).into())
}

/// Reads `rules`.
pub(super) fn rules(value: &Value<'_>, known: &Known<'_>) -> Read<Vec<RuleConfig>> {
    const ALLOWED: &str = "a list of rules, such as [{name: mail, match: {protocol: tcp, ports: [25]}, via: [fiber]}]";
    let mut position = 0;
    let rules = value.list(ALLOWED, |value| {
        position += 1;
        rule(value, position, known)
    })?;
    if rules.len() > MOST_RULES {
        let found = format!("{} rules", rules.len());
        return Err(value
            .problem_with(found, format!("at most {MOST_RULES} rules"))
            .into());
    }
    let masks: BTreeSet<u32> = rules
        .iter()
        .flat_map(|(rule, _)| rule.matching.marks.iter().flatten().map(|mark| mark.mask))
        .collect();
    if masks.len() > MOST_MASKS {
        let found = format!("{} different masks of marks", masks.len());
        let allowed = format!("at most {MOST_MASKS} different masks in all rules");
        return Err(value.problem_with(found, allowed).into());
    }
    let mut seen = BTreeMap::new();
    let again: Vec<Problem> = rules
        .iter()
        .filter_map(|(rule, at)| {
            let before = seen.insert(rule.name.as_str(), rule.place)?;
            Some(
                at.problem_with(
                    format!("a rule named `{}` again", shown(&rule.name)),
                    "a name that no other rule has",
                )
                .hint(format!("the other one is at {before}")),
            )
        })
        .collect();
    if again.is_empty() {
        Ok(rules.into_iter().map(|(rule, _)| rule).collect())
    } else {
        Err(Problems(again))
    }
}

fn rule(value: &Value<'_>, position: usize, known: &Known<'_>) -> Read<RuleConfig> {
    let mut section = Section::open(value, &KEYS)?;
    let name = section.read("name", line_of_text);
    let matching = section.read("match", |v| matching(v, known));
    let groups = section.read("via", |v| groups(v, known));
    section.require(&groups, "via", VIA);
    let strategy = section.read("strategy", strategy);
    if let (Some((groups, _)), Some((strategy, at)), Some(with)) =
        (groups.good(), strategy.good(), &known.with_capacity)
    {
        let mut named = groups.iter().flat_map(|Group(members)| members);
        let any = named.any(|(name, _)| with.contains(name));
        if let Some(problem) = without_capacity(*strategy, any, at) {
            section.problem(problem);
        }
    }
    let affinity = section.read("affinity", affinity).ok();
    let otherwise = section
        .read("otherwise", |v| word(v, &OTHERWISE))
        .or(Otherwise::Any);
    let fast_path = section
        .read("fastpath", |v| word(v, &FAST_PATH))
        .or(FastPathSetting::Auto);
    let rule = groups.ok().map(|groups| RuleConfig {
        name: name.ok().unwrap_or_else(|| format!("rule {position}")),
        place: value.place(),
        matching: matching.ok().unwrap_or_default(),
        via: Via {
            groups,
            affinity,
            strategy: strategy.or(Strategy::Weight),
        },
        otherwise,
        fast_path,
    });
    section.finish(rule)
}

const VIA: &str = "a list of uplinks in the order of their use, such as [fiber, lte], or a pool with \
     weights, such as {fiber: 3, lte: 1}, or a list of both";

/// The uplinks of a rule: a pool, or a list of uplinks and pools.
fn groups(value: &Value<'_>, known: &Known<'_>) -> Read<Vec<Group>> {
    let groups = match &value.node.content {
        Content::Map(_) => vec![(pool(value, known)?, value.clone())],
        Content::List(_) => value.list(VIA, |v| group(v, known))?,
        _ => vec![(group(value, known)?, value.clone())],
    };
    if groups.is_empty() {
        return Err(value.problem(VIA).into());
    }
    let mut seen = BTreeSet::new();
    let mut again = Vec::new();
    for (Group(members), at) in &groups {
        for (name, _) in members {
            if !seen.insert(name.clone()) {
                again.push(at.problem_with(format!("`{name}` again"), "each uplink once"));
            }
        }
    }
    if again.is_empty() {
        Ok(groups.into_iter().map(|(group, _)| group).collect())
    } else {
        Err(Problems(again))
    }
}

fn group(value: &Value<'_>, known: &Known<'_>) -> Read<Group> {
    if matches!(value.node.content, Content::Map(_)) {
        return pool(value, known);
    }
    let Some(name) = value.spelled() else {
        return Err(value.problem(VIA).into());
    };
    Ok(Group(vec![(uplink(name, value, known)?, 1)]))
}

fn pool(value: &Value<'_>, known: &Known<'_>) -> Read<Group> {
    let mut members = Vec::new();
    let mut problems = Problems::default();
    for (name, place, value) in value.named(VIA)? {
        let weight = integer(&value, WEIGHTS);
        match (uplink(name, &value, known), weight) {
            (Ok(name), Ok(weight)) => members.push((name, weight)),
            (name, weight) => {
                let unknown = name.err().unwrap_or_default().0.into_iter();
                problems.0.extend(unknown.map(|problem| problem.at(place)));
                problems.0.extend(weight.err().unwrap_or_default().0);
            }
        }
    }
    if !problems.0.is_empty() {
        Err(problems)
    } else if members.is_empty() {
        Err(value.problem(VIA).into())
    } else {
        members.sort_unstable();
        Ok(Group(members))
    }
}

fn uplink(name: &str, at: &Value<'_>, known: &Known<'_>) -> Read<UplinkName> {
    let parsed: Option<UplinkName> = name.parse().ok();
    // Where `uplinks` itself is wrong, that is enough.
    let Some(uplinks) = &known.uplinks else {
        return parsed.ok_or_else(|| unknown_uplink(name, at, &BTreeSet::new()).into());
    };
    parsed
        .filter(|name| uplinks.contains(name))
        .ok_or_else(|| unknown_uplink(name, at, uplinks).into())
}

fn unknown_uplink(name: &str, at: &Value<'_>, uplinks: &BTreeSet<UplinkName>) -> Problem {
    let names: Vec<&str> = uplinks.iter().map(UplinkName::as_str).collect();
    let allowed = format!("the name of an uplink: {}", names.join(", "));
    at.problem_with(format!("`{}`", shown(name)), allowed)
        .hint(did_you_mean(name, &names))
}
