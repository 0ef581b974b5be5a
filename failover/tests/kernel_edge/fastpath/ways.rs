//! Ways are those that `ip route get` tells.

use std::net::IpAddr;
use std::time::Instant;

use failover::family::Family;
use failover::fastpath::edge::Surroundings;
use failover::fastpath::facts::{PassingPacket, Port, Way};
use failover::flows::Protocol;
use failover::interface::InterfaceIndex;
use failover::mark::Mark;
use failover::network::MacAddress;
use libtest_mimic::Trial;

use super::connections::UDP;
use super::kernel;
use crate::namespace::{index, ip, run, trial, uplinks};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "fast path: ways are those of all rules and tables, in both families",
            ways,
        ),
        trial("fast path: interfaces are as ip shows them", ports),
    ]
}

/// The uplinks, and a network `lan0` whose packets are forwarded.
fn gateway() {
    uplinks();
    run("
        ip link add lan0 type veth peer name host0
        ip link set lan0 addrgenmode none up
        ip link set host0 addrgenmode none up
        ip address add 198.18.0.1/24 dev lan0
        ip address add fd00:18::1/64 dev lan0 nodad
        sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1
        sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.lan0.rp_filter=0
        ip route add default via 198.18.11.1 dev wan1
        ip route add default via fd00:11::1 dev wan1
        ip route add default via 198.18.12.1 dev wan2 mtu lock 1400 table 302
        ip route add default via fd00:12::1 dev wan2 mtu 1400 table 302
        ip -4 route add default via inet6 fd00:12::9 dev wan2 table 303
        ip route add default dev ppp1 table 303 metric 9
        ip -6 route add default dev ppp1 table 303
    ");
    for family in ["-4", "-6"] {
        run(&format!(
            "ip {family} rule add pref 100 fwmark 0x02000000/0xff000000 table 302
             ip {family} rule add pref 101 ipproto udp dport 53 table 302
             ip {family} rule add pref 102 ipproto tcp sport 4443 table 303"
        ));
    }
    run("ip -4 rule add pref 103 from 198.18.0.66 unreachable
         ip -6 rule add pref 103 from fd00:18::66 unreachable
         ip route add 203.0.113.128/25 nexthop via 198.18.11.1 nexthop via 198.18.12.1
         ip route add fd00:88::/32 nexthop via fd00:11::1 nexthop via fd00:12::1");
}

/// What `ip route get` says.
fn told(packet: &PassingPacket) -> Option<Way> {
    let PassingPacket {
        source,
        destination,
        source_port,
        destination_port,
        ..
    } = packet;
    let route = run(&format!(
        "ip -d -j route get {destination} from {source} iif lan0 mark {} \
         ipproto {} sport {source_port} dport {destination_port} 2>/dev/null || echo '[]'",
        packet.mark.0, packet.protocol
    ));
    let route: serde_json::Value = serde_json::from_str(&route).unwrap();
    let route = route.get(0)?;
    if route["type"] != "unicast" {
        return None;
    }
    let text = |field: &serde_json::Value| field.as_str().map(str::to_owned);
    let gateway = text(&route["gateway"]).or_else(|| text(&route["via"]["host"]));
    let mtu = route["metrics"][0]["mtu"].as_u64();
    Some(Way {
        interface: index(route["dev"].as_str().unwrap()),
        address: gateway.map_or(*destination, |gateway| gateway.parse().unwrap()),
        mtu: mtu.map(|mtu| u32::try_from(mtu).unwrap()),
        family: Family::of(*destination),
    })
}

async fn ways() {
    gateway();
    let lan0 = index("lan0");
    let packet =
        |source: &str, destination: &str, mark, protocol, ports: (u16, u16)| PassingPacket {
            ingress: lan0,
            mark: Mark(mark),
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol,
            source_port: ports.0,
            destination_port: ports.1,
        };
    let mut packets = Vec::new();
    for (user, other, server, own, neighbour, many) in [
        (
            "198.18.0.10",
            "198.18.0.66",
            "203.0.113.9",
            "198.18.11.2",
            "198.18.12.77",
            "203.0.113.200",
        ),
        (
            "fd00:18::10",
            "fd00:18::66",
            "fd00:77::9",
            "fd00:11::2",
            "fd00:12::77",
            "fd00:88::9",
        ),
    ] {
        let web = (4000, 443);
        packets.extend([
            packet(user, server, 0, Protocol::TCP, web),
            packet(user, server, 0x0200_ca6c, Protocol::TCP, web),
            packet(user, server, 0, UDP, (4000, 53)),
            packet(user, server, 0, Protocol::TCP, (4000, 53)),
            packet(user, server, 0, Protocol::TCP, (4443, 443)),
            packet(user, neighbour, 0, UDP, web),
            packet(user, own, 0, UDP, web),
            packet(other, server, 0, UDP, web),
        ]);
        // To more than one: the kernel chooses.
        packets.extend((1..9).map(|port| packet(user, many, 0, UDP, (port, 9))));
    }
    let mut kernel = kernel();
    let found = kernel.ways(&packets).unwrap();
    assert_eq!(found.len(), packets.len());
    for (packet, found) in packets.iter().zip(&found) {
        assert_eq!(*found, told(packet), "{packet:?}");
    }
    // `ip` says the same; that it is what is meant:
    let by = |name: &str, address: &str, mtu| {
        Some(Way {
            interface: index(name),
            address: address.parse::<IpAddr>().unwrap(),
            mtu,
            family: Family::of(packets[0].destination),
        })
    };
    let by_ipv6 = |name, address, mtu| {
        by(name, address, mtu).map(|way| Way {
            family: Family::Ipv6,
            ..way
        })
    };
    assert_eq!(
        found[..8],
        [
            by("wan1", "198.18.11.1", None),
            by("wan2", "198.18.12.1", Some(1400)),
            by("wan2", "198.18.12.1", Some(1400)),
            by("wan1", "198.18.11.1", None),
            by("wan2", "fd00:12::9", None),
            by("wan2", "198.18.12.77", None),
            None,
            None,
        ]
    );
    assert_eq!(found[16], by_ipv6("wan1", "fd00:11::1", None));
    assert_eq!(found[17], by_ipv6("wan2", "fd00:12::1", Some(1400)));
    assert_eq!(found[20], by_ipv6("ppp1", "fd00:77::9", None));
    // What the stack wraps up before it sends it.
    let wrapped = packet("198.18.0.10", "203.0.113.77", 0, UDP, (4000, 9));
    assert!(kernel.ways(&[wrapped]).unwrap()[0].is_some());
    run("ip route add 203.0.113.77 encap ip id 7 dst 198.18.11.1 via 198.18.11.1 dev wan1");
    assert_eq!(kernel.ways(&[wrapped]).unwrap(), [None]);
    // By an interface that is gone, and many at once.
    let mut gone = packets[0];
    gone.ingress = InterfaceIndex(9999);
    assert_eq!(kernel.ways(&[gone]).unwrap(), [None]);
    let many: Vec<_> = packets.iter().copied().cycle().take(5000).collect();
    let begun = Instant::now();
    let again = kernel.ways(&many).unwrap();
    let each = begun.elapsed() / 5000;
    assert!(again.iter().zip(found.iter().cycle()).all(|(a, b)| a == b));
    println!("measured: a way is told in {each:?}");
}

async fn ports() {
    uplinks();
    run(
        "ip link set wan2 address 02:00:00:00:00:07 mtu 1400; ip link set isp2 down
         ip tuntap add tun0 mode tun; ip link set tun0 up
         sysctl -qw net.ipv6.conf.wan2.mtu=1300",
    );
    let ports = kernel().ports().unwrap();
    let links = ip("link show");
    assert_eq!(ports.len(), links.len());
    for link in &links {
        let number = u32::try_from(link["ifindex"].as_u64().unwrap()).unwrap();
        let port = ports[&InterfaceIndex(number)];
        assert_eq!(u64::from(port.mtu), link["mtu"].as_u64().unwrap());
        let flags = link["flags"].as_array().unwrap();
        let up = flags.contains(&"UP".into()) && flags.contains(&"LOWER_UP".into());
        assert_eq!(port.is_up, up, "{link}");
        assert_eq!(port.mac.is_some(), link["link_type"] == "ether", "{link}");
    }
    let wan2 = Port {
        mac: Some(MacAddress([2, 0, 0, 0, 0, 7])),
        mtu: 1400,
        ipv6_mtu: Some(1300),
        is_up: false,
    };
    assert_eq!(ports[&index("wan2")], wan2);
    assert_eq!(ports[&index("tun0")].mac, None);
}
