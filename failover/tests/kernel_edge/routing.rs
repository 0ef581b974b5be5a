//! Routes and rules, compared with what `ip` prints.

use std::collections::BTreeSet;

use failover::family::Family;
use failover::kernel::RoutingTables;
use failover::kernel::routing::NetlinkRouting;
use failover::wanted::routing::{
    Action, NextHop, Origin, Route, Routing, RoutingChange, Rule, Selector, TableId, To,
};
use libtest_mimic::Trial;
use serde_json::Value;

use super::namespace::{feed, index, ip, run, trial, uplinks};

const TABLE: TableId = TableId(300);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "routing: any form of route replaces any other, and nothing stays of it",
            any_form_replaces_any_other,
        ),
        trial(
            "routing: a route without gateways carries packets by every interface",
            no_gateways,
        ),
        trial("routing: a rule is never there twice", rules),
        trial(
            "routing: what others put there stays, strays of ours go",
            foreign_and_stray,
        ),
        trial(
            "routing: a refusal says what was tried and what the kernel says",
            refusals,
        ),
        trial(
            "routing: others' routes are not read, however many there are",
            large_main_table,
        ),
    ]
}

fn hop(interface: &str, gateway: Option<&str>, onlink: bool, weight: u16) -> NextHop {
    NextHop {
        interface: index(interface),
        gateway: gateway.map(|text| text.parse().unwrap()),
        onlink,
        weight,
    }
}

fn route(family: Family, mut hops: Vec<NextHop>, source: Option<&str>) -> Route {
    hops.sort();
    Route {
        table: TABLE,
        family,
        to: To::Hops {
            hops,
            source: source.map(|text| text.parse().unwrap()),
        },
    }
}

fn forms(family: Family) -> Vec<Route> {
    let mut forms = forms_of_both(family);
    forms.push(Route {
        table: TABLE,
        family,
        to: To::Nowhere,
    });
    if family == Family::Ipv4 {
        let neighbour = Some("fe80::1");
        forms.push(route(family, vec![hop("wan1", neighbour, false, 1)], None));
        forms.push(route(
            family,
            vec![
                hop("wan1", neighbour, false, 1),
                hop("wan2", neighbour, false, 2),
            ],
            None,
        ));
    }
    forms
}

fn forms_of_both(family: Family) -> Vec<Route> {
    let (gateway1, gateway2, off_link, source) = match family {
        Family::Ipv4 => ("198.18.11.1", "198.18.12.1", "203.0.113.1", "198.18.11.2"),
        Family::Ipv6 => ("fd00:11::1", "fe80::1", "fd00:77::1", "fd00:11::2"),
    };
    let (gateway1, gateway2, off_link) = (Some(gateway1), Some(gateway2), Some(off_link));
    vec![
        route(family, vec![hop("wan1", gateway1, false, 1)], Some(source)),
        route(family, vec![hop("wan2", gateway2, false, 1)], None),
        route(family, vec![hop("wan1", off_link, true, 1)], None),
        route(family, vec![hop("ppp1", None, false, 1)], None),
        route(
            family,
            vec![
                hop("wan1", gateway1, false, 3),
                hop("wan2", gateway2, false, 256),
            ],
            None,
        ),
        route(
            family,
            vec![
                hop("wan1", off_link, true, 2),
                hop("wan2", gateway2, false, 2),
                hop("ppp1", None, false, 1),
            ],
            None,
        ),
        route(
            family,
            vec![hop("ppp1", None, false, 5), hop("ppp2", None, false, 1)],
            None,
        ),
    ]
}

fn only(route: &Route) -> Routing {
    Routing {
        routes: BTreeSet::from([route.clone()]),
        ..Routing::default()
    }
}

/// What `ip` says of a next hop: interface, gateway (where it is one that we asked for), weight.
fn shown(route: &Route) -> BTreeSet<(String, Option<String>, u64)> {
    let option = match route.family {
        Family::Ipv4 => "-4",
        Family::Ipv6 => "-6",
    };
    let listed = ip(&format!("{option} route show table {}", route.table.0));
    assert_eq!(listed.len(), 1, "one route, not {listed:?}");
    let listed = &listed[0];
    assert_eq!(listed["dst"], "default");
    assert_eq!(listed["protocol"], "102");
    if route.to == To::Nowhere {
        assert_eq!(listed["type"], "prohibit");
        return BTreeSet::new();
    }
    assert_eq!(
        listed["prefsrc"].as_str().map(str::to_owned),
        route.source().map(|source| source.to_string())
    );
    let alone = vec![listed.clone()];
    let hops = listed["nexthops"].as_array().unwrap_or(&alone);
    let text = |value: &Value| value.as_str().map(str::to_owned);
    hops.iter()
        .map(|hop| {
            (
                text(&hop["dev"]).unwrap(),
                text(&hop["gateway"])
                    .or_else(|| text(&hop["via"]["host"]))
                    .filter(|gateway| !gateway.starts_with("fe80::ffff")),
                hop["weight"].as_u64().unwrap_or(1),
            )
        })
        .collect()
}

fn names() -> Vec<(u32, String)> {
    ip("link show")
        .iter()
        .map(|link| {
            (
                u32::try_from(link["ifindex"].as_u64().unwrap()).unwrap(),
                link["ifname"].as_str().unwrap().to_owned(),
            )
        })
        .collect()
}

async fn any_form_replaces_any_other() {
    uplinks();
    let mut routing = NetlinkRouting::open().unwrap();
    let names = names();
    for family in Family::ALL {
        let forms = forms(family);
        for before in &forms {
            for after in &forms {
                for route in [before, after] {
                    let change = RoutingChange::ReplaceRoute(route.clone());
                    routing
                        .change(&change)
                        .await
                        .unwrap_or_else(|error| panic!("{before:?}\n→ {after:?}:\n{error}"));
                }
                assert_eq!(
                    routing.installed().await.unwrap(),
                    only(after),
                    "after {before:?}"
                );
                let wanted: BTreeSet<_> = after
                    .hops()
                    .iter()
                    .map(|hop| {
                        let (_, name) = names
                            .iter()
                            .find(|(index, _)| *index == hop.interface.0)
                            .unwrap();
                        (
                            name.clone(),
                            hop.gateway.map(|gateway| gateway.to_string()),
                            u64::from(hop.weight),
                        )
                    })
                    .collect();
                assert_eq!(shown(after), wanted, "after {before:?}");
            }
        }
        // Gone, and gone again: no error.
        for _ in 0..2 {
            let change = RoutingChange::DeleteRoute(forms[0].clone());
            routing.change(&change).await.unwrap();
            assert_eq!(routing.installed().await.unwrap(), Routing::default());
        }
    }
}

async fn no_gateways() {
    uplinks();
    let mut routing = NetlinkRouting::open().unwrap();
    for (family, target) in [
        (Family::Ipv4, "203.0.113.1:9"),
        (Family::Ipv6, "[fd00:77::1]:9"),
    ] {
        let route = route(
            family,
            vec![hop("ppp1", None, false, 1), hop("ppp2", None, false, 1)],
            None,
        );
        let table = TableId(254);
        // Where unmarked packets look, but under our own protocol number.
        let change = RoutingChange::ReplaceRoute(Route { table, ..route });
        routing.change(&change).await.unwrap();
        let sent = |name: &str| {
            ip(&format!("-s link show {name}"))[0]["stats64"]["tx"]["packets"]
                .as_u64()
                .unwrap()
        };
        let before = [sent("ppp1"), sent("ppp2")];
        for port in 20_000..20_064 {
            let local = match family {
                Family::Ipv4 => format!("0.0.0.0:{port}"),
                Family::Ipv6 => format!("[::]:{port}"),
            };
            let socket = std::net::UdpSocket::bind(local).unwrap();
            // Flows are told apart by their ports where the kernel is asked to.
            std::fs::write("/proc/sys/net/ipv4/fib_multipath_hash_policy", "1").unwrap();
            std::fs::write("/proc/sys/net/ipv6/fib_multipath_hash_policy", "1").unwrap();
            socket.send_to(b"x", target).unwrap();
        }
        let after = [sent("ppp1"), sent("ppp2")];
        for (before, after) in before.iter().zip(after) {
            assert!(
                after - before >= 10,
                "{family}: 64 flows, of which one interface carried {}",
                after - before
            );
        }
    }
}

fn our_rules(family: Family) -> Vec<Rule> {
    let address = match family {
        Family::Ipv4 => "198.18.11.2",
        Family::Ipv6 => "fd00:11::2",
    };
    let rule = |priority, selector, action| Rule {
        priority,
        family,
        origin: if priority < 1004 {
            Origin::Local
        } else {
            Origin::Any
        },
        selector,
        action,
    };
    let mark = |value| Selector::mark(value, 0xff00_0000);
    vec![
        rule(1000, mark(0x8100_0000), Action::Lookup(TableId(301))),
        rule(
            1001,
            Selector::mark(0x8000_0000, 0x8000_0000),
            Action::Unreachable,
        ),
        rule(
            1002,
            mark(0x0100_0000),
            Action::LookupSpecific(TableId(254)),
        ),
        rule(1003, mark(0x0100_0000), Action::Lookup(TableId(301))),
        rule(
            1004,
            Selector::from(address.parse().unwrap()),
            Action::Lookup(TableId(70_301)),
        ),
        // Of one preference: the order in which they are added counts.
        rule(32765, Selector::ALL, Action::LookupSpecific(TableId(254))),
        rule(32765, Selector::ALL, Action::Lookup(TABLE)),
    ]
}

async fn rules() {
    let mut routing = NetlinkRouting::open().unwrap();
    for (family, option) in [(Family::Ipv4, "-4"), (Family::Ipv6, "-6")] {
        let before = ip(&format!("{option} rule"));
        let rules = our_rules(family);
        for _ in 0..2 {
            for rule in &rules {
                let change = RoutingChange::AddRule(rule.clone());
                routing.change(&change).await.unwrap();
            }
        }
        let installed = routing.installed().await.unwrap();
        assert_eq!(installed.rules, rules.iter().cloned().collect());
        let listed = run(&format!("ip {option} rule"));
        for line in [
            "1000:\tfrom all fwmark 0x81000000/0xff000000 iif lo lookup 301 proto 102",
            "1001:\tfrom all fwmark 0x80000000/0x80000000 iif lo unreachable proto 102",
            "1002:\tfrom all fwmark 0x1000000/0xff000000 iif lo lookup main suppress_prefixlength 0 proto 102",
            "1003:\tfrom all fwmark 0x1000000/0xff000000 iif lo lookup 301 proto 102",
            "32765:\tfrom all lookup main suppress_prefixlength 0 proto 102",
            "32765:\tfrom all lookup 300 proto 102",
        ] {
            assert_eq!(
                listed.matches(&format!("{line}\n")).count(),
                1,
                "once `{line}` in\n{listed}"
            );
        }
        assert!(listed.contains("lookup 70301 proto 102"), "{listed}");
        for _ in 0..2 {
            for rule in &rules {
                let change = RoutingChange::DeleteRule(rule.clone());
                routing.change(&change).await.unwrap();
            }
        }
        assert_eq!(ip(&format!("{option} rule")), before);
    }
}

async fn foreign_and_stray() {
    uplinks();
    let mut routing = NetlinkRouting::open().unwrap();
    // The same as ours in everything but who put it there, and things of ours that we never write.
    run(
        "ip -4 rule add pref 1000 fwmark 0x81000000/0xff000000 lookup 301 protocol static
         ip -6 rule add pref 1003 fwmark 0x1000000/0xff000000 lookup 301
         ip -4 rule add not fwmark 0xca6c lookup 51820 pref 900
         ip -4 route add default via 198.18.12.1 metric 5 table 300 proto static
         ip -4 route add 192.0.2.0/24 via 198.18.12.1 table 300 proto static
         ip -6 route add default via fd00:12::1 metric 5 table 300 proto static
         ip -6 route add blackhole fd00:5::/64 table 300 proto static",
    );
    let list = || {
        [
            "-4 rule",
            "-6 rule",
            "-4 route show table 300",
            "-6 route show table 300",
        ]
        .map(ip)
    };
    let foreign = list();

    run("ip -4 rule add pref 1500 iif wan1 lookup 301 protocol 102
         ip -6 rule add pref 1500 tos 0x10 lookup 301 protocol 102
         ip -6 rule add pref 1501 fwmark 0x5 blackhole protocol 102
         ip -4 route add default via 198.18.11.1 metric 9 table 300 proto 102
         ip -4 route add 192.0.2.128/25 via 198.18.11.1 table 300 proto 102
         ip -4 route add blackhole 198.51.100.0/24 table 7777 proto 102
         ip -6 route add default via fd00:11::1 dev wan1 metric 9 table 300 proto 102
         ip -6 route add unreachable fd00:6::/64 table 300 proto 102
         ip -6 route add default metric 77 table 300 proto 102 \
            nexthop via fe80::1 dev wan1 nexthop via fe80::1 dev wan2");
    let mut wanted = Routing::default();
    for family in Family::ALL {
        for rule in our_rules(family) {
            let change = RoutingChange::AddRule(rule.clone());
            routing.change(&change).await.unwrap();
            wanted.rules.insert(rule);
        }
        let route = forms(family).remove(0);
        let change = RoutingChange::ReplaceRoute(route.clone());
        routing.change(&change).await.unwrap();
        wanted.routes.insert(route);
    }
    // "replace" makes a second, identical rule; another program might have done it.
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let mut twice = handle.rule().add().v4().replace();
    {
        use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute};
        let message = twice.message_mut();
        message.header.table = 0;
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Protocol(102.into()),
            RuleAttribute::Priority(32765),
            RuleAttribute::Table(300),
        ];
    }
    twice.execute().await.unwrap();
    assert_eq!(run("ip -4 rule").matches("32765:").count(), 3);

    assert_eq!(routing.installed().await.unwrap(), wanted);
    assert_eq!(run("ip -4 rule").matches("32765:").count(), 2);
    assert_eq!(
        run("ip -4 rule; ip -6 rule").matches("proto 102").count(),
        14
    );
    assert_eq!(
        run("ip -4 route show table all; ip -6 route show table all")
            .matches("proto 102")
            .count(),
        2
    );

    for route in wanted.routes {
        let change = RoutingChange::DeleteRoute(route);
        routing.change(&change).await.unwrap();
    }
    for rule in wanted.rules {
        let change = RoutingChange::DeleteRule(rule);
        routing.change(&change).await.unwrap();
    }
    assert_eq!(list(), foreign);
    assert_eq!(routing.installed().await.unwrap(), Routing::default());
}

async fn refusals() {
    uplinks();
    let mut routing = NetlinkRouting::open().unwrap();
    let off_link = route(
        Family::Ipv4,
        vec![hop("wan1", Some("203.0.113.1"), false, 1)],
        None,
    );
    let change = RoutingChange::ReplaceRoute(off_link);
    let error = routing.change(&change).await.unwrap_err().to_string();
    assert!(
        error.contains("ip -4 route replace default table 300 via 203.0.113.1 dev if")
            && error.contains("Nexthop has invalid gateway"),
        "{error}"
    );
}

async fn large_main_table() {
    uplinks();
    let mut routing = NetlinkRouting::open().unwrap();
    let route = forms(Family::Ipv4).remove(0);
    let change = RoutingChange::ReplaceRoute(route.clone());
    routing.change(&change).await.unwrap();
    let mut listed = async || {
        let before = routing.listed();
        assert_eq!(routing.installed().await.unwrap(), only(&route));
        routing.listed() - before
    };
    let beside_few = listed().await;
    assert!(beside_few > 0);
    let batch: String = (0..10_000)
        .map(|n| {
            let (high, low) = (n / 250, n % 250);
            format!("route add 198.19.{high}.{low}/32 via 198.18.11.1 proto bird\n")
        })
        .collect();
    feed("ip -batch -", &batch);
    assert_eq!(listed().await, beside_few);
}
