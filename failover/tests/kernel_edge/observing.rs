//! Links, addresses and default routes as they are read.

use std::time::Instant;

use failover::family::Family;
use failover::kernel::network::NetworkObserver;
use failover::network::DefaultRoute;
use libtest_mimic::Trial;

use super::namespace::{index, run, trial, uplinks};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "observing: links are told by what they can carry",
            links_are_told,
        ),
        trial(
            "observing: only addresses that can be a source, the primary one first",
            addresses_are_told,
        ),
        trial(
            "observing: the default routes of main, whoever made them",
            default_routes_are_told,
        ),
    ]
}

async fn links_are_told() {
    uplinks();
    run("ip link set isp2 down; ip link add off type veth peer name off2");
    let mut observer = NetworkObserver::open().unwrap();
    let links = observer.view().await.unwrap().links;
    let link = |name: &str| &links[&name.parse().unwrap()];
    assert_eq!(link("wan1").index, index("wan1"));
    assert!(link("wan1").works() && !link("wan1").point_to_point);
    assert!(link("wan2").enabled && !link("wan2").carrier);
    assert!(!link("off").enabled && !link("off").carrier);
    assert!(link("ppp1").works() && link("ppp1").point_to_point);
    assert!(!link("wan1").port);
    run("ip link add br0 type bridge; ip link set wan2 master br0");
    let bridged = observer.links().await.unwrap();
    assert!(bridged[&"wan2".parse().unwrap()].port);
    assert!(!bridged[&"br0".parse().unwrap()].port);
    let before = link("wan1").traffic.tx_packets;
    run("ip neigh replace 198.18.11.9 lladdr 02:00:00:00:00:09 dev wan1");
    let socket = std::net::UdpSocket::bind("198.18.11.2:0").unwrap();
    for _ in 0..7 {
        socket.send_to(b"x", "198.18.11.9:9").unwrap();
    }
    let after = observer.links().await.unwrap();
    assert!(after[&"wan1".parse().unwrap()].traffic.tx_packets >= before + 7);

    let mut fastest = std::time::Duration::MAX;
    for _ in 0..20 {
        let begin = Instant::now();
        observer.view().await.unwrap();
        fastest = fastest.min(begin.elapsed());
    }
    println!("measured: view() of {} links {fastest:?}", after.len());
}

async fn addresses_are_told() {
    uplinks();
    run("ip address flush dev wan1
         ip address add 198.18.11.2/24 dev wan1
         ip address add 198.18.11.3/24 dev wan1
         ip address add 198.18.21.2/24 dev wan1
         ip address add 198.18.31.2/24 dev wan1 scope link
         ip address add fd00:11::9/64 dev wan1 nodad preferred_lft 0
         ip address add fd00:11::2/64 dev wan1 nodad
         ip address add fd00:11::5/64 dev wan1
         ip address flush dev ppp1
         ip address add 198.18.13.2 peer 198.18.13.1/32 dev ppp1");
    let mut observer = NetworkObserver::open().unwrap();
    let told = |addresses: &[failover::network::InterfaceAddress], name: &str| {
        let interface = index(name);
        addresses
            .iter()
            .filter(|address| address.interface == interface)
            .map(|address| format!("{}/{}", address.address, address.prefix_len))
            .collect::<Vec<_>>()
    };
    let addresses = observer.view().await.unwrap().addresses;
    // 198.18.11.3 is secondary to 198.18.11.2; fd00:11::9 is deprecated; fd00:11::5 is still being
    // checked for duplicates.
    assert_eq!(
        told(&addresses, "wan1"),
        [
            "198.18.11.2/24",
            "198.18.21.2/24",
            "fd00:11::2/64",
            "198.18.11.3/24",
            "fd00:11::9/64"
        ]
    );
    assert_eq!(told(&addresses, "ppp1"), ["198.18.13.2/32"]);
    assert_eq!(told(&addresses, "lo"), [""; 0]);
}

async fn default_routes_are_told() {
    uplinks();
    let mut observer = NetworkObserver::open().unwrap();
    assert_eq!(observer.view().await.unwrap().default_routes, []);
    run(
        "ip route add default via 198.18.11.1 proto dhcp src 198.18.11.2 metric 100
         ip route add default metric 200 nexthop via 198.18.12.1 nexthop dev ppp1
         ip route add blackhole default metric 999
         ip route add default via 198.18.12.1 metric 7 proto 102
         ip route add default via 198.18.12.1 table 5
         ip route add 192.0.2.0/24 via 198.18.12.1
         ip -6 route add default via fe80::1 dev wan1 proto ra metric 1024
         ip -6 route add unreachable default metric 4000
         ip -6 route add default via fe80::2 dev wan1 table 5
         ip nexthop add id 7 via 198.18.12.7 dev wan2
         ip route add default nhid 7 metric 300",
    );
    let route =
        |family, name: &str, gateway: Option<&str>, source: Option<&str>, metric| DefaultRoute {
            family,
            interface: index(name),
            gateway: gateway.map(|text| text.parse().unwrap()),
            source: source.map(|text| text.parse().unwrap()),
            metric,
        };
    let (v4, v6) = (Family::Ipv4, Family::Ipv6);
    let wanted = [
        route(v4, "wan1", Some("198.18.11.1"), Some("198.18.11.2"), 100),
        route(v4, "wan2", Some("198.18.12.1"), None, 200),
        route(v4, "ppp1", None, None, 200),
        route(v4, "wan2", Some("198.18.12.7"), None, 300),
        route(v6, "wan1", Some("fe80::1"), None, 1024),
    ];
    assert_eq!(observer.view().await.unwrap().default_routes, wanted);
    // Without its next hop's details, the route by number teaches nothing, and breaks nothing.
    std::fs::write("/proc/sys/net/ipv4/nexthop_compat_mode", "0").unwrap();
    let mut without = wanted.to_vec();
    without.remove(3);
    assert_eq!(observer.view().await.unwrap().default_routes, without);
}
