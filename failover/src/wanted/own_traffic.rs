//! What the router's own traffic meets where the user's rules are for it: `ip rule`s beyond the
//! preferences of the kernel's own, to which one rule before the base table leads, and a table for
//! each way in which its rules name uplinks.
//!
//! | preference | rule | why |
//! | --- | --- | --- |
//! | 40000 | `oif INTERFACE` → the uplink's table | who binds himself to an uplink is left alone |
//! | from 40010, ten for each | the user's rule → the way's table | see [`OwnTraffic`] |
//! | the end | → the base table, then `main`, then `default` | as for everything that nobody steers |
//!
//! While uplinks come and go the rules stay, and each way's table has one route: to the uplinks that
//! its flows go to at the moment, to those of all others, or nowhere. For IPv4 that is a route that says
//! "prohibited". For IPv6 it leads to a router that does not exist ([`NOBODY`]), and the own nftables
//! table refuses what goes there: told that it is prohibited, the kernel would take any address of the
//! host for the socket and ask again (`ip6_dst_lookup_tail` in its `net/ipv6/ip6_output.c`), as if it
//! were bound to that.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use crate::family::Family;
use crate::policy::{Destination, OwnRule, OwnTraffic, Selector, Way};
use crate::select::Pool;
use crate::wanted::Situation;
use crate::wanted::routing::{
    Action, DEFAULT, Exceptions, MAIN, NextHop, Origin, Route, Rule, TableId, To,
};
use crate::wanted::rules::CATCH_ALL;

/// A router of IPv6 that does not exist: its address is of no hardware.
pub(super) const NOBODY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xffff, 0xffff, 0xffff, 0xfffd);

/// The preference at which it begins: behind the kernel's own, so that nothing comes here that is not
/// led here.
const BEGINNING: u32 = 40_000;
/// How many preferences each of the user's rules has.
const STRIDE: u32 = 10;

/// The `ip rule`s of a family.
pub(super) fn rules(situation: &Situation, family: Family) -> Vec<Rule> {
    let own = situation.policy.own_traffic();
    let asked = own.rules.get(family);
    if asked.is_empty() {
        return Vec::new();
    }
    let rule = |priority, selector, action| Rule {
        priority,
        family,
        origin: Origin::Local,
        selector,
        action,
    };
    let mut rules: Vec<Rule> = situation
        .uplinks
        .iter()
        .filter(|uplink| situation.has_own_interface(uplink))
        .map(|uplink| {
            let selector = Selector {
                bound_to: Some(uplink.interface.clone()),
                ..Selector::ALL
            };
            let table = situation.numbers.table(uplink.id);
            rule(BEGINNING, selector, Action::Lookup(table))
        })
        .collect();
    let mut next = BEGINNING;
    for own_rule in asked {
        next += STRIDE;
        let table = situation.numbers.way(own_rule.way);
        for (priority, selector, action) in steps(own_rule, next, table) {
            rules.push(rule(priority, selector, action));
        }
    }
    let closed = *situation.closed.get(family);
    let end = [
        Some(Action::Lookup(situation.numbers.base())),
        closed.then_some(Action::Unreachable),
        Some(Action::Lookup(MAIN)),
        Some(Action::Lookup(DEFAULT)),
    ];
    for (priority, action) in (next + STRIDE..).zip(end.into_iter().flatten()) {
        rules.push(rule(priority, Selector::ALL, action));
    }
    if let Some(first) = rules.iter().map(|rule| rule.priority).min() {
        rules.push(rule(CATCH_ALL, Selector::ALL, Action::Goto(first)));
    }
    rules
}

/// What one of the user's rules comes to: for each stage the alternatives that lead to the next, and
/// behind them to the next of the user's rules.
fn steps(own_rule: &OwnRule, first: u32, table: TableId) -> Vec<(u32, Selector, Action)> {
    let mut steps = Vec::new();
    let mut here = first;
    for stage in &own_rule.stages {
        for selector in stage {
            steps.push((here, selector.clone(), Action::Goto(here + 2)));
        }
        steps.push((here + 1, Selector::ALL, Action::Goto(first + STRIDE)));
        here += 2;
    }
    for selector in &own_rule.last {
        steps.push((here, selector.clone(), Action::Lookup(table)));
    }
    steps
}

/// The routes of the ways' tables of a family.
pub(super) fn routes(situation: &Situation, family: Family) -> impl Iterator<Item = Route> {
    ways(situation, family).filter_map(move |(table, way)| {
        let to = match destination(situation, family, way)? {
            Destination::Pool(pool, _) => to_pool(situation, family, pool)?,
            Destination::Common => to_pool(situation, family, situation.pools.get(family))?,
            Destination::Nowhere => nowhere(situation, family),
        };
        Some(Route { table, family, to })
    })
}

/// Whether packets to [`NOBODY`] must be refused at the moment.
pub(super) fn refuses(situation: &Situation) -> bool {
    ways(situation, Family::Ipv6)
        .any(|(_, way)| destination(situation, Family::Ipv6, way) == Some(Destination::Nowhere))
}

fn destination<'s>(situation: &'s Situation, family: Family, way: &Way) -> Option<Destination<'s>> {
    let rule_pool = situation.rule_pools.get(way.pool)?;
    Some(rule_pool.destination(family, way.otherwise))
}

fn nowhere(situation: &Situation, family: Family) -> To {
    let mut paths = situation.uplinks.iter().filter_map(|u| u.path(family));
    match (family, paths.next()) {
        // By any interface that exists.
        (Family::Ipv6, Some(path)) => To::Hops {
            hops: vec![NextHop {
                interface: path.interface,
                gateway: Some(NOBODY.into()),
                onlink: true,
                weight: 1,
            }],
            source: None,
        },
        _ => To::Nowhere,
    }
}

/// What the ways' tables have nothing to say about.
pub(super) fn exceptions(situation: &Situation) -> Exceptions {
    Family::ALL
        .into_iter()
        .flat_map(|family| {
            ways(situation, family).filter_map(move |(table, way)| {
                let except = way.except.get(family).as_ref()?;
                Some(((table, family), Arc::clone(except)))
            })
        })
        .collect()
}

/// The ways that rules of a family lead to, and the table of each.
fn ways(situation: &Situation, family: Family) -> impl Iterator<Item = (TableId, &Way)> {
    let OwnTraffic { ways, .. } = situation.policy.own_traffic();
    ways.iter()
        .enumerate()
        .filter(move |(_, way)| *way.used.get(family))
        .map(|(number, way)| (situation.numbers.way(number), way))
}

/// A route to the members of a pool. With several next hops the kernel takes each one's own source
/// address.
pub(super) fn to_pool(situation: &Situation, family: Family, pool: &Pool) -> Option<To> {
    let members: Vec<(NextHop, IpAddr)> = pool
        .members
        .iter()
        .filter_map(|(&id, &weight)| {
            let path = situation.uplink(id)?.path(family)?;
            let hop = NextHop {
                interface: path.interface,
                gateway: path.gateway,
                onlink: path.onlink,
                weight,
            };
            Some((hop, path.source))
        })
        .collect();
    match members.as_slice() {
        [] => None,
        [(hop, source)] => Some(To::Hops {
            hops: vec![NextHop { weight: 1, ..*hop }],
            source: Some(*source),
        }),
        several => {
            let mut hops: Vec<NextHop> = several.iter().map(|(hop, _)| *hop).collect();
            hops.sort_unstable();
            Some(To::Hops { hops, source: None })
        }
    }
}

#[cfg(test)]
#[path = "own_traffic_tests.rs"]
mod tests;
