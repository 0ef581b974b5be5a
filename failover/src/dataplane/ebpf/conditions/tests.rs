//! What the programs would find in the entries, looked up as the kernel's trie does.

use std::fmt::Write as _;

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

/// The entry whose bits all agree, of these the longest.
fn found(conditions: &Conditions, kind: u8, selector: u8, value: &[u8]) -> Vec<usize> {
    let asked = condition(kind, selector, value);
    let asked = bytemuck::bytes_of(&asked);
    let agrees = |bits: u32, entry: &Condition| {
        let entry = bytemuck::bytes_of(entry);
        let differs = (0..bits).find(|bit| {
            let (byte, mask) = (usize::try_from(bit / 8).unwrap(), 0x80 >> (bit % 8));
            (asked[byte] ^ entry[byte]) & mask != 0
        });
        differs.is_none()
    };
    let entries = conditions.entries.iter();
    let holding = entries.filter(|((bits, entry), _)| agrees(*bits, entry));
    let longest = holding.max_by_key(|((bits, _), _)| *bits);
    positions(*longest.expect("an entry of the kind alone").1)
}

fn positions(Bitmap(words): Bitmap) -> Vec<usize> {
    let bits = 0..64 * WORDS;
    bits.filter(|bit| words[bit / 64] & 1 << (bit % 64) != 0)
        .collect()
}

fn holding(position: usize) -> Bitmap {
    bitmap([position])
}

#[test]
fn a_line_falls_into_pieces_where_ranges_begin_and_end() {
    let pieces = |ranges: &[(u128, u128, usize)]| -> Vec<(u128, u128, Vec<usize>)> {
        let ranges = ranges.iter();
        let ranges = ranges.map(|(first, last, rule)| (*first, *last, holding(*rule)));
        let pieces = intervals(ranges, 255).into_iter();
        pieces
            .map(|(first, last, holds)| (first, last, positions(holds)))
            .collect()
    };
    assert_eq!(pieces(&[]), []);
    assert_eq!(pieces(&[(0, 255, 7)]), [(0, 255, vec![7])]);
    assert_eq!(
        pieces(&[(0, 9, 0), (5, 14, 1), (20, 255, 0), (255, 255, 900)]),
        [
            (0, 4, vec![0]),
            (5, 9, vec![0, 1]),
            (10, 14, vec![1]),
            (20, 254, vec![0]),
            (255, 255, vec![0, 900]),
        ]
    );
    // What touches is one piece, and what takes another's place is not.
    assert_eq!(
        pieces(&[(1, 4, 0), (5, 9, 0), (10, 12, 1)]),
        [(1, 9, vec![0]), (10, 12, vec![1])]
    );
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
        let found = found(&conditions, kind::SERVICE, protocol, &port.to_be_bytes());
        assert_eq!(found, rules, "protocol {protocol}, port {port}");
    }
    let set = conditions.rule_set(0);
    assert!(set.has(kind::SERVICE) && set.has(kind::DSCP));
    assert!(!set.has(kind::SOURCE_PORT) && !set.has(kind::SOURCE) && !set.has(kind::MARK));
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
        let found = found(&conditions, kind::SOURCE_PORT, 0, &port.to_be_bytes());
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
    assert_eq!(set.masks, 4);
    let holding = |mark: u32| {
        let masks = (0..).zip(set.mask);
        let found = masks.flat_map(|(position, mask)| {
            let value = (mark & mask).to_be_bytes();
            found(&conditions, kind::MARK, position, &value)
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
    let is = |kind, value: &[u8], rules: &[usize]| {
        assert_eq!(
            found(&conditions, kind, 0, value),
            rules,
            "{kind} {value:?}"
        );
    };
    is(kind::DOWNLINK, &[0, 1], &[1, 2, 3]);
    is(kind::DOWNLINK, &[0, 2], &[0, 1, 2, 3]);
    is(kind::DOWNLINK, &[0, 0], &[1, 2]);
    is(kind::DSCP, &[46], &[0, 1, 2, 3]);
    is(kind::DSCP, &[0], &[0, 1, 2, 3]);
    is(kind::DSCP, &[10], &[0, 2, 3]);
    is(kind::MAC, &[2, 0, 0, 0, 0, 1], &[0, 1, 2]);
    is(kind::MAC, &[2, 0, 0, 0, 0, 2], &[0, 1, 2, 3]);
    is(kind::MAC, &[2, 0, 0, 0, 0, 3], &[0, 1]);
}

#[test]
fn rules_with_the_same_addresses_share_their_entries() {
    let destination = "destination: [192.0.2.10-192.0.2.19, \"fd00::/64\", 198.51.100.7]";
    let one = conditions(&[destination]);
    let many = conditions(&vec![destination; 300]);
    assert_eq!(one.entries.len(), many.entries.len());
    let inside = found(&many, kind::DESTINATION, 4, &[192, 0, 2, 19]);
    assert_eq!(inside, (0..300).collect::<Vec<_>>());
    let outside = found(&many, kind::DESTINATION, 4, &[192, 0, 2, 20]);
    assert!(outside.is_empty(), "{outside:?}");
    // 192.0.2.10/31, .12/30, .16/30; 198.51.100.7; the prefix; no condition, and all rules.
    assert_eq!(one.entries.len(), 7);
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
        let (selector, value) = match address.parse().unwrap() {
            IpAddr::V4(address) => (4, address.octets().to_vec()),
            IpAddr::V6(address) => (6, address.octets().to_vec()),
        };
        let found = found(&conditions, kind::SOURCE, selector, &value);
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
