//! Rules as nft reads them.

use std::collections::BTreeSet;

use super::*;
use crate::flows::Protocol;
use crate::policy::Dscp;
use crate::wanted::PickedBy;
use crate::wanted::fixture::{addresses, ports, rule, three_uplinks, with_rules as situation};
use crate::wanted::ruleset::ruleset;

/// The lines of a chain.
fn chain_of<'t>(text: &'t str, name: &str) -> Vec<&'t str> {
    let start = format!("  chain {name} {{\n");
    let rest = text.split(&start).nth(1).unwrap_or_default();
    let body = rest.split("\n  }").next().unwrap_or_default();
    body.lines().map(str::trim).collect()
}

fn any() -> Matching {
    Matching::default()
}

#[test]
fn without_rules_the_table_says_nothing_of_them() {
    for picked_by in [PickedBy::Nftables, PickedBy::Tc] {
        let mut situation = three_uplinks();
        situation.picked_by = picked_by;
        let text = ruleset(&situation);
        for word in ["rules4", "via_", "chain marked", "== 0x80000000 drop"] {
            assert!(!text.contains(word), "{word}");
        }
    }
}

#[test]
fn each_condition_is_a_part_of_the_rules_line() {
    let mail = Matching {
        interfaces: Some(["lan0".parse().unwrap()].into()),
        source: addresses(&["192.0.2.10-192.0.2.19"]),
        protocols: Some([Protocol::TCP].into()),
        ports: ports(&[(25, 25), (587, 600)]),
        source_ports: ports(&[(1024, 65535)]),
        dscp: Some([Dscp::new(46).unwrap()].into()),
        macs: Some(["02:00:5e:10:00:01".parse().unwrap()].into()),
        marks: Some(
            [MarkMatch {
                mask: 0xff,
                value: 0x10,
            }]
            .into(),
        ),
        ..any()
    };
    let text = ruleset(&situation(vec![rule(mail, &["a"], Otherwise::Any)], &[]));
    assert_eq!(
        chain_of(&text, "rules4"),
        [
            "meta mark & 0x000000ff == 0x00000010 iifname \"lan0\" meta l4proto 6 \
             th dport { 25, 587-600 } th sport 1024-65535 ip dscp 46 \
             ether saddr 02:00:5e:10:00:01 ip saddr 192.0.2.10-192.0.2.19 goto via_0",
            "goto pick4"
        ]
    );
    // It is for IPv4 alone.
    assert_eq!(chain_of(&text, "rules6"), ["goto pick6"]);
    assert!(chain_of(&text, "new_flow").contains(&"meta nfproto ipv4 goto rules4"));
    assert_eq!(
        chain_of(&text, "via_0"),
        ["meta nfproto ipv4 goto to_1", "meta nfproto ipv6 goto to_1"]
    );
}

#[test]
fn ports_are_of_protocols_that_have_them() {
    let matching = Matching {
        ports: ports(&[(53, 53)]),
        ..any()
    };
    let text = ruleset(&situation(
        vec![rule(matching, &["a"], Otherwise::Any)],
        &[],
    ));
    assert!(
        text.contains("elements = { 6, 17, 33, 132, 136 }"),
        "{text}"
    );
    for chain in ["rules4", "rules6"] {
        assert_eq!(
            chain_of(&text, chain)[0],
            "meta l4proto @protocols_0 th dport 53 goto via_0"
        );
    }
}

#[test]
fn marks_under_several_masks_take_a_line_for_each() {
    let marks = [(0xff, 1), (0xff, 2), (0xff00, 0x100)];
    let marks: BTreeSet<MarkMatch> = marks
        .into_iter()
        .map(|(mask, value)| MarkMatch { mask, value })
        .collect();
    let matching = Matching {
        marks: Some(marks),
        source: addresses(&["fd00::/64"]),
        ..any()
    };
    let text = ruleset(&situation(
        vec![rule(matching, &["a"], Otherwise::Any)],
        &[],
    ));
    let lines = chain_of(&text, "rules6");
    assert_eq!(
        lines[0],
        "meta mark & 0x000000ff { 0x00000001, 0x00000002 } \
         ip6 saddr fd00::-fd00::ffff:ffff:ffff:ffff goto via_0"
    );
    assert_eq!(
        lines[1],
        "meta mark & 0x0000ff00 == 0x00000100 \
         ip6 saddr fd00::-fd00::ffff:ffff:ffff:ffff goto via_0"
    );
}

#[test]
fn sets_that_are_large_or_shared_have_names_and_everything_has_no_condition() {
    let shared = addresses(&["192.0.2.1", "198.51.100.0/24"]);
    let many: Vec<String> = (0..20).map(|n| format!("203.0.113.{}", n * 2)).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let of = |source: &Option<Arc<AddressSet>>| Matching {
        source: source.clone(),
        ..any()
    };
    let text = ruleset(&situation(
        vec![
            rule(of(&shared), &["a"], Otherwise::Any),
            rule(of(&addresses(&many)), &["a"], Otherwise::Any),
            // Equal, though read from elsewhere.
            rule(
                of(&shared.as_deref().cloned().map(Arc::new)),
                &["b"],
                Otherwise::Any,
            ),
            rule(
                of(&addresses(&["192.0.2.7", "192.0.2.9"])),
                &["a"],
                Otherwise::Any,
            ),
            rule(of(&addresses(&["0.0.0.0/0"])), &["a"], Otherwise::Any),
            rule(of(&addresses(&[])), &["a"], Otherwise::Any),
        ],
        &[],
    ));
    assert!(text.contains(
        "  set addresses4_0 {\n    type ipv4_addr\n    flags interval\n    \
         elements = { 192.0.2.1, 198.51.100.0-198.51.100.255 }\n  }\n"
    ));
    assert_eq!(
        chain_of(&text, "rules4"),
        [
            "ip saddr @addresses4_0 goto via_0",
            "ip saddr @addresses4_1 goto via_0",
            "ip saddr @addresses4_0 goto via_1",
            "ip saddr { 192.0.2.7, 192.0.2.9 } goto via_0",
            "goto via_0",
            "goto pick4"
        ]
    );
}

#[test]
fn where_flows_go_follows_the_uplinks_and_their_rules_stay_as_they_are() {
    let rules = || {
        vec![
            rule(any(), &["a+b", "c"], Otherwise::Any),
            rule(any(), &["b"], Otherwise::Drop),
            rule(any(), &["b"], Otherwise::Any),
        ]
    };
    let up = ruleset(&situation(rules(), &[]));
    let down = ruleset(&situation(rules(), &["b"]));
    let all_down = ruleset(&situation(rules(), &["a", "b", "c"]));
    let ipv4 = |text: &str, chain: &str| chain_of(text, chain)[0].to_owned();
    assert_eq!(ipv4(&up, "via_0"), "meta nfproto ipv4 goto pick4_0");
    assert!(up.contains("vmap @slots4_0") && up.contains("map slots4_0 {"));
    assert_eq!(ipv4(&up, "via_1_drop"), "meta nfproto ipv4 goto to_2");
    assert_eq!(ipv4(&down, "via_0"), "meta nfproto ipv4 goto to_1");
    assert!(!down.contains("slots4_0"));
    assert_eq!(ipv4(&down, "via_1_drop"), "meta nfproto ipv4 drop");
    assert_eq!(ipv4(&down, "via_1"), "meta nfproto ipv4 goto pick4");
    assert_eq!(ipv4(&all_down, "via_0"), "meta nfproto ipv4 goto pick4");
    for chain in ["rules4", "rules6", "new_flow"] {
        assert_eq!(chain_of(&up, chain), chain_of(&down, chain));
    }
}

#[test]
fn behind_the_programs_rules_are_tried_only_where_they_ask_for_marks() {
    let marked = Matching {
        marks: Some(
            [MarkMatch {
                mask: 0xff,
                value: 1,
            }]
            .into(),
        ),
        ..any()
    };
    let by_tc = |matching| {
        let rules = vec![rule(matching, &["a"], Otherwise::Drop)];
        let mut situation = situation(rules, &[]);
        situation.picked_by = PickedBy::Tc;
        situation
    };
    let plain = ruleset(&by_tc(any()));
    assert!(!plain.contains("rules4") && !plain.contains("slots4"));
    let picked = chain_of(&plain, "picked");
    assert!(chain_of(&plain, "asked")[0].starts_with("ct state != "));
    assert_eq!(picked[0], "meta mark & 0xff000000 == 0x80000000 drop");
    assert!(picked[1].contains("goto check_1"));

    let text = ruleset(&by_tc(marked.clone()));
    let picked = chain_of(&text, "picked");
    assert_eq!(picked[0], "meta mark & 0x00ffffff != 0 goto marked");
    assert_eq!(picked[1], "meta mark & 0xff000000 == 0x80000000 drop");
    assert_eq!(
        chain_of(&text, "marked"),
        [
            "meta mark set meta mark & 0x00ffffff | 0x00000000",
            "goto new_flow"
        ]
    );
    assert!(!text.contains("check_1"));
    // New flows come to it only from there.
    assert!(!chain_of(&text, "prerouting").concat().contains("new_flow"));
    let mut alone = by_tc(marked);
    alone.downlinks.clear();
    assert!(!ruleset(&alone).contains("new_flow"));
}
