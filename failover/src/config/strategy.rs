//! The keys `strategy`, of priorities and of rules, and `capacity`, which strategies go by.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::model::{Percent, UplinkConfig};
use super::problem::Problem;
use super::quality::percent;
use super::section::{Given, Keys, Problems, Read, Section, Value};
use super::tree::Content;
use super::uplinks::Claims;
use super::value::{rate, word_or};
use crate::interface::InterfaceName;
use crate::load::{Capacity, Rate};
use crate::select::{Strategies, Strategy};
use crate::uplink::UplinkName;

const KEYS: Keys = Keys {
    known: &["overflow"],
    later: &[],
};
const CAPACITY_KEYS: Keys = Keys {
    known: &["down", "up"],
    later: &[],
};
const ALLOWED: &str = "weight, least_latency, overflow or a map such as {overflow: 80%}";
const ALLOWED_FOR_ALL: &str = "weight, least_latency, overflow, {overflow: 80%}, or a map of these by \
     priority, such as {1: least_latency, 2: weight}";
const WORDS: [(&str, Strategy); 3] = [
    ("weight", Strategy::Weight),
    ("least_latency", Strategy::LeastLatency),
    ("overflow", Strategy::Overflow(SHARE)),
];

/// An uplink is full at this share, where the file does not say it: what begins until it is seen
/// still finds room.
const SHARE: Percent = Percent::NINE_TENTHS;
/// The least share: an uplink that is full is so until it carries 15 points less.
const LEAST_SHARE: u16 = 200;
const CAPACITIES: RangeInclusive<u64> = 8_000..=1_000_000_000_000;
const WITHOUT_CAPACITY: &str = "weight or least_latency, or a `capacity` of at least one of its uplinks: \
     without one an uplink is never full";

/// Strategies as they are said: for a priority, or for all.
pub(super) type Said<'v> = Vec<(Option<u32>, Strategy, Value<'v>)>;

/// One strategy.
pub(super) fn strategy(value: &Value<'_>) -> Read<Strategy> {
    one(value, ALLOWED)
}

/// That of all priorities, or those of single ones.
pub(super) fn strategies<'v>(value: &Value<'v>) -> Read<Said<'v>> {
    let by_priority = match &value.node.content {
        Content::Map(entries) => entries
            .iter()
            .any(|entry| entry.key.starts_with(|c: char| c.is_ascii_digit())),
        _ => false,
    };
    if !by_priority {
        return Ok(vec![(None, one(value, ALLOWED_FOR_ALL)?, value.clone())]);
    }
    let mut said = Vec::new();
    let mut problems = Problems::default();
    for (key, place, value) in value.named(ALLOWED_FOR_ALL)? {
        let priority = key.parse().ok().filter(|p| (1..=65_535).contains(p));
        if priority.is_none() {
            let found = format!("`{}`", super::problem::shown(key));
            let problem = value.problem_with(found, "a priority, 1 to 65535");
            problems.0.push(problem.at(place));
        }
        match one(&value, ALLOWED) {
            Ok(strategy) => said.push((priority, strategy, value)),
            Err(more) => problems.0.extend(more.0),
        }
    }
    if problems.0.is_empty() {
        Ok(said)
    } else {
        Err(problems)
    }
}

fn one(value: &Value<'_>, allowed: &str) -> Read<Strategy> {
    if let Content::Map(entries) = &value.node.content
        && !entries.is_empty()
    {
        let mut section = Section::open(value, &KEYS)?;
        let share = section.read("overflow", share);
        return section.finish(share.ok().map(Strategy::Overflow));
    }
    word_or(value, &WORDS, allowed)
}

fn share(value: &Value<'_>) -> Read<Percent> {
    percent(value)
        .ok()
        .filter(|share| share.tenths() >= LEAST_SHARE)
        .ok_or_else(|| value.problem("20% to 100%, written such as 80%").into())
}

/// What the strategies are, once it is known that they can be.
pub(super) fn resolved(said: Said<'_>) -> Strategies {
    let mut strategies = Strategies::default();
    for (priority, strategy, _) in said {
        match priority {
            Some(priority) => {
                strategies.by_priority.insert(priority, strategy);
            }
            None => strategies.of_others = strategy,
        }
    }
    strategies
}

/// Priorities that no uplink has, and those that could never overflow.
pub(super) fn misfits(
    said: &Said<'_>,
    uplinks: &BTreeMap<UplinkName, UplinkConfig>,
) -> Vec<Problem> {
    let problem = |(priority, strategy, at): &(Option<u32>, Strategy, Value<'_>)| {
        let mut of_it = uplinks
            .values()
            .filter(|uplink| priority.is_none_or(|priority| priority == uplink.priority))
            .peekable();
        if of_it.peek().is_none() {
            let priorities: BTreeSet<u32> = uplinks.values().map(|u| u.priority).collect();
            let priorities: Vec<String> = priorities.iter().map(ToString::to_string).collect();
            return Some(at.problem_with(
                "a strategy of a priority that no uplink has",
                format!("the priorities of uplinks: {}", priorities.join(", ")),
            ));
        }
        without_capacity(*strategy, of_it.any(|uplink| uplink.capacity.is_some()), at)
    };
    said.iter().filter_map(problem).collect()
}

/// An overflow that could never be.
pub(super) fn without_capacity(
    strategy: Strategy,
    any_capacity: bool,
    at: &Value<'_>,
) -> Option<Problem> {
    let never = matches!(strategy, Strategy::Overflow(_)) && !any_capacity;
    never.then(|| at.problem(WITHOUT_CAPACITY))
}

/// Reads `capacity`.
pub(super) fn capacity(value: &Value<'_>) -> Read<Capacity> {
    const DIRECTIONS: &str = "a rate, such as 100Mbit";
    let read = |value: &Value<'_>| rate(value, CAPACITIES).map(Rate);
    if !matches!(value.node.content, Content::Map(_)) {
        let both = read(value)?;
        return Ok(Capacity {
            down: both,
            up: both,
        });
    }
    let mut section = Section::open(value, &CAPACITY_KEYS)?;
    let down = section.read("down", read);
    section.require(&down, "down", DIRECTIONS);
    let up = section.read("up", read);
    section.require(&up, "up", DIRECTIONS);
    let capacity = down.ok().zip(up.ok());
    section.finish(capacity.map(|(down, up)| Capacity { down, up }))
}

/// Capacities of uplinks on an interface whose counters do not tell what is theirs.
pub(super) fn untold_capacities(
    claims: &[Claims<'_>],
    downlinks: &[InterfaceName],
) -> Vec<Problem> {
    let interface = |claim: &Claims<'_>| claim.interface.good().map(|(name, _)| name.clone());
    let problem = |(position, claim): (usize, &Claims<'_>)| {
        let (_, at) = claim.capacity.good()?;
        let own = interface(claim)?;
        let mut others = claims.iter().enumerate();
        let other = others
            .find(|(other, claim)| *other != position && interface(claim).as_ref() == Some(&own));
        let found = match other {
            Some((_, other)) => {
                format!(
                    "a capacity on `{own}`, the interface of `{}` too",
                    other.name
                )
            }
            None if downlinks.contains(&own) => {
                format!("a capacity on `{own}`, which is a downlink too")
            }
            None => return None,
        };
        let allowed = "none there: the counters of such an interface do not tell how much the uplink \
             carries";
        Some(at.problem_with(found, allowed))
    };
    claims.iter().enumerate().filter_map(problem).collect()
}

/// The uplinks that have a capacity; `None` where `uplinks` has problems of its own.
pub(super) fn with_capacity(
    uplinks: &Given<'_, BTreeMap<UplinkName, UplinkConfig>>,
) -> Option<BTreeSet<UplinkName>> {
    let (uplinks, _) = uplinks.good()?;
    let with = uplinks.iter().filter(|(_, u)| u.capacity.is_some());
    Some(with.map(|(name, _)| name.clone()).collect())
}
