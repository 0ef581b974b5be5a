//! What the engine decides when addresses, gateways and prefixes of uplinks change.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::controller::engine::tests::{Bench, YAML, id, view};
use crate::controller::engine::{Decision, Forget};
use crate::family::Family;
use crate::interface::InterfaceIndex;
use crate::network::{DefaultRoute, InterfaceAddress};
use crate::state::RememberedHealth;
use crate::wanted::routing::{Route, TableId};

const OLD: &str = "198.18.11.2";
const NEW: &str = "198.18.11.3";

/// As long as two rounds of probes.
const GRACE_IN_ROUNDS: u64 = 2;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn former(uplink: u8, address: &str, elsewhere: bool) -> BTreeSet<Forget> {
    BTreeSet::from([Forget::Former {
        uplink: id(uplink),
        address: ip(address),
        elsewhere,
    }])
}

impl Bench {
    fn settled() -> Self {
        let mut bench = Self::new(YAML);
        bench.rounds(1, &[]);
        bench.decide();
        bench.engine.take_notices();
        bench
    }

    fn gives(&mut self, interface: u32, address: &str) {
        let own = InterfaceAddress {
            interface: InterfaceIndex(interface),
            address: ip(address),
            prefix_len: 24,
        };
        self.view.addresses.push(own);
    }

    fn takes(&mut self, interface: u32, address: &str) {
        let link = InterfaceIndex(interface);
        self.view
            .addresses
            .retain(|own| own.interface != link || own.address != ip(address));
    }

    /// Takes the IPv4 default route of an interface out of `main`.
    fn loses_route(&mut self, interface: u32) -> Vec<DefaultRoute> {
        let link = InterfaceIndex(interface);
        let routes = &mut self.view.default_routes;
        routes
            .extract_if(.., |route| {
                route.interface == link && route.family == Family::Ipv4
            })
            .collect()
    }
}

fn route(decision: &Decision, table: u32) -> Option<&Route> {
    let mut routes = decision.wanted.routing.routes.iter();
    routes.find(|route| route.table == TableId(table) && route.family == Family::Ipv4)
}

#[test]
fn an_address_that_comes_back_at_once_costs_no_flow() {
    let mut bench = Bench::settled();
    let before = bench.engine.status(bench.now().at);
    bench.takes(1, OLD);
    let routes = bench.loses_route(1);
    bench.look();
    let without = bench.decide();
    assert_eq!(without.forget, BTreeSet::new());
    assert_eq!(bench.members(Family::Ipv4), [2], "new flows go elsewhere");
    let kept = route(&without, 301).expect("open flows go on");
    assert_eq!(
        kept.source(),
        None,
        "the kernel takes no source that is not there"
    );
    assert!(kept.hops()[0].onlink, "no prefix leads to the gateway");
    let told = bench.engine.status(bench.now().at);
    assert_eq!(told.uplinks[0].ipv4.state, before.uplinks[0].ipv4.state);
    assert!(bench.engine.take_notices().is_empty());

    bench.rounds(GRACE_IN_ROUNDS - 1, &[]);
    bench.gives(1, OLD);
    bench.look();
    bench.view.default_routes.extend(routes);
    bench.look();
    let with = bench.decide();
    assert_eq!(with.forget, BTreeSet::new());
    assert_eq!(bench.members(Family::Ipv4), [1, 2]);
    assert_eq!(route(&with, 301).unwrap().source(), Some(ip(OLD)));
    assert!(!route(&with, 301).unwrap().hops()[0].onlink);
}

#[test]
fn an_address_that_stays_away_takes_the_uplink_out() {
    let mut bench = Bench::settled();
    bench.takes(1, OLD);
    bench.look();
    bench.decide();
    let due = bench.engine.look_again().expect("it is looked at again");
    bench.rounds(GRACE_IN_ROUNDS, &[]);
    assert_eq!(due, bench.now().at);
    bench.look();
    assert!(bench.engine.is_stale());
    let forget = bench.decide().forget;
    assert!(forget.contains(&Forget::Uplink(id(1), Family::Ipv4)));
    assert!(!forget.contains(&Forget::Uplink(id(1), Family::Ipv6)));
}

#[test]
fn a_new_address_is_waited_for_together_with_its_route() {
    let mut bench = Bench::settled();
    bench.takes(1, OLD);
    let routes = bench.loses_route(1);
    bench.look();
    bench.rounds(1, &[]);
    bench.gives(1, NEW);
    bench.look();
    assert_eq!(bench.decide().forget, BTreeSet::new());
    bench.view.default_routes.extend(routes);
    bench.look();
    let decision = bench.decide();
    assert_eq!(decision.forget, former(1, OLD, false));
    assert!(decision.wanted.ruleset.contains("snat ip to 198.18.11.3"));
    let forgotten = decision.forget;
    bench.engine.forgotten(&forgotten);
    assert_eq!(bench.decide().forget, BTreeSet::new());
}

#[test]
fn the_old_address_is_forgotten_when_it_goes_after_the_new_one_came() {
    let mut bench = Bench::settled();
    bench.takes(1, OLD);
    bench.gives(1, NEW);
    bench.gives(1, OLD);
    bench.look();
    assert_eq!(bench.decide().forget, BTreeSet::new(), "it is still there");
    bench.takes(1, OLD);
    bench.look();
    bench.decide();
    bench.rounds(GRACE_IN_ROUNDS, &[]);
    assert_eq!(bench.engine.look_again(), Some(bench.now().at));
    bench.look();
    assert!(bench.engine.is_stale());
    assert_eq!(bench.decide().forget, former(1, OLD, false));
}

#[test]
fn the_same_address_of_another_uplink_is_not_touched() {
    let mut bench = Bench::settled();
    bench.gives(2, OLD);
    bench.look();
    bench.decide();
    bench.takes(1, OLD);
    let routes = bench.loses_route(1);
    bench.look();
    let without = bench.decide();
    assert_eq!(bench.members(Family::Ipv4), [2]);
    let kept = route(&without, 301).expect("open flows go on");
    assert_eq!((kept.source(), kept.hops()[0].onlink), (None, true));
    bench.gives(1, NEW);
    bench.view.default_routes.extend(routes);
    bench.look();
    assert_eq!(bench.decide().forget, former(1, OLD, true));
}

#[test]
fn a_route_that_comes_back_after_its_address_is_waited_for_anew() {
    let mut bench = Bench::settled();
    let routes = bench.loses_route(1);
    bench.look();
    bench.rounds(GRACE_IN_ROUNDS, &[]);
    bench.takes(1, OLD);
    bench.look();
    let due = bench.engine.look_again().expect("it is looked at again");
    assert!(due > bench.now().at);
    bench.rounds(1, &[]);
    bench.gives(1, OLD);
    bench.look();
    bench.rounds(GRACE_IN_ROUNDS, &[]);
    bench.view.default_routes.extend(routes);
    bench.look();
    assert_eq!(bench.decide().forget, BTreeSet::new());
}

#[test]
fn a_former_address_is_remembered_until_its_flows_are_forgotten() {
    let mut bench = Bench::settled();
    bench.takes(1, OLD);
    bench.gives(1, NEW);
    bench.look();
    let remembers = |bench: &Bench| {
        let remembered = bench.engine.remembered_addresses();
        remembered.values().any(|own| own.contains(&ip(OLD)))
    };
    assert!(remembers(&bench));
    bench.decide();
    assert!(!remembers(&bench));
}

#[test]
fn a_reload_while_an_address_is_expected_back_costs_no_flow() {
    let mut bench = Bench::settled();
    bench.takes(1, OLD);
    let routes = bench.loses_route(1);
    bench.look();
    bench.decide();
    let (_, decision) = bench.reload(&format!("{YAML}rule_priority: 1100\n"));
    assert_eq!(decision.forget, BTreeSet::new());
    bench.gives(1, OLD);
    bench.view.default_routes.extend(routes);
    bench.look();
    assert_eq!(bench.decide().forget, BTreeSet::new());
    assert_eq!(bench.members(Family::Ipv4), [1, 2]);
}

#[test]
fn another_gateway_moves_the_route_and_no_flow() {
    let mut bench = Bench::settled();
    for mut route in bench.loses_route(1) {
        route.gateway = Some(ip("198.18.11.9"));
        bench.view.default_routes.push(route);
    }
    bench.look();
    let decision = bench.decide();
    assert_eq!(decision.forget, BTreeSet::new());
    let hop = route(&decision, 301).unwrap().hops()[0];
    assert_eq!(hop.gateway, Some(ip("198.18.11.9")));
}

#[test]
fn an_address_that_is_back_before_its_second_deletion_keeps_its_new_flows() {
    let mut bench = Bench::settled();
    bench.takes(1, OLD);
    bench.gives(1, NEW);
    bench.look();
    let forget = bench.decide().forget;
    bench.engine.forgotten(&forget);
    let again = |bench: &Bench| forget.iter().any(|flows| bench.engine.forgets_again(flows));
    assert!(again(&bench));
    bench.gives(1, OLD);
    bench.look();
    assert!(!again(&bench));
}

#[test]
fn what_changes_while_no_daemon_runs_is_seen_to_by_the_next_one() {
    let before = Bench::settled().engine.remembered_addresses();
    let mut view = view();
    for own in &mut view.addresses {
        if own.address == ip(OLD) {
            own.address = ip(NEW);
        }
    }
    let mut bench = Bench::with(YAML, view, &RememberedHealth::new());
    let now = bench.now().at;
    bench.engine.resume_addresses(&before, now);
    assert_eq!(bench.decide().forget, BTreeSet::new(), "it may come back");
    bench.rounds(GRACE_IN_ROUNDS, &[]);
    assert_eq!(bench.engine.look_again(), Some(bench.now().at));
    bench.look();
    assert_eq!(bench.decide().forget, former(1, OLD, false));
    let after = bench.engine.remembered_addresses();
    assert!(after.values().any(|own| own.contains(&ip(NEW))));
    assert!(!after.values().any(|own| own.contains(&ip(OLD))));
}

#[test]
fn a_virtual_address_is_no_source_and_takes_no_flow_with_it() {
    let yaml = YAML.replace(
        "{interface: wan1, id: 1}",
        "{interface: wan1, id: 1, virtual: 198.18.11.10}",
    );
    let mut bench = Bench::new(&yaml);
    bench.rounds(1, &[]);
    let away = bench.decide();
    assert!(away.wanted.ruleset.contains("snat ip to 198.18.11.10"));
    // Even where it is the interface's first address: the source stays, and so do probes.
    bench.view.addresses.insert(
        0,
        InterfaceAddress {
            interface: InterfaceIndex(1),
            address: ip("198.18.11.10"),
            prefix_len: 24,
        },
    );
    bench.look();
    let here = bench.decide();
    assert_eq!(here.forget, BTreeSet::new());
    assert_eq!(route(&here, 301).unwrap().source(), Some(ip(OLD)));
    assert!(here.wanted.ruleset.contains("snat ip to 198.18.11.10"));
    bench.takes(1, "198.18.11.10");
    bench.look();
    bench.rounds(2 * GRACE_IN_ROUNDS, &[]);
    bench.look();
    assert_eq!(bench.decide().forget, BTreeSet::new());
    assert_eq!(bench.members(Family::Ipv4), [1, 2]);
}
