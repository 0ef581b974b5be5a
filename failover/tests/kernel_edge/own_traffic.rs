//! What the router's own traffic meets: rules with each kind of selector, and tables that have nothing
//! to say about some destinations.

use std::collections::BTreeSet;
use std::sync::Arc;

use failover::family::Family;
use failover::flows::Protocol;
use failover::kernel::RoutingTables;
use failover::kernel::routing::NetlinkRouting;
use failover::policy::{MarkMatch, PortRange};
use failover::wanted::difference::difference;
use failover::wanted::routing::{
    Action, NextHop, Origin, Route, Routing, Rule, Selector, TableId, To,
};
use ipnet::IpNet;
use libtest_mimic::Trial;

use super::namespace::{index, run, trial, uplinks};

const ONE: TableId = TableId(428);
const NOWHERE: TableId = TableId(429);
const TWO: TableId = TableId(302);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "own traffic: the kernel goes by rules of every kind as they are written",
            rules_of_every_kind,
        ),
        trial(
            "own traffic: ten thousand exceptions are written, read and taken back",
            exceptions,
        ),
    ]
}

fn to(interface: &str, gateway: &str) -> To {
    To::Hops {
        hops: vec![NextHop {
            interface: index(interface),
            gateway: Some(gateway.parse().unwrap()),
            onlink: false,
            weight: 1,
        }],
        source: None,
    }
}

fn gateways(family: Family) -> [&'static str; 2] {
    match family {
        Family::Ipv4 => ["198.18.11.1", "198.18.12.1"],
        Family::Ipv6 => ["fd00:11::1", "fd00:12::1"],
    }
}

/// A table that leads to the first uplink, one to the second, and one to nowhere.
fn tables(family: Family) -> BTreeSet<Route> {
    let [one, two] = gateways(family);
    let all = [
        (ONE, to("wan1", one)),
        (TWO, to("wan2", two)),
        (NOWHERE, To::Nowhere),
    ];
    let route = |(table, to)| Route { table, family, to };
    all.into_iter().map(route).collect()
}

async fn carry_out(routing: &mut NetlinkRouting, wanted: &Routing) {
    let installed = routing.installed().await.unwrap();
    for change in difference(wanted, &installed) {
        routing.change(&change).await.unwrap();
    }
    assert_eq!(routing.installed().await.unwrap(), *wanted);
}

/// The interface by which a packet of this host goes, as `ip` is told; what the kernel says instead.
fn way(family: Family, packet: &str) -> String {
    let option = match family {
        Family::Ipv4 => "-4",
        Family::Ipv6 => "-6",
    };
    let listed = run(&format!("ip {option} route get {packet} 2>&1 || true"));
    let mut words = listed.split_whitespace();
    match words.find(|word| *word == "dev") {
        Some(_) if !listed.contains("prohibit") => words.next().unwrap_or_default().to_owned(),
        _ => listed,
    }
}

async fn rules_of_every_kind() {
    uplinks();
    let mut routing = NetlinkRouting::open().unwrap();
    for family in Family::ALL {
        let (server, net, client) = match family {
            Family::Ipv4 => ("203.0.113.1", "203.0.113.0/24", "198.18.11.2"),
            Family::Ipv6 => ("fd00:99::1", "fd00:99::/64", "fd00:11::2"),
        };
        let ports = |first, last| Some(PortRange { first, last });
        let selectors = [
            Selector {
                protocol: Some(Protocol::TCP),
                ports: ports(25, 25),
                ..Selector::ALL
            },
            Selector {
                protocol: Some(Protocol(17)),
                source_ports: ports(1000, 1999),
                ..Selector::ALL
            },
            Selector {
                destination: Some(net.parse().unwrap()),
                protocol: Some(Protocol(17)),
                ports: ports(99, 99),
                ..Selector::ALL
            },
            Selector {
                mark: Some(MarkMatch {
                    mask: 0xff,
                    value: 7,
                }),
                ..Selector::ALL
            },
            Selector::from(client.parse().unwrap()),
        ];
        let rule = |priority, selector, action| Rule {
            priority,
            family,
            origin: Origin::Local,
            selector,
            action,
        };
        let bound = Selector {
            bound_to: Some("wan1".parse().unwrap()),
            ..Selector::ALL
        };
        let forbidden = Selector {
            protocol: Some(Protocol::TCP),
            ports: ports(465, 465),
            ..Selector::ALL
        };
        let mut rules = BTreeSet::from([
            rule(32765, Selector::ALL, Action::Goto(40_000)),
            rule(40_000, bound, Action::Lookup(ONE)),
            rule(40_001, forbidden, Action::Lookup(NOWHERE)),
            rule(50_000, Selector::ALL, Action::Lookup(TWO)),
        ]);
        let asked = (40_010..).step_by(10).zip(selectors);
        rules.extend(asked.map(|(at, selector)| rule(at, selector, Action::Lookup(ONE))));
        let wanted = Routing {
            routes: tables(family),
            rules,
            ..Routing::default()
        };
        carry_out(&mut routing, &wanted).await;
        for (packet, expected) in [
            ("ipproto tcp dport 25", "wan1"),
            ("ipproto tcp dport 26", "wan2"),
            ("ipproto udp dport 25", "wan2"),
            ("ipproto udp sport 1500 dport 53", "wan1"),
            ("ipproto udp sport 2000 dport 53", "wan2"),
            ("ipproto udp dport 99", "wan1"),
            ("mark 0x107", "wan1"),
            ("mark 0x106", "wan2"),
            ("oif wan1 ipproto tcp dport 465", "wan1"),
        ] {
            assert_eq!(
                way(family, &format!("{server} {packet}")),
                expected,
                "{packet}"
            );
        }
        assert_eq!(way(family, &format!("{server} from {client}")), "wan1");
        let said = way(family, &format!("{server} ipproto tcp dport 465"));
        assert!(
            said.contains("Permission denied") || said.contains("prohibit"),
            "{said}"
        );
        carry_out(&mut routing, &Routing::default()).await;
    }
}

async fn exceptions() {
    uplinks();
    let mut routing = NetlinkRouting::open().unwrap();
    for family in Family::ALL {
        let prefix = |n: u32| -> IpNet {
            let text = match family {
                Family::Ipv4 => format!("198.19.{}.{}/31", n / 128, n % 128 * 2),
                Family::Ipv6 => format!("fd00:19:{n:x}::/48"),
            };
            text.parse().unwrap()
        };
        let rule = |priority, table| Rule {
            priority,
            family,
            origin: Origin::Local,
            selector: Selector::ALL,
            action: Action::Lookup(table),
        };
        let with = |except: BTreeSet<IpNet>| Routing {
            routes: tables(family),
            rules: BTreeSet::from([rule(40_000, ONE), rule(40_010, TWO)]),
            exceptions: [((ONE, family), Arc::new(except))].into(),
        };
        carry_out(&mut routing, &with((0..10_000).map(prefix).collect())).await;
        let address = |n| prefix(n).addr().to_string();
        for n in [0, 4_999, 9_999] {
            assert_eq!(way(family, &address(n)), "wan2");
        }
        assert_eq!(way(family, &address(10_000)), "wan1");
        // Some go, and others come.
        carry_out(&mut routing, &with((5_000..10_001).map(prefix).collect())).await;
        assert_eq!(way(family, &address(0)), "wan1");
        assert_eq!(way(family, &address(10_000)), "wan2");
        carry_out(&mut routing, &Routing::default()).await;
    }
}
