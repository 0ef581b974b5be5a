//! The router's own traffic meets the rules in their order: rules, tables and exceptions are asked here
//! as the kernel asks them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::flows::Protocol;
use crate::policy::{Dscp, Facts, MarkMatch, Matching, Otherwise, Rule as UserRule, first_match};
use crate::wanted::difference::difference;
use crate::wanted::fixture::{addresses, ports, rule, three_uplinks, with_rules};
use crate::wanted::routing::{Routing, RoutingChange};
use crate::wanted::ruleset::ruleset;

/// Where a packet of a socket goes.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    By(BTreeSet<u32>),
    Forbidden,
    Unrouted,
}

/// What a socket asks: where to, and what it is bound to.
fn question(destination: &str, protocol: u8, port: u16) -> Facts {
    let destination: IpAddr = destination.parse().unwrap();
    let unbound = match Family::of(destination) {
        Family::Ipv4 => "0.0.0.0",
        Family::Ipv6 => "::",
    };
    Facts {
        interface: None,
        source: unbound.parse().unwrap(),
        destination,
        protocol: Protocol(protocol),
        source_port: 40_000,
        port,
        dscp: Dscp::default(),
        mark: 0,
        mac: None,
    }
}

fn holds(selector: &Selector, facts: &Facts, bound_to: Option<&str>) -> bool {
    let within = |prefix: Option<IpNet>, address: IpAddr| {
        prefix.is_none_or(|prefix| prefix.contains(&address))
    };
    let Selector {
        mark,
        source,
        destination,
        protocol,
        source_ports,
        ports,
        bound_to: interface,
    } = selector;
    mark.is_none_or(|mark| mark.holds(facts.mark))
        && within(*source, facts.source)
        && within(*destination, facts.destination)
        && protocol.is_none_or(|protocol| protocol == facts.protocol)
        && source_ports.is_none_or(|r| (r.first..=r.last).contains(&facts.source_port))
        && ports.is_none_or(|r| (r.first..=r.last).contains(&facts.port))
        && interface
            .as_ref()
            .is_none_or(|name| Some(name.as_str()) == bound_to)
}

fn sent(routing: &Routing, facts: &Facts, bound_to: Option<&str>) -> Sent {
    let family = Family::of(facts.destination);
    // As the kernel keeps them: by preference, and then in the order in which they were added.
    let added = difference(routing, &Routing::default());
    let mut rules: Vec<&Rule> = added
        .iter()
        .filter_map(|change| match change {
            RoutingChange::AddRule(rule) if rule.family == family => Some(rule),
            _ => None,
        })
        .collect();
    rules.sort_by_key(|rule| rule.priority);
    let nobody = *NOBODY.get(family);
    let mut from = 0;
    for rule in rules {
        let others = rule.origin == Origin::Others;
        if rule.priority < from || others || !holds(&rule.selector, facts, bound_to) {
            continue;
        }
        match rule.action {
            Action::Goto(priority) => {
                let there = routing.rules.iter().any(|r| r.priority == priority);
                assert!(there, "nothing to go on with: {rule:?}");
                from = priority;
            }
            Action::Unreachable => return Sent::Unrouted,
            Action::LookupSpecific(_) | Action::Nothing => {}
            Action::Lookup(table) => {
                let thrown = routing
                    .exceptions
                    .get(&(table, family))
                    .is_some_and(|all| all.iter().any(|one| one.contains(&facts.destination)));
                let route = routing
                    .routes
                    .iter()
                    .find(|route| route.table == table && route.family == family);
                match route {
                    Some(route) if !thrown && leads_nowhere(route, nobody) => {
                        return Sent::Forbidden;
                    }
                    Some(route) if !thrown => {
                        let hops = route.hops().iter().map(|hop| hop.interface.0);
                        return Sent::By(hops.collect());
                    }
                    _ => {}
                }
            }
        }
    }
    Sent::Unrouted
}

fn leads_nowhere(route: &Route, nobody: IpAddr) -> bool {
    let mut hops = route.hops().iter();
    route.to == To::Nowhere || hops.any(|hop| hop.gateway == Some(nobody))
}

fn by(interfaces: &[u32]) -> Sent {
    Sent::By(interfaces.iter().copied().collect())
}

fn mail() -> UserRule {
    let matching = Matching {
        protocols: Some([Protocol::TCP].into()),
        ports: ports(&[(25, 25), (587, 587)]),
        ..Matching::default()
    };
    rule(matching, &["a"], Otherwise::Drop)
}

#[test]
fn without_rules_nothing_is_asked() {
    let wanted = three_uplinks().wanted().routing;
    assert!(wanted.rules.iter().all(|rule| rule.priority <= CATCH_ALL));
    assert!(
        !wanted
            .rules
            .iter()
            .any(|rule| matches!(rule.action, Action::Goto(to) if to > CATCH_ALL))
    );
    let users = Matching {
        interfaces: Some(["lan0".parse().unwrap()].into()),
        ..Matching::default()
    };
    let wanted = with_rules(vec![rule(users, &["a"], Otherwise::Any)], &[]).wanted();
    assert!(
        wanted
            .routing
            .rules
            .iter()
            .all(|rule| rule.priority <= CATCH_ALL)
    );
}

#[test]
fn mail_goes_by_its_uplink_or_is_forbidden_and_all_else_goes_where_it_went() {
    let working = with_rules(vec![mail()], &[]).wanted().routing;
    for port in [25, 587] {
        let asked = question("192.0.2.1", 6, port);
        assert_eq!(sent(&working, &asked, None), by(&[11]));
    }
    for (protocol, port) in [(6, 26), (17, 25), (1, 0)] {
        let asked = question("192.0.2.1", protocol, port);
        assert_eq!(sent(&working, &asked, None), by(&[11, 12, 13]));
    }
    let dead = with_rules(vec![mail()], &["a"]).wanted().routing;
    let asked = question("192.0.2.1", 6, 25);
    assert_eq!(sent(&dead, &asked, None), Sent::Forbidden);
    let refused = "rt ip nexthop 169.254.255.253 reject with icmpx admin-prohibited";
    assert!(ruleset(&with_rules(vec![mail()], &["a"])).contains(refused));
    assert!(!ruleset(&with_rules(vec![mail()], &[])).contains("chain forbidden"));
    // Who binds himself to an uplink is left alone.
    assert_eq!(sent(&dead, &asked, Some("wan2")), by(&[12]));
    let bound = Facts {
        source: "198.18.12.2".parse().unwrap(),
        ..asked
    };
    assert_eq!(sent(&dead, &bound, None), by(&[12]));
}

#[test]
fn a_failover_changes_one_route_of_each_way_and_no_rule() {
    let rules = || {
        vec![
            mail(),
            rule(Matching::default(), &["b", "a"], Otherwise::Any),
        ]
    };
    let before = with_rules(rules(), &[]).wanted().routing;
    let after = with_rules(rules(), &["b"]).wanted().routing;
    let changes = difference(&after, &before);
    assert!(
        matches!(
            changes.as_slice(),
            [
                RoutingChange::ReplaceRoute(_),
                RoutingChange::ReplaceRoute(_)
            ]
        ),
        "one for each family: {changes:?}"
    );
}

#[test]
fn what_rules_lead_to_is_there_before_they_do_and_longer() {
    let some = with_rules(vec![mail()], &[]).wanted().routing;
    let none = with_rules(Vec::new(), &[]).wanted().routing;
    for (from, to) in [(&none, &some), (&some, &none)] {
        let mut routing = from.clone();
        for change in difference(to, from) {
            routing.carry_out(&change);
            let there: BTreeSet<(Family, u32)> = routing
                .rules
                .iter()
                .map(|rule| (rule.family, rule.priority))
                .collect();
            for rule in &routing.rules {
                if let (CATCH_ALL, Action::Goto(priority)) = (rule.priority, rule.action) {
                    assert!(there.contains(&(rule.family, priority)), "{change:?}");
                    let asked = match rule.family {
                        Family::Ipv4 => question("192.0.2.1", 17, 53),
                        Family::Ipv6 => question("fd00:9::1", 17, 53),
                    };
                    assert_ne!(sent(&routing, &asked, None), Sent::Unrouted, "{change:?}");
                }
            }
        }
        assert_eq!(&routing, to);
    }
}

#[test]
fn tables_step_over_the_kernels_own() {
    let mut situation = three_uplinks();
    situation.numbers.base_table = 120;
    let ways: Vec<u32> = (1..=3).map(|n| situation.numbers.way(n).0).collect();
    assert_eq!(ways, [250, 252, 257]);
    assert_eq!(situation.numbers.refusal(2).0, 256);
    situation.numbers.base_table = 300;
    assert_eq!(situation.numbers.way(0).0, 428);
    assert_eq!(situation.numbers.refusal(0).0, 429);
}

#[test]
fn what_is_asked_for_packets_of_others_meets_no_rule_of_users() {
    let routing = with_rules(vec![mail()], &["a"]).wanted().routing;
    let asked = Facts {
        source: "203.0.113.9".parse().unwrap(),
        ..question("192.0.2.1", 6, 25)
    };
    assert_eq!(sent(&routing, &asked, None), by(&[11, 12, 13]));
}

/// Rules of which each condition has none, one or several values.
fn user_rule() -> impl Strategy<Value = UserRule> {
    let destination = prop_oneof![
        Just(None),
        Just(addresses(&["192.0.2.0/24", "fd00:9::/64"])),
        Just(addresses(&["192.0.2.10-192.0.2.19", "fd00:9::5"])),
        // More than are rules of their own.
        Just(addresses(&[
            "192.0.2.1-192.0.2.254",
            "fd00:9::1-fd00:9::fe"
        ])),
        Just(addresses(&["198.51.100.0/24"])),
        Just(addresses(&["0.0.0.0/0", "::/0"])),
    ];
    let service = prop_oneof![
        Just((None, None)),
        Just((Some(vec![6]), None)),
        Just((Some(vec![6, 17]), ports(&[(25, 25), (80, 90)]))),
        Just((None, ports(&[(1, 1023)]))),
        Just((Some(vec![1, 17]), ports(&[(53, 53)]))),
        Just((Some(vec![1]), ports(&[(53, 53)]))),
    ];
    let marks = prop_oneof![
        3 => Just(None),
        1 => Just(Some(vec![1])),
        1 => Just(Some(vec![1, 2])),
    ];
    let source = prop_oneof![
        3 => Just(None),
        1 => Just(addresses(&["198.18.0.1", "10.0.0.8/29"])),
    ];
    let via = prop_oneof![
        Just(vec!["a"]),
        Just(vec!["b"]),
        Just(vec!["c", "a"]),
        Just(vec!["a+b"]),
    ];
    let otherwise = prop_oneof![Just(Otherwise::Any), Just(Otherwise::Drop)];
    (destination, service, marks, source, via, otherwise).prop_map(
        |(destination, (protocols, ports), marks, source, via, otherwise)| {
            let mark = |value| MarkMatch { mask: 0xff, value };
            let matching = Matching {
                source,
                destination,
                protocols: protocols.map(|all| all.into_iter().map(Protocol).collect()),
                ports,
                marks: marks.map(|all: Vec<u32>| all.into_iter().map(mark).collect()),
                ..Matching::default()
            };
            rule(matching, &via, otherwise)
        },
    )
}

fn packet() -> impl Strategy<Value = Facts> {
    let destination = prop::sample::select(vec![
        "192.0.2.1",
        "192.0.2.15",
        "192.0.2.255",
        "198.51.100.7",
        "203.0.113.1",
        "fd00:9::5",
        "fd00:9::ff",
        "fd00:8::1",
    ]);
    let service = prop::sample::select(vec![
        (6, 25),
        (6, 85),
        (17, 53),
        (17, 2000),
        (1, 0),
        (47, 0),
    ]);
    let bound = any::<bool>();
    (destination, service, 0_u32..3, bound).prop_map(|(to, (protocol, port), mark, bound)| {
        let mut facts = question(to, protocol, port);
        facts.mark = mark;
        if bound && Family::of(facts.destination) == Family::Ipv4 {
            facts.source = "198.18.0.1".parse().unwrap();
        }
        facts
    })
}

proptest! {
    #[test]
    fn the_kernel_is_asked_what_the_model_says(
        rules in prop::collection::vec(user_rule(), 1..8),
        packets in prop::collection::vec(packet(), 16),
        down in prop::sample::subsequence(vec!["a", "b"], 0..=2),
    ) {
        let situation = with_rules(rules.clone(), &down);
        let routing = situation.wanted().routing;
        for facts in packets {
            let family = Family::of(facts.destination);
            let members = |pool: &Pool| -> Sent {
                let interface = |id: &crate::uplink::UplinkId| 10 + u32::from(id.get());
                Sent::By(
                    pool.members
                        .keys()
                        .filter(|id| situation.uplink(**id).unwrap().path(family).is_some())
                        .map(interface)
                        .collect(),
                )
            };
            let common = || members(situation.pools.get(family));
            let expected = match first_match(&rules, &facts) {
                None => common(),
                Some(position) => {
                    let pool = &situation.rule_pools[situation.policy.pool_of[position]];
                    match pool.destination(family, rules[position].otherwise) {
                        Destination::Pool(pool, _) => members(pool),
                        Destination::Common => common(),
                        Destination::Nowhere => Sent::Forbidden,
                    }
                }
            };
            // Uplink `c` has no IPv6, which the fixture's pools of rules do not know.
            let unspoken = expected == by(&[]);
            prop_assert!(
                unspoken || sent(&routing, &facts, None) == expected,
                "{facts:?}: {:?}, not {expected:?}", sent(&routing, &facts, None)
            );
        }
    }
}
