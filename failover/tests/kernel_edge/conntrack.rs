//! Connection tracking entries, compared with what `conntrack` lists.

use std::collections::BTreeSet;
use std::net::{IpAddr, UdpSocket};
use std::time::Instant;

use failover::config;
use failover::family::{Family, PerFamily};
use failover::flows::{Leaving, Surroundings};
use failover::interface::InterfaceIndex;
use failover::kernel::Conntrack;
use failover::kernel::conntrack::{ConntrackError, Ctnetlink, count_by_uplink};
use failover::kernel::former_address::FormerAddress;
use failover::mark::{Mark, MarkMask};
use failover::network::{InterfaceAddress, Link, LinkLayer, Mtu, NetworkView, Traffic};
use failover::uplink::UplinkId;
use libtest_mimic::Trial;

use super::namespace::{run, trial};

const MASK: MarkMask = MarkMask::DEFAULT;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "conntrack: an uplink's entries of a family go, and no others",
            an_uplink_is_forgotten,
        ),
        trial(
            "conntrack: marks are cleared of our bits only",
            marks_are_cleared,
        ),
        trial(
            "conntrack: the entries of an uplink's former address go, and no others",
            a_former_address_is_forgotten,
        ),
        trial(
            "conntrack: of an uplink that works only those go that can go elsewhere",
            who_can_leaves,
        ),
        trial("conntrack: thousands of entries of real traffic", thousands),
    ]
}

/// An entry that its source port tells from others.
fn insert(protocol: &str, family: &str, port: u16, mark: u32, more: &str) {
    let (source, destination) = match family {
        "ipv4" => ("198.18.0.2", "203.0.113.9"),
        _ => ("fd00::2", "fd00:77::9"),
    };
    let state = match protocol {
        "tcp" => "--state ESTABLISHED",
        _ => "",
    };
    run(&format!(
        "conntrack -I -p {protocol} -s {source} -d {destination} --sport {port} \
         --dport 9 --timeout 600 --mark {mark} {state} {more} 2>&1"
    ));
}

/// Source port and mark of every entry.
fn listed() -> BTreeSet<(u16, u32)> {
    let text = run("conntrack -L 2>/dev/null");
    let field = |line: &str, name: &str| {
        line.split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .unwrap()
            .parse::<u32>()
            .unwrap()
    };
    text.lines()
        .map(|line| {
            let port = u16::try_from(field(line, "sport")).unwrap();
            (port, field(line, "mark"))
        })
        .collect()
}

fn uplink(number: u8) -> Mark {
    MASK.flow(UplinkId::try_from(number).unwrap())
}

/// How many entries of an uplink the status tells.
async fn counted(number: u8) -> usize {
    let id = UplinkId::try_from(number).unwrap();
    let counts = count_by_uplink(&[id], MASK).await.unwrap();
    usize::try_from(counts[&id]).unwrap()
}

async fn an_uplink_is_forgotten() {
    let entries = [
        ("udp", "ipv4", 1, 0x0100_0000),
        ("tcp", "ipv4", 2, 0x0100_0000),
        ("udp", "ipv6", 3, 0x0100_0000),
        // Others' bits beside ours.
        ("tcp", "ipv6", 4, 0x0100_ca6c),
        ("udp", "ipv4", 5, 0x0200_0000),
        ("tcp", "ipv6", 6, 0x0200_0000),
        ("udp", "ipv4", 7, 0),
        ("udp", "ipv6", 8, 0xca6c),
        ("tcp", "ipv4", 9, 0x8100_0000),
    ];
    for (protocol, family, port, mark) in entries {
        insert(protocol, family, port, mark, "");
    }
    let mut conntrack = Ctnetlink::open().unwrap();
    assert_eq!(counted(1).await, 4);
    assert_eq!(counted(2).await, 2);
    assert_eq!(counted(3).await, 0);
    let before = listed();
    assert!(matches!(
        conntrack.forget_uplink(Family::Ipv4, Mark(0), MASK).await,
        Err(ConntrackError::Nobody { .. })
    ));
    for family in Family::ALL {
        conntrack
            .forget_uplink(family, uplink(3), MASK)
            .await
            .unwrap();
    }
    assert_eq!(listed(), before);
    let ids = [1, 2, 3].map(|number| UplinkId::try_from(number).unwrap());
    let counts = count_by_uplink(&ids, MASK).await.unwrap();
    assert_eq!(counts, ids.into_iter().zip([4, 2, 0]).collect());
    let mut kept = before;
    for (family, gone) in [(Family::Ipv4, [1, 2]), (Family::Ipv6, [3, 4])] {
        conntrack
            .forget_uplink(family, uplink(1), MASK)
            .await
            .unwrap();
        kept.retain(|(port, _)| !gone.contains(port));
        assert_eq!(listed(), kept, "{family}");
    }
    assert_eq!(kept.len(), 5);
    assert_eq!(counted(1).await, 0);
}

async fn marks_are_cleared() {
    insert("udp", "ipv4", 1, 0x0100_0000, "");
    insert("tcp", "ipv4", 2, 0x0200_ca6c, "");
    insert("udp", "ipv6", 3, 0x7f00_4000, "");
    insert("tcp", "ipv6", 4, 0x0000_2000, "");
    insert("udp", "ipv4", 5, 0, "");
    insert("udp", "ipv4", 6, 0x0100_0001, "-w 7");
    let mut conntrack = Ctnetlink::open().unwrap();
    assert_eq!(conntrack.clear_marks(MASK).await.unwrap(), 4);
    let cleared = BTreeSet::from([
        (1, 0),
        (2, 0xca6c),
        (3, 0x4000),
        (4, 0x2000),
        (5, 0),
        (6, 1),
    ]);
    assert_eq!(listed(), cleared);
    assert_eq!(conntrack.clear_marks(MASK).await.unwrap(), 0);
    assert_eq!(listed(), cleared);
}

async fn a_former_address_is_forgotten() {
    let one = uplink(1).0;
    let insert = |port: u16, mark: u32, tuple: &str| {
        let ports = format!("--sport {port} --dport 9");
        run(&format!(
            "conntrack -I -p udp {ports} --timeout 600 --mark {mark} {tuple} 2>&1"
        ));
    };
    for (first, client, server, own, other) in [
        (
            0,
            "198.18.0.10",
            "203.0.113.9",
            "198.18.11.2",
            "198.18.12.2",
        ),
        (100, "fd00::10", "fd00:77::9", "fd00:11::2", "fd00:12::2"),
    ] {
        let out = format!("-s {client} -d {server} --src-nat {own}");
        let from = |n: u16| first + n;
        insert(from(1), one, &out);
        insert(from(2), one | 0xca6c, &format!("{out} -w 7"));
        // The router's own, one from outside, and one from outside that goes on to a client.
        insert(from(3), one, &format!("-s {own} -d {server}"));
        insert(from(4), one, &format!("-s {server} -d {own}"));
        insert(
            from(5),
            one,
            &format!("-s {server} -d {own} --dst-nat {client}"),
        );
        // Others took our bits; and a probe.
        insert(from(6), 0xca6c, &out);
        let probe = one | MASK.probe_bit();
        insert(from(7), probe, &format!("-s {own} -d {server}"));
        // Another uplink's with the same address; of another address; not translated at all.
        insert(from(8), uplink(2).0, &out);
        let elsewhere = format!("-s {client} -d {server} --src-nat {other}");
        insert(from(9), one, &elsewhere);
        insert(from(10), one, &format!("-s {client} -d {server}"));
        insert(from(11), 0, &format!("-s {own} -d {server}"));
    }
    let mut conntrack = Ctnetlink::open().unwrap();
    let mut kept = listed();
    assert_eq!(kept.len(), 22);
    for (first, own) in [(0, "198.18.11.2"), (100, "fd00:11::2")] {
        let mut former = FormerAddress {
            address: own.parse().unwrap(),
            mark: uplink(1),
            mask: MASK,
            elsewhere: true,
        };
        for (elsewhere, gone) in [(true, 1..=5), (false, 6..=7)] {
            former.elsewhere = elsewhere;
            let forgotten = conntrack.forget_former(former).await.unwrap();
            assert_eq!(forgotten.count, gone.clone().count());
            kept.retain(|(port, _)| !gone.contains(&port.wrapping_sub(first)));
            assert_eq!(listed(), kept, "{own}, elsewhere: {elsewhere}");
        }
    }
    assert_eq!(kept.len(), 8);
}

/// Entries of the uplink 1, in both families, told from each other by their source ports.
async fn who_can_leaves() {
    let insert = |port: u16, mark: u32, tuple: &str| {
        let ports = format!("--sport {port} --dport 9");
        run(&format!(
            "conntrack -I -p udp {ports} --timeout 600 --mark {mark} {tuple} 2>&1"
        ));
    };
    let one = uplink(1).0;
    for (first, client, server, own, router) in [
        (0, "198.18.0.10", "203.0.113.9", "198.18.11.2", "198.18.0.1"),
        (
            100,
            "fd00:18::10",
            "fd00:77::9",
            "fd00:18:11::2",
            "fd00:18::1",
        ),
    ] {
        let out = format!("-s {client} -d {server} --src-nat {own}");
        let from = |n: u16| first + n;
        insert(from(1), one, &out);
        insert(from(2), one | 0xca6c, &format!("-s {client} -d {server}"));
        // Others took our bits.
        insert(from(3), 0xca6c, &out);
        // From outside, to the router and to a host inside; and the router's own.
        insert(from(4), one, &format!("-s {server} -d {own}"));
        insert(
            from(5),
            one,
            &format!("-s {server} -d {own} --dst-nat {client}"),
        );
        insert(from(6), one, &format!("-s {own} -d {server}"));
        // Of nobody's, of another uplink's, and a probe.
        insert(from(7), 0, &format!("-s {client} -d {router}"));
        insert(from(8), uplink(2).0, &out);
        insert(from(9), MASK.probe_bit(), &out);
    }
    let mut conntrack = Ctnetlink::open().unwrap();
    let mut kept = listed();
    assert_eq!(kept.len(), 18);
    for (family, first, own) in [
        (Family::Ipv6, 100, "fd00:18:11::2"),
        (Family::Ipv4, 0, "198.18.11.2"),
    ] {
        let leaving = Leaving {
            keeping: failover::policy::Keeping::default(),
            family,
            mark: uplink(1),
            mask: MASK,
            source: Some(own.parse().unwrap()),
            surroundings: surroundings(),
        };
        let gone: BTreeSet<u16> = (1..=3).map(|n| first + n).collect();
        let flows = conntrack.leaving(&leaving).await.unwrap();
        let ports: BTreeSet<u16> = flows.iter().map(|flow| flow.original.source_port).collect();
        assert_eq!(ports, gone, "{family}");
        assert_eq!(listed(), kept, "{family}: none is deleted by being listed");
        let forgotten = conntrack.forget_leaving(&leaving).await.unwrap();
        assert_eq!(forgotten.count, 3);
        kept.retain(|(port, _)| !gone.contains(port));
        assert_eq!(listed(), kept, "{family}");
        let forgotten = conntrack.forget_leaving(&leaving).await.unwrap();
        assert_eq!(forgotten.count, 0);
    }
}

/// Of a router with an uplink and a network behind it.
fn surroundings() -> Surroundings {
    let config = "uplinks: {lte: {interface: wan1}}\ndownlinks: [lan0]\n";
    let link = |index| Link {
        index: InterfaceIndex(index),
        enabled: true,
        carrier: true,
        port: false,
        point_to_point: false,
        loopback: false,
        mtu: PerFamily::from_fn(|_| Mtu::ETHERNET),
        layer: LinkLayer::Ethernet,
        traffic: Traffic::default(),
    };
    let address = |interface, text: &str, prefix_len| InterfaceAddress {
        interface: InterfaceIndex(interface),
        address: text.parse().unwrap(),
        prefix_len,
    };
    let view = NetworkView {
        links: [
            ("wan1".parse().unwrap(), link(2)),
            ("lan0".parse().unwrap(), link(3)),
        ]
        .into(),
        addresses: vec![
            address(2, "198.18.11.2", 24),
            address(2, "fd00:18:11::2", 64),
            address(3, "198.18.0.1", 24),
            address(3, "fd00:18::1", 64),
        ],
        ..NetworkView::default()
    };
    Surroundings::new(&config::parse(config).unwrap(), &view)
}

async fn thousands() {
    const FLOWS: u16 = 5000;
    run(
        // A slow machine needs longer than the entries would live.
        "sysctl -qw net.netfilter.nf_conntrack_udp_timeout=600
         ip address add 198.18.0.2/32 dev lo; ip address add fd00::2/128 dev lo nodad
         nft add table inet other
         nft add chain inet other out '{ type filter hook output priority 0; }'
         nft add rule inet other out ct mark set 0x0100ca6c",
    );
    for n in 0..FLOWS {
        let port = 10_000 + n;
        let address = if n % 2 == 0 { "198.18.0.2" } else { "fd00::2" };
        let address: IpAddr = address.parse().unwrap();
        let socket = UdpSocket::bind((address, port)).unwrap();
        socket.send_to(b"x", (address, port)).unwrap();
    }
    run("nft delete table inet other");
    let mut conntrack = Ctnetlink::open().unwrap();
    let all = usize::from(FLOWS);
    let begin = Instant::now();
    assert_eq!(counted(1).await, all);
    let taken = begin.elapsed();
    let begin = Instant::now();
    assert_eq!(conntrack.clear_marks(MASK).await.unwrap(), all);
    let cleared = begin.elapsed();
    assert_eq!(counted(1).await, 0);
    // As another program would count them.
    let left = run("conntrack -L 2>/dev/null");
    assert_eq!(left.matches(" mark=51820 ").count(), all);
    println!("measured: {FLOWS} entries: count_by_uplink() {taken:?}, clear_marks() {cleared:?}");
}
