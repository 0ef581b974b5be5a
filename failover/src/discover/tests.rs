//! What an uplink's way is for each kind of link, address and route.

use super::*;
use crate::network::DefaultRoute;

const WAN: InterfaceIndex = InterfaceIndex(7);

fn uplink(interface: &str) -> UplinkConfig {
    let text = format!("uplinks: {{one: {{interface: {interface}}}}}");
    let config = crate::config::parse(&text).unwrap();
    config.uplinks.into_values().next().unwrap()
}

fn link() -> Link {
    Link::ethernet(WAN)
}

fn view() -> NetworkView {
    NetworkView {
        links: [("wan1".parse().unwrap(), link())].into(),
        addresses: vec![
            InterfaceAddress {
                interface: WAN,
                address: "198.18.11.2".parse().unwrap(),
                prefix_len: 24,
            },
            InterfaceAddress {
                interface: WAN,
                address: "fd00:18:11::2".parse().unwrap(),
                prefix_len: 64,
            },
        ],
        default_routes: vec![
            route("198.18.11.9", 200),
            route("198.18.11.1", 100),
            route("fe80::1", 1024),
        ],
        ..NetworkView::default()
    }
}

fn route(gateway: &str, metric: u32) -> DefaultRoute {
    let gateway: IpAddr = gateway.parse().unwrap();
    DefaultRoute {
        family: Family::of(gateway),
        interface: WAN,
        gateway: Some(gateway),
        source: None,
        metric,
    }
}

fn path(uplink: &UplinkConfig, family: Family, view: &NetworkView) -> Path {
    match reachability(uplink, Gateways::Learnt, family, view) {
        Reachability::Path(path) => path,
        other => panic!("no path: {other:?}"),
    }
}

#[test]
fn a_port_of_a_bridge_carries_nothing_of_its_own() {
    let mut view = view();
    for link in view.links.values_mut() {
        link.port = true;
    }
    let found = reachability(&uplink("wan1"), Gateways::Learnt, Family::Ipv4, &view);
    let Reachability::LinkDown(loss) = found else {
        panic!("{found:?}");
    };
    assert_eq!(
        loss.to_string(),
        "interface wan1 is a port of a bridge or bond"
    );
}

#[test]
fn the_gateway_is_learnt_from_the_route_of_the_lowest_metric() {
    let found = path(&uplink("wan1"), Family::Ipv4, &view());
    assert_eq!(found.gateway, Some("198.18.11.1".parse().unwrap()));
    assert_eq!(found.source, "198.18.11.2".parse::<IpAddr>().unwrap());
    assert!(!found.onlink);
}

#[test]
fn a_link_local_gateway_needs_no_onlink() {
    let found = path(&uplink("wan1"), Family::Ipv6, &view());
    assert_eq!(found.gateway, Some("fe80::1".parse().unwrap()));
    assert!(!found.onlink);
}

#[test]
fn what_the_file_gives_counts() {
    let mut given = uplink("wan1");
    given.gateway = Some("203.0.113.1".parse().unwrap());
    given.source = Some("198.18.11.7".parse().unwrap());
    let mut view = view();
    view.addresses.push(InterfaceAddress {
        interface: InterfaceIndex(1),
        address: "198.18.11.7".parse().unwrap(),
        prefix_len: 32,
    });
    let found = path(&given, Family::Ipv4, &view);
    assert_eq!(found.gateway, Some("203.0.113.1".parse().unwrap()));
    assert_eq!(found.source, "198.18.11.7".parse::<IpAddr>().unwrap());
    assert!(
        found.onlink,
        "the gateway is in no network of the interface"
    );
}

#[test]
fn a_given_source_that_is_not_there_makes_the_family_absent() {
    let mut given = uplink("wan1");
    given.source = Some("198.18.11.7".parse().unwrap());
    let Reachability::Absent(missing) =
        reachability(&given, Gateways::Learnt, Family::Ipv4, &view())
    else {
        panic!("the kernel refuses routes with a source that is not there");
    };
    assert_eq!(
        missing.to_string(),
        "the configured source 198.18.11.7 is no address of this host"
    );
    path(&given, Family::Ipv6, &view());
}

#[test]
fn a_family_without_address_or_gateway_is_absent() {
    let mut no_address = view();
    no_address.addresses.retain(|own| own.address.is_ipv4());
    no_address
        .default_routes
        .retain(|route| route.family == Family::Ipv4);
    assert_eq!(
        reachability(&uplink("wan1"), Gateways::Learnt, Family::Ipv6, &no_address),
        Reachability::Absent(Missing::Address)
    );
    let mut no_route = view();
    no_route.default_routes.clear();
    assert_eq!(
        reachability(&uplink("wan1"), Gateways::Learnt, Family::Ipv4, &no_route),
        Reachability::Absent(Missing::Gateway)
    );
}

#[test]
fn a_point_to_point_link_needs_no_gateway() {
    let mut ppp = view();
    ppp.default_routes.clear();
    ppp.links
        .values_mut()
        .for_each(|link| link.point_to_point = true);
    assert_eq!(path(&uplink("wan1"), Family::Ipv4, &ppp).gateway, None);
}

#[test]
fn a_link_that_carries_nothing_is_down_and_says_why() {
    let mut cut = view();
    cut.links.values_mut().for_each(|link| link.carrier = false);
    let said = |uplink: &UplinkConfig, view: &NetworkView| match reachability(
        uplink,
        Gateways::Learnt,
        Family::Ipv4,
        view,
    ) {
        Reachability::LinkDown(fault) => fault.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(said(&uplink("wan1"), &cut), "no carrier");
    cut.links.values_mut().for_each(|link| link.enabled = false);
    assert_eq!(said(&uplink("wan1"), &cut), "interface wan1 is set down");
    assert_eq!(said(&uplink("wan9"), &cut), "interface wan9 does not exist");
}

#[test]
fn own_prefixes_are_the_interface_networks_unless_given() {
    assert_eq!(
        own_prefixes6(&uplink("wan1"), &view()),
        ["fd00:18:11::/64".parse::<Ipv6Net>().unwrap()]
    );
    let mut given = uplink("wan1");
    given.prefixes6 = Some(vec!["fd00:5::/48".parse().unwrap()]);
    assert_eq!(
        own_prefixes6(&given, &view()),
        ["fd00:5::/48".parse::<Ipv6Net>().unwrap()]
    );
}

#[test]
fn on_a_shared_interface_a_gateway_that_nobody_gave_is_not_guessed() {
    let mut given = uplink("wan1");
    given.gateway = Some("198.18.11.9".parse().unwrap());
    let Reachability::Path(path) = reachability(&given, Gateways::Given, Family::Ipv4, &view())
    else {
        panic!("no path by the given gateway");
    };
    assert_eq!(path.gateway, Some("198.18.11.9".parse().unwrap()));
    assert_eq!(
        reachability(&given, Gateways::Given, Family::Ipv6, &view()),
        Reachability::Absent(Missing::Gateway)
    );
}
