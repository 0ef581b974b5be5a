//! Good configurations mean what they say, and defaults are those that are documented.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use failover::config::{
    Affinity, Band, Budget, Config, FastPathSetting, LogFile, LogTo, ModeSetting, Mss, Nat, OnDown,
    OnUp, Passive, Percent, ProbeConfig, QualityLimits, Target, UplinkConfig, parse,
};
use failover::load::{Capacity, Rate};
use failover::mark::MarkMask;
use failover::select::{Strategies, Strategy};
use failover::uplink::UplinkId;

fn config(text: &str) -> Config {
    match parse(text) {
        Ok(config) => config,
        Err(error) => panic!("{error}"),
    }
}

fn targets(addresses: &[&str]) -> Vec<Target> {
    addresses
        .iter()
        .map(|address| Target::Icmp(address.parse().unwrap()))
        .collect()
}

fn default_probe() -> ProbeConfig {
    ProbeConfig {
        targets: targets(&["1.1.1.1", "9.9.9.9", "2606:4700:4700::1111", "2620:fe::fe"]),
        interval: Duration::from_millis(500),
        timeout: Duration::from_secs(1),
        required: 1,
        down_after: 3,
        up_after: 5,
        quality: QualityLimits {
            window: Duration::from_secs(30),
            max_loss: None,
            max_latency: None,
            max_jitter: None,
        },
        max_hold: Duration::from_secs(30 * 60),
        passive: Passive::Auto,
        budget: Budget::Auto,
    }
}

fn default_uplink(interface: &str) -> UplinkConfig {
    UplinkConfig {
        interface: interface.parse().unwrap(),
        id: None,
        gateway: None,
        gateway6: None,
        source: None,
        source6: None,
        virtual4: None,
        virtual6: None,
        prefixes6: None,
        weight: 1,
        priority: 1,
        new_flows: true,
        metered: false,
        capacity: None,
        nat: Nat::Masquerade,
        description: None,
        probe: default_probe(),
        on_down: OnDown::Reset,
        on_up: OnUp::Stay,
    }
}

#[test]
fn the_smallest_useful_file_has_every_default() {
    let parsed = config(
        "uplinks:\n  fiber: {interface: eth1}\n  lte:   {interface: wwan0, priority: 2}\ndownlinks: [eth0]\n",
    );
    let lte = UplinkConfig {
        priority: 2,
        ..default_uplink("wwan0")
    };
    let expected = Config {
        uplinks: [
            ("fiber".parse().unwrap(), default_uplink("eth1")),
            ("lte".parse().unwrap(), lte),
        ]
        .into(),
        downlinks: BTreeSet::from(["eth0".parse().unwrap()]),
        sets: BTreeMap::new(),
        rules: Vec::new(),
        mode: ModeSetting::Auto,
        strategies: Strategies::default(),
        affinity: Affinity::Flow,
        mss: Mss::Auto,
        fast_path: FastPathSetting::Auto,
        flow_capacity: 262_144,
        notify: BTreeMap::new(),
        marks: MarkMask::DEFAULT,
        base_table: 300,
        rule_priority: 1000,
        control: PathBuf::from("/run/failover/control.sock"),
        state_dir: PathBuf::from("/var/lib/failover"),
        bpffs: PathBuf::from("/sys/fs/bpf/failover"),
        log: LogTo::Auto,
        track_file: None,
    };
    assert_eq!(parsed, expected);
}

#[test]
fn every_key_is_read() {
    let parsed = config(
        r#"
uplinks:
  fiber:
    interface: wan1
    id: 7
    gateway: 198.18.11.1
    gateway6: fe80::1
    source: 198.18.11.2
    source6: 2001:db8::2
    virtual: 198.18.11.10
    virtual6: 2001:db8::10
    prefixes6: [2001:db8:1::/56]
    weight: 3
    priority: 1
    new_flows: false
    nat: masquerade
    description: "Provider 1"
    probe: {interval: 1s}
    flows: {on_up: stay, on_down: reset}
  lte:
    interface: wan2
    gateway: auto
    gateway6: auto
    priority: 2
downlinks: [lan0, lan1]
mode: classic
nat: none
probe:
  targets: [icmp://192.0.2.1, icmp://192.0.2.2, "icmp://fd00::1"]
  interval: 250ms
  timeout: 2s
  required: 2
  down_after: 4
  up_after: 6
  window: 1m
  max_loss: 25%
  max_latency: {above: 400ms, back_at: 150ms}
  max_jitter: 100ms
  max_hold: 0s
  passive: off
  budget: 5MB
flows: {affinity: pair, mss: off, capacity: 1024, on_down: keep, on_up: stay}
fastpath: off
marks: {mask: 0x0000ff00}
tables: {base: 1000}
rule_priority: 2000
control: /run/f/c.sock
state_dir: /var/lib/f
bpffs: /sys/fs/bpf/f
log: {to: {file: /var/log/f.log, size: 10MiB, keep: 3}}
track_file: /run/f/track
"#,
    );
    let probe = ProbeConfig {
        targets: targets(&["192.0.2.1", "192.0.2.2", "fd00::1"]),
        interval: Duration::from_millis(250),
        timeout: Duration::from_secs(2),
        required: 2,
        down_after: 4,
        up_after: 6,
        quality: QualityLimits {
            window: Duration::from_secs(60),
            max_loss: Some(Band {
                above: Percent::from_tenths(250).unwrap(),
                back_at: Percent::from_tenths(187).unwrap(),
            }),
            max_latency: Some(Band {
                above: Duration::from_millis(400),
                back_at: Duration::from_millis(150),
            }),
            max_jitter: Some(Band {
                above: Duration::from_millis(100),
                back_at: Duration::from_millis(75),
            }),
        },
        max_hold: Duration::ZERO,
        passive: Passive::Off,
        budget: Budget::Bytes(5_000_000),
    };
    let fiber = UplinkConfig {
        id: Some(UplinkId::try_from(7).unwrap()),
        gateway: Some("198.18.11.1".parse().unwrap()),
        gateway6: Some("fe80::1".parse().unwrap()),
        source: Some("198.18.11.2".parse().unwrap()),
        source6: Some("2001:db8::2".parse().unwrap()),
        virtual4: Some("198.18.11.10".parse().unwrap()),
        virtual6: Some("2001:db8::10".parse().unwrap()),
        prefixes6: Some(vec!["2001:db8:1::/56".parse().unwrap()]),
        weight: 3,
        new_flows: false,
        description: Some("Provider 1".to_owned()),
        probe: ProbeConfig {
            interval: Duration::from_secs(1),
            ..probe.clone()
        },
        ..default_uplink("wan1")
    };
    let lte = UplinkConfig {
        priority: 2,
        nat: Nat::None,
        probe,
        on_down: OnDown::Keep,
        ..default_uplink("wan2")
    };
    let expected = Config {
        uplinks: [
            ("fiber".parse().unwrap(), fiber),
            ("lte".parse().unwrap(), lte),
        ]
        .into(),
        downlinks: BTreeSet::from(["lan0".parse().unwrap(), "lan1".parse().unwrap()]),
        sets: BTreeMap::new(),
        rules: Vec::new(),
        mode: ModeSetting::Classic,
        strategies: Strategies::default(),
        affinity: Affinity::Pair(None),
        mss: Mss::Off,
        fast_path: FastPathSetting::Off,
        flow_capacity: 1024,
        notify: BTreeMap::new(),
        marks: MarkMask::new(0xff00).unwrap(),
        base_table: 1000,
        rule_priority: 2000,
        control: PathBuf::from("/run/f/c.sock"),
        state_dir: PathBuf::from("/var/lib/f"),
        bpffs: PathBuf::from("/sys/fs/bpf/f"),
        log: LogTo::File(LogFile {
            path: PathBuf::from("/var/log/f.log"),
            size: 10 << 20,
            keep: 3,
        }),
        track_file: Some(PathBuf::from("/run/f/track")),
    };
    assert_eq!(parsed, expected);
}

#[test]
fn a_log_file_needs_no_more_than_its_name() {
    let log = |to: &str| {
        config(&format!(
            "uplinks: {{a: {{interface: b}}}}\nlog: {{to: {to}}}\n"
        ))
        .log
    };
    assert_eq!(log("stderr"), LogTo::Stderr);
    assert_eq!(log("journal"), LogTo::Journal);
    assert_eq!(
        log("{file: /a.log}"),
        LogTo::File(LogFile {
            path: PathBuf::from("/a.log"),
            size: 10 << 20,
            keep: 5,
        })
    );
}

#[test]
fn only_a_metered_uplink_has_a_budget_by_default() {
    for (global, own, metered, expected) in [
        ("auto", None, false, None),
        ("auto", None, true, Some(10_000_000)),
        ("none", None, true, None),
        ("500kB", None, false, Some(500_000)),
        ("500kB", Some("1GB"), true, Some(1_000_000_000)),
        ("500kB", Some("auto"), true, Some(10_000_000)),
        ("500kB", Some("none"), true, None),
    ] {
        let own = own.map_or_else(String::new, |own| format!(", probe: {{budget: {own}}}"));
        let parsed = config(&format!(
            "uplinks: {{a: {{interface: b, metered: {metered}{own}}}}}\nprobe: {{budget: {global}}}\n"
        ));
        let uplink = parsed.uplinks.values().next().unwrap();
        assert_eq!(uplink.probe_budget(), expected, "{global}{own} {metered}");
    }
}

#[test]
fn a_host_with_no_network_behind_it_needs_no_downlinks() {
    assert!(
        config("uplinks: {a: {interface: eth1}}\n")
            .downlinks
            .is_empty()
    );
    assert!(
        config("uplinks: {a: {interface: eth1}}\ndownlinks: []\n")
            .downlinks
            .is_empty()
    );
}

#[test]
fn ebpf_mode_is_a_mode() {
    assert_eq!(
        config("uplinks: {a: {interface: eth1}}\nmode: ebpf\n").mode,
        ModeSetting::Ebpf
    );
}

#[test]
fn uplinks_share_an_interface_when_each_has_its_gateway() {
    let parsed = config(
        "uplinks:\n  a: {interface: eth1, gateway: 192.0.2.1}\n  b: {interface: eth1, gateway: 192.0.2.2}\n  \
         c: {interface: eth1, gateway6: fe80::1}\n",
    );
    assert_eq!(parsed.uplinks.len(), 3);
    assert!(
        parsed
            .uplinks
            .values()
            .all(|uplink| !parsed.learns_gateways(uplink))
    );

    let alone = config("uplinks: {a: {interface: eth1}, b: {interface: eth2}}\n");
    assert!(
        alone
            .uplinks
            .values()
            .all(|uplink| alone.learns_gateways(uplink))
    );
}

#[test]
fn users_may_be_behind_an_uplinks_interface() {
    let parsed = config(
        "uplinks:\n  a: {interface: eth0}\n  b: {interface: eth1}\n  c: {interface: eth2, gateway: 192.0.2.1}\n  \
         d: {interface: eth2, gateway: 192.0.2.2}\ndownlinks: [eth0, eth3]\n",
    );
    let mixed: Vec<String> = parsed
        .mixed_interfaces()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(mixed, ["eth0", "eth2"]);
    assert!(
        parsed
            .uplinks
            .values()
            .next()
            .is_some_and(|a| parsed.learns_gateways(a))
    );
}

#[test]
fn names_that_look_like_something_else_are_names() {
    let parsed = config(
        "uplinks:\n  1: {interface: 7, description: 2026}\n  yes: {interface: true, description: no}\ndownlinks: [0]\n",
    );
    let seen: Vec<_> = parsed
        .uplinks
        .iter()
        .map(|(name, uplink)| {
            let description = uplink.description.as_deref().unwrap();
            (name.as_str(), uplink.interface.as_str(), description)
        })
        .collect();
    assert_eq!(seen, [("1", "7", "2026"), ("yes", "true", "no")]);
    assert!(parsed.downlinks.contains(&"0".parse().unwrap()));
}

#[test]
fn an_alias_repeats_a_value() {
    let parsed = config(
        "uplinks:\n  a: {interface: eth1, probe: &slow {interval: 10s, timeout: 5s}}\n  \
         b: {interface: eth2, probe: *slow}\n",
    );
    assert!(
        parsed
            .uplinks
            .values()
            .all(|uplink| uplink.probe.interval == Duration::from_secs(10))
    );
}

#[test]
fn what_happens_when_a_better_uplink_returns_can_be_said_for_all_and_for_each() {
    let on_up = |all: &str, own: &str| {
        let parsed = config(&format!(
            "uplinks:\n  a: {{interface: eth1{own}}}\nflows: {{{all}}}\n"
        ));
        parsed.uplinks[&"a".parse().unwrap()].on_up
    };
    let minutes = |n| OnUp::Drain(Duration::from_mins(n));
    assert_eq!(on_up("", ""), OnUp::Stay);
    assert_eq!(on_up("on_up: move", ""), OnUp::Move);
    assert_eq!(on_up("on_up: {drain: 2m}", ""), minutes(2));
    assert_eq!(
        on_up("on_up: {drain: 1s}", ""),
        OnUp::Drain(Duration::from_secs(1))
    );
    assert_eq!(on_up("on_up: {drain: 24h}", ""), minutes(24 * 60));
    assert_eq!(on_up("on_up: move", ", flows: {on_up: stay}"), OnUp::Stay);
    assert_eq!(on_up("", ", flows: {on_up: {drain: 10m}}"), minutes(10));
    // Flows do not stay where every byte is paid for, unless that is what is said of this very one.
    assert_eq!(on_up("", ", metered: true"), minutes(5));
    assert_eq!(on_up("on_up: stay", ", metered: true"), minutes(5));
    assert_eq!(on_up("on_up: move", ", metered: true"), OnUp::Move);
    assert_eq!(
        on_up("", ", metered: true, flows: {on_up: stay}"),
        OnUp::Stay
    );
    assert_eq!(on_up("", ", metered: false"), OnUp::Stay);
}

#[test]
fn targets_of_one_family_are_enough() {
    let parsed = config(
        "uplinks: {a: {interface: eth1}}\nprobe: {targets: [icmp://192.0.2.1], required: 1}\n",
    );
    let probes = parsed
        .uplinks
        .into_values()
        .map(|uplink| uplink.probe.targets);
    assert!(probes.eq([targets(&["192.0.2.1"])]));
}

#[test]
fn as_many_uplinks_as_the_mask_holds_are_allowed() {
    let mut text = String::from("uplinks:\n");
    for n in 1..=127 {
        text += &format!("  u{n}: {{interface: eth{n}, id: {n}}}\n");
    }
    assert_eq!(config(&text).uplinks.len(), 127);
}

#[test]
fn a_file_of_another_system_is_read() {
    let parsed = config("\u{feff}# first\r\nuplinks:\r\n  a: {interface: eth1}\r\n...\r\n");
    assert_eq!(parsed.uplinks.len(), 1);
}

#[test]
fn targets_mean_the_same_however_they_are_written() {
    let targets = |list: &[&str]| {
        let list = list.join("\n    - ");
        let text =
            format!("uplinks: {{a: {{interface: eth1}}}}\nprobe:\n  targets:\n    - {list}\n");
        config(&text)
            .uplinks
            .into_values()
            .next()
            .unwrap()
            .probe
            .targets
    };
    let read = targets(&[
        "tcp://example.org:443",
        "{url: tcp://example.org:444}",
        r#"{url: "https://[fd00::1]:8443/up?x=1", status: 204, body: 'a "b" \', ca: /etc/ca.pem}"#,
        "{url: http://example.org, status: [302, 200]}",
        "{url: dns://192.0.2.53/example.org, record: NS}",
        "arp://gateway",
        "exec:/usr/bin/up",
        r#"{exec: /usr/bin/up, args: [-w, 3, "a b", ""]}"#,
    ]);
    let shown: Vec<String> = read.iter().map(Target::to_string).collect();
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    assert_eq!(
        shown,
        [
            "tcp://example.org:443",
            "tcp://example.org:444",
            r#"{url: "https://[fd00::1]:8443/up?x=1", status: [204], body: "a \"b\" \\", ca: "/etc/ca.pem"}"#,
            r#"{url: "http://example.org/", status: [200, 302]}"#,
            r#"{url: "dns://192.0.2.53/example.org", record: NS}"#,
            "arp://gateway",
            "exec:/usr/bin/up",
            r#"{exec: "/usr/bin/up", args: ["-w", "3", "a b", ""]}"#,
        ]
    );
    assert_eq!(targets(&shown), read);
}

#[test]
fn strategies_are_given_for_all_by_priority_and_for_rules() {
    let uplinks = "uplinks:\n  a: {interface: eth1, capacity: {down: 100Mbit, up: 500kbit}}\n  \
         b: {interface: eth2, priority: 2, capacity: 1Gbit}\n";
    let parsed = config(uplinks);
    assert_eq!(parsed.strategies, Strategies::default());
    assert_eq!(parsed.strategies.of(7), Strategy::Weight);
    let capacity = |name: &str| {
        let uplink = &parsed.uplinks[&name.parse().unwrap()];
        uplink.capacity.unwrap()
    };
    let of = |down, up| Capacity {
        down: Rate(down),
        up: Rate(up),
    };
    assert_eq!(capacity("a"), of(100_000_000, 500_000));
    assert_eq!(capacity("b"), of(1_000_000_000, 1_000_000_000));
    assert_eq!(capacity("a").to_string(), "{down: 100Mbit, up: 500kbit}");

    let share = |tenths| Strategy::Overflow(Percent::from_tenths(tenths).unwrap());
    for (written, meant) in [
        ("weight", Strategy::Weight),
        ("least_latency", Strategy::LeastLatency),
        ("overflow", share(900)),
        ("{overflow: 62.5%}", share(625)),
    ] {
        let parsed = config(&format!(
            "{uplinks}strategy: {written}\nrules:\n  - {{via: [a, b], strategy: {written}}}\n"
        ));
        assert_eq!(parsed.strategies, meant.into());
        assert_eq!(parsed.rules[0].via.strategy, meant);
    }
    let parsed = config(&format!(
        "{uplinks}strategy: {{1: overflow, 2: least_latency}}\nrules: [{{via: a}}]\n"
    ));
    assert_eq!(parsed.strategies.of(1), share(900));
    assert_eq!(parsed.strategies.of(2), Strategy::LeastLatency);
    assert_eq!(parsed.rules[0].via.strategy, Strategy::Weight);
    assert_eq!(
        parsed.strategies.to_string(),
        "{1: {overflow: 90%}, 2: least_latency}"
    );
}
