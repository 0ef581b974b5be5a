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
//! its flows go to at the moment, to those of all others, or, where they must not leave at all, to a
//! router that does not exist ([`NOBODY`]): the own nftables table refuses what goes there.
//!
//! That would be enough if the kernel asked once. For a TCP socket of IPv4 it asks again with the source
//! address that the first answer named (`ip_route_newports`), and then it looks like one that is bound to
//! an uplink. So those that are bound to nothing are told at once that it is prohibited, by a table of
//! its own. IPv6 cannot be told so: the kernel would take any address of the host and ask again
//! (`ip6_dst_lookup_tail` in its `net/ipv6/ip6_output.c`).
//!
//! Not all that is asked in the router's name is its own: nft's `fib` asks so for packets that pass, and
//! the kernel for each that comes in, when it checks the source address (`__fib_validate_source` in its
//! `net/ipv4/fib_frontend.c`; IPv4 only). These questions have addresses of others. So of IPv4 only
//! those meet the rules that have none, or one of the router's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crate::family::{Family, PerFamily};
use crate::policy::{Destination, Otherwise, OwnRule, OwnTraffic, Selector, Way};
use crate::select::Pool;
use crate::wanted::Situation;
use crate::wanted::routing::{
    Action, DEFAULT, Exceptions, MAIN, NextHop, Origin, Route, Rule, TableId, To,
};
use crate::wanted::rules::CATCH_ALL;

/// A router that does not exist, by family. RFC 3927 (section 2.1) lets no host have that address of
/// IPv4; that of IPv6 is of no hardware.
pub(super) const NOBODY: PerFamily<IpAddr> = PerFamily {
    ipv4: IpAddr::V4(Ipv4Addr::new(169, 254, 255, 253)),
    ipv6: IpAddr::V6(Ipv6Addr::new(
        0xfe80, 0, 0, 0, 0xffff, 0xffff, 0xffff, 0xfffd,
    )),
};

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
        let steps = steps(situation, family, own_rule, next);
        rules.extend(
            steps
                .into_iter()
                .map(|(at, selector, action)| rule(at, selector, action)),
        );
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
        let askers = askers(situation, family);
        rules.extend(askers.map(|asker| rule(CATCH_ALL, asker, Action::Goto(first))));
    }
    rules
}

/// Those whose questions may be the router's own.
fn askers(situation: &Situation, family: Family) -> impl Iterator<Item = Selector> {
    let everyone = (family == Family::Ipv6).then_some(Selector::ALL);
    let unbound = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let own = situation.own_addresses.iter().copied();
    let bound = std::iter::once(unbound)
        .chain(own)
        .filter(move |address| family == Family::Ipv4 && address.is_ipv4());
    everyone.into_iter().chain(bound.map(Selector::from))
}

/// What one of the user's rules comes to: for each stage the alternatives that lead to the next, and
/// behind them to the next of the user's rules.
fn steps(
    situation: &Situation,
    family: Family,
    own_rule: &OwnRule,
    first: u32,
) -> Vec<(u32, Selector, Action)> {
    let mut steps = Vec::new();
    let mut here = first;
    for stage in &own_rule.stages {
        for selector in stage {
            steps.push((here, selector.clone(), Action::Goto(here + 2)));
        }
        steps.push((here + 1, Selector::ALL, Action::Goto(first + STRIDE)));
        here += 2;
    }
    let OwnTraffic { ways, .. } = situation.policy.own_traffic();
    let may_refuse = ways
        .get(own_rule.way)
        .is_some_and(|way| refusable(way, family));
    let unbound = own_rule.last.iter().filter(|s| s.source.is_none());
    let refusals: Vec<Selector> = unbound
        .filter(|_| may_refuse)
        .map(|selector| Selector::from(Ipv4Addr::UNSPECIFIED.into()).and(selector.clone()))
        .collect();
    let last = [
        (situation.numbers.refusal(own_rule.way), refusals),
        (situation.numbers.way(own_rule.way), own_rule.last.clone()),
    ];
    for (table, selectors) in last {
        let behind = u32::from(!selectors.is_empty());
        let selectors = selectors.into_iter();
        steps.extend(selectors.map(|selector| (here, selector, Action::Lookup(table))));
        here += behind;
    }
    steps
}

/// Whether a way has a table that refuses.
fn refusable(way: &Way, family: Family) -> bool {
    family == Family::Ipv4 && way.otherwise == Otherwise::Drop
}

/// The routes of the ways' tables of a family.
pub(super) fn routes(situation: &Situation, family: Family) -> impl Iterator<Item = Route> {
    ways(situation, family).flat_map(move |(number, way)| {
        let (to, refused) = match destination(situation, family, way) {
            Some(Destination::Pool(pool, _)) => (to_pool(situation, family, pool), false),
            Some(Destination::Common) => {
                let all = situation.pools.get(family);
                (to_pool(situation, family, all), false)
            }
            Some(Destination::Nowhere) => (Some(to_nobody(situation, family)), true),
            None => (None, false),
        };
        let refusal = (refused && refusable(way, family)).then_some(To::Nowhere);
        let tables = [
            (situation.numbers.way(number), to),
            (situation.numbers.refusal(number), refusal),
        ];
        let route = move |(table, to): (TableId, Option<To>)| {
            let to = to?;
            Some(Route { table, family, to })
        };
        tables.into_iter().filter_map(route)
    })
}

/// Whether packets of a family to [`NOBODY`] must be refused at the moment.
pub(super) fn refuses(situation: &Situation, family: Family) -> bool {
    ways(situation, family)
        .any(|(_, way)| destination(situation, family, way) == Some(Destination::Nowhere))
}

fn destination<'s>(situation: &'s Situation, family: Family, way: &Way) -> Option<Destination<'s>> {
    let rule_pool = situation.rule_pools.get(way.pool)?;
    Some(rule_pool.destination(family, way.otherwise))
}

/// By any interface that exists.
fn to_nobody(situation: &Situation, family: Family) -> To {
    let mut paths = situation.uplinks.iter().filter_map(|u| u.path(family));
    paths.next().map_or(To::Nowhere, |path| To::Hops {
        hops: vec![NextHop {
            interface: path.interface,
            gateway: Some(*NOBODY.get(family)),
            onlink: true,
            weight: 1,
        }],
        source: None,
    })
}

/// What the ways' tables have nothing to say about.
pub(super) fn exceptions(situation: &Situation) -> Exceptions {
    let numbers = situation.numbers;
    let of_way = |family, number, way: &Way| {
        let except = way.except.get(family).as_ref()?;
        let refusal = refusable(way, family).then(|| numbers.refusal(number));
        let tables = [Some(numbers.way(number)), refusal];
        let except = Arc::clone(except);
        let place = move |table| ((table, family), Arc::clone(&except));
        Some(tables.into_iter().flatten().map(place))
    };
    Family::ALL
        .into_iter()
        .flat_map(|family| {
            let ways = ways(situation, family);
            ways.filter_map(move |(number, way)| of_way(family, number, way))
        })
        .flatten()
        .collect()
}

/// The ways that rules of a family lead to, and the number of each.
fn ways(situation: &Situation, family: Family) -> impl Iterator<Item = (usize, &Way)> {
    let OwnTraffic { ways, .. } = situation.policy.own_traffic();
    ways.iter()
        .enumerate()
        .filter(move |(_, way)| *way.used.get(family))
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
