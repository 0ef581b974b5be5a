//! What the programs find in the blocks.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::*;
use crate::policy::Sets;

/// The conditions of a configuration's `rules`, each without its name and its uplinks.
fn conditions(matches: &[&str]) -> Conditions {
    let mut text = "uplinks: {one: {interface: wan1}}\ndownlinks: [lan0, lan1]\n".to_owned();
    if !matches.is_empty() {
        text.push_str("rules:\n");
    }
    for (number, matching) in matches.iter().enumerate() {
        writeln!(
            text,
            "  - {{name: r{number}, match: {{{matching}}}, via: [one]}}"
        )
        .unwrap();
    }
    let config = crate::config::parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let numbers = [("lan0", 1), ("lan1", 2)];
    let numbers = numbers.map(|(name, number)| (name.parse().unwrap(), number));
    Conditions::new(&Policy::of(&config, &Sets::default()), &numbers.into())
}

/// The rules that hold for a value, as the programs look it up.
fn found(conditions: &Conditions, line: &Line, value: &[u8]) -> Vec<usize> {
    let mut whole = [0; 16];
    whole[..value.len()].copy_from_slice(value);
    let (high, low) = whole.split_at(8);
    let words = [high, low].map(|half| u64::from_be_bytes(half.try_into().unwrap()));
    let block = |number: u32| conditions.blocks.get(number as usize);
    assert!(line.is_asked());
    let bitmap = line
        .find(block, |bit| u32::from(bit != 0), words)
        .and_then(block);
    positions(*bitmap.expect("a bitmap"))
}

fn positions(words: Bitmap) -> Vec<usize> {
    let bits = 0..64 * WORDS;
    bits.filter(|bit| words[bit / 64] & 1 << (bit % 64) != 0)
        .collect()
}

#[test]
fn a_line_falls_into_pieces_where_ranges_begin_and_end() {
    let fall = |ranges: &[(u128, u128, usize)]| -> Vec<(u128, Vec<usize>)> {
        let ranges = ranges.iter();
        let ranges = ranges.map(|(first, last, rule)| (*first, *last, bitmap([*rule])));
        let pieces = pieces(ranges, bitmap([77])).into_iter();
        pieces
            .map(|(first, holds)| (first, positions(holds)))
            .collect()
    };
    const MAX: u128 = u128::MAX;
    assert_eq!(fall(&[]), [(0, vec![77])]);
    assert_eq!(fall(&[(0, MAX, 7)]), [(0, vec![7, 77])]);
    assert_eq!(
        fall(&[(0, 9, 0), (5, 14, 1), (20, MAX, 0), (MAX, MAX, 900)]),
        [
            (0, vec![0, 77]),
            (5, vec![0, 1, 77]),
            (10, vec![1, 77]),
            (15, vec![77]),
            (20, vec![0, 77]),
            (MAX, vec![0, 77, 900]),
        ]
    );
    // What touches is one piece, and what takes another's place is not.
    assert_eq!(
        fall(&[(1, 4, 0), (5, 9, 0), (10, 12, 1)]),
        [
            (0, vec![77]),
            (1, vec![0, 77]),
            (10, vec![1, 77]),
            (13, vec![77])
        ]
    );
}

/// However many values a tree has, each is found, and what lies between them.
#[test]
fn trees_of_every_size_find_their_pieces() {
    for hosts in (1..=70_u32).chain([255, 256, 257, 511, 512, 513, 2047, 2048, 4096, 5000]) {
        // Every third address, so that there are two pieces for each.
        let address = |host: u32| std::net::Ipv4Addr::from(0xc612_0000 + 3 * host);
        let addresses: Vec<String> = (0..hosts).map(|host| address(host).to_string()).collect();
        let list = format!("destination: [{}]", addresses.join(", "));
        let conditions = conditions(&[&list]);
        let line = conditions.rule_set(0).lines.destination.ipv4;
        assert_eq!(line.last, 2 * hosts, "the last piece");
        for host in 0..hosts {
            let [before, at, after] = [-1, 0, 1].map(|step| {
                let number = u32::from(address(host)).wrapping_add_signed(step);
                found(&conditions, &line, &number.to_be_bytes())
            });
            assert_eq!(
                (before, at, after),
                (vec![], vec![0], vec![]),
                "{host} of {hosts}"
            );
        }
        for edge in [[0; 4], [0xff; 4]] {
            assert!(found(&conditions, &line, &edge).is_empty());
        }
    }
}

#[test]
fn the_last_address_of_all_counts_with_the_one_before_it() {
    for hosts in 0..100 {
        let many = (0..hosts).map(|host| format!("\"fd00::{host:x}0\", "));
        let list = format!("source: [{}\"ff00::/8\"]", many.collect::<String>());
        let conditions = conditions(&[&list]);
        let line = conditions.rule_set(0).lines.source.ipv6;
        for address in [u128::MAX, u128::MAX - 1] {
            assert_eq!(found(&conditions, &line, &address.to_be_bytes()), [0]);
        }
    }
}

#[test]
fn a_service_is_a_protocol_a_port_or_both() {
    let conditions = conditions(&[
        "protocol: tcp, ports: [80, 8000-8999]",
        "ports: 53",
        "protocol: gre",
        "protocol: [icmp, udp]",
        "dscp: ef",
        "protocol: [udp, sctp], ports: 53",
    ]);
    for (protocol, port, rules) in [
        (6, 80, vec![0, 4]),
        (6, 81, vec![4]),
        (6, 7999, vec![4]),
        (6, 8000, vec![0, 4]),
        (6, 8999, vec![0, 4]),
        (6, 9000, vec![4]),
        (6, 53, vec![1, 4]),
        (17, 53, vec![1, 3, 4, 5]),
        (17, 80, vec![3, 4]),
        (132, 53, vec![1, 4, 5]),
        (136, 53, vec![1, 4]),
        (33, 53, vec![1, 4]),
        // What has no ports is asked for with port 0.
        (47, 0, vec![2, 4]),
        (1, 0, vec![3, 4]),
        (50, 0, vec![4]),
        (255, 0, vec![4]),
    ] {
        let port: u16 = port;
        let [high, low] = port.to_be_bytes();
        let line = conditions.rule_set(0).lines.service;
        let found = found(&conditions, &line, &[protocol, high, low]);
        assert_eq!(found, rules, "protocol {protocol}, port {port}");
    }
    let Lines {
        source,
        service,
        source_port,
        dscp,
        mark,
        ..
    } = conditions.rule_set(0).lines;
    assert!(service.is_asked() && dscp.is_asked());
    let others = [source.ipv4, source.ipv6, source_port]
        .into_iter()
        .chain(mark);
    assert!(others.into_iter().all(|line| !line.is_asked()));
}

#[test]
fn source_ports_are_of_all_protocols_that_have_ports() {
    let conditions = conditions(&["source_ports: [1-1023, 65535]", "protocol: tcp"]);
    for (port, rules) in [
        (0_u16, vec![1]),
        (1, vec![0, 1]),
        (1023, vec![0, 1]),
        (1024, vec![1]),
        (65_535, vec![0, 1]),
    ] {
        let line = conditions.rule_set(0).lines.source_port;
        let found = found(&conditions, &line, &port.to_be_bytes());
        assert_eq!(found, rules, "port {port}");
    }
}

#[test]
fn a_mark_is_looked_up_under_each_of_four_masks() {
    let conditions = conditions(&[
        "mark: 0x1/0xff",
        "mark: [0x200/0xff00, 0x2/0xff]",
        "mark: 0x30000/0xf0000",
        "mark: 0x11",
        "protocol: tcp",
    ]);
    let set = conditions.rule_set(1);
    assert!(set.lines.mark.iter().all(Line::is_asked));
    let holding = |mark: u32| {
        let masks = set.lines.mark.iter().zip(set.mask);
        let found = masks.flat_map(|(line, mask)| {
            let value = (mark & mask).to_be_bytes();
            found(&conditions, line, &value)
        });
        found.collect::<BTreeSet<usize>>()
    };
    for (mark, rules) in [
        (0, vec![4]),
        (0x1, vec![0, 4]),
        (0x2, vec![1, 4]),
        (0x201, vec![0, 1, 4]),
        (0x3_0201, vec![0, 1, 2, 4]),
        (0x7_0000, vec![4]),
        (0x11, vec![3, 4]),
        (0x111, vec![4]),
    ] {
        assert_eq!(holding(mark), BTreeSet::from_iter(rules), "{mark:#x}");
    }
}

#[test]
fn downlinks_code_points_and_hardware_addresses_are_single_values() {
    let conditions = conditions(&[
        "interface: lan1",
        "dscp: [ef, cs0]",
        "mac: [\"02:00:00:00:00:01\", \"02:00:00:00:00:02\"]",
        "mac: \"02:00:00:00:00:02\", interface: [lan0, lan1]",
    ]);
    let Lines {
        downlink,
        dscp,
        mac,
        ..
    } = conditions.rule_set(0).lines;
    let is = |line: &Line, value: &[u8], rules: &[usize]| {
        assert_eq!(found(&conditions, line, value), rules, "{value:?}");
    };
    is(&downlink, &[0, 1], &[1, 2, 3]);
    is(&downlink, &[0, 2], &[0, 1, 2, 3]);
    is(&downlink, &[0, 0], &[1, 2]);
    is(&dscp, &[46], &[0, 1, 2, 3]);
    is(&dscp, &[0], &[0, 1, 2, 3]);
    is(&dscp, &[10], &[0, 2, 3]);
    is(&mac, &[0, 2, 0, 0, 0, 0, 1], &[0, 1, 2]);
    is(&mac, &[0, 2, 0, 0, 0, 0, 2], &[0, 1, 2, 3]);
    is(&mac, &[0, 2, 0, 0, 0, 0, 3], &[0, 1]);
    // Of a packet that has none.
    is(&mac, &[1], &[0, 1]);
}

#[test]
fn rules_with_the_same_addresses_share_their_entries() {
    let destination = "destination: [192.0.2.10-192.0.2.19, \"fd00::/64\", 198.51.100.7]";
    let one = conditions(&[destination]);
    let many = conditions(&vec![destination; 300]);
    assert_eq!(one.blocks.len(), many.blocks.len());
    let line = many.rule_set(0).lines.destination.ipv4;
    let inside = found(&many, &line, &[192, 0, 2, 19]);
    assert_eq!(inside, (0..300).collect::<Vec<_>>());
    let outside = found(&many, &line, &[192, 0, 2, 20]);
    assert!(outside.is_empty(), "{outside:?}");
    // All rules, and none; for each family a leaf and the numbers of bitmaps.
    assert_eq!(one.blocks.len(), 6);
}

#[test]
fn addresses_that_overlap_hold_together() {
    let conditions = conditions(&[
        "source: 192.0.2.0/24",
        "source: [192.0.2.64/26, \"fd00::1\"]",
        "source: 0.0.0.0/0",
        "source: \"::/0\"",
        "protocol: tcp",
    ]);
    for (address, rules) in [
        ("192.0.2.63", vec![0, 2, 4]),
        ("192.0.2.64", vec![0, 1, 2, 4]),
        ("192.0.2.127", vec![0, 1, 2, 4]),
        ("192.0.2.128", vec![0, 2, 4]),
        ("192.0.3.0", vec![2, 4]),
        ("255.255.255.255", vec![2, 4]),
        ("fd00::1", vec![1, 3, 4]),
        ("fd00::2", vec![3, 4]),
    ] {
        let source = conditions.rule_set(0).lines.source;
        let (line, value) = match address.parse().unwrap() {
            IpAddr::V4(address) => (source.ipv4, address.octets().to_vec()),
            IpAddr::V6(address) => (source.ipv6, address.octets().to_vec()),
        };
        let found = found(&conditions, &line, &value);
        assert_eq!(found, rules, "{address}");
    }
}

#[test]
fn a_rule_set_tells_rules_apart() {
    let one = conditions(&["protocol: tcp", "ports: 53"]);
    let same = conditions(&["protocol: tcp", "ports: 53"]);
    let other = conditions(&["ports: 53", "protocol: tcp"]);
    assert_eq!(one.rule_set(0), same.rule_set(0));
    assert_ne!(one.rule_set(0), one.rule_set(1));
    assert_ne!(one.rule_set(0).fingerprint, other.rule_set(0).fingerprint);
    assert_eq!(conditions(&[]).rule_set(0).words, 0);
    assert_eq!(one.rule_set(0).words, 1);
    assert_eq!(conditions(&vec!["dscp: ef"; 65]).rule_set(0).words, 2);
}
