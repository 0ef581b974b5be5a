//! What is taken over from a changed file, and what is refused.

use proptest::prelude::*;

use super::*;
use crate::config;

const FILE: &str = "/etc/failover/failover.yaml";

const YAML: &str = "
uplinks:
  fiber: {interface: wan1, weight: 3}
  lte: {interface: wan2, priority: 2}
downlinks: [lan0]
";

fn config(yaml: &str) -> Config {
    config::parse(yaml).unwrap()
}

fn id(number: u8) -> UplinkId {
    UplinkId::try_from(number).unwrap()
}

fn running(yaml: &str, picked_by: PickedBy) -> Current {
    let config = config(yaml);
    let ids = identity::assign(&config.given_ids(), &Ids::new(), config.marks)
        .unwrap()
        .ids;
    Current {
        config,
        ids,
        picked_by,
    }
}

fn plan_of(current: &Current, yaml: &str) -> Result<Plan, ReloadError> {
    plan(
        current,
        config(yaml),
        FILE.into(),
        current.ids.clone(),
        Sets::new(),
    )
}

fn changes(old: &str, new: &str) -> Vec<String> {
    let plan = plan_of(&running(old, PickedBy::Nftables), new).unwrap();
    plan.changes.iter().map(ToString::to_string).collect()
}

fn refusal(picked_by: PickedBy, old: &str, new: &str) -> String {
    plan_of(&running(old, picked_by), new)
        .unwrap_err()
        .to_string()
}

#[test]
fn the_same_in_other_words_changes_nothing() {
    let same = "
# Another order, and defaults spelled out.
nat: masquerade
downlinks: [lan0]
uplinks:
  lte: {priority: 2, interface: wan2, weight: 1, probe: {interval: 500ms}}
  fiber: {interface: wan1, weight: 3, id: 1, gateway: auto}
";
    assert_eq!(changes(YAML, same), [""; 0]);
}

#[test]
fn every_key_of_an_uplink_is_told_with_what_it_was() {
    let new = "
uplinks:
  fiber: {interface: wan9, id: 7, gateway: 198.18.11.1, gateway6: 'fe80::1', source: 198.18.11.2,
          source6: 'fd00::2', virtual: 198.18.11.9, virtual6: 'fd00::9', prefixes6: ['fd00:1::/56', 'fd00:2::/56'], weight: 1, priority: 5,
          new_flows: false, nat: none, description: Provider 1,
          probe: {targets: [icmp://192.0.2.1, icmp://192.0.2.2], interval: 1s, timeout: 1m,
                  required: 2, down_after: 4, up_after: 6},
          flows: {on_down: keep}}
  lte: {interface: wan2, priority: 2}
downlinks: [lan0]
";
    let default =
        "[icmp://1.1.1.1, icmp://9.9.9.9, icmp://2606:4700:4700::1111, icmp://2620:fe::fe]";
    assert_eq!(
        changes(YAML, new),
        [
            "fiber: id 1 -> 7",
            "fiber: interface wan1 -> wan9",
            "fiber: gateway auto -> 198.18.11.1",
            "fiber: gateway6 auto -> fe80::1",
            "fiber: source auto -> 198.18.11.2",
            "fiber: source6 auto -> fd00::2",
            "fiber: virtual none -> 198.18.11.9",
            "fiber: virtual6 none -> fd00::9",
            "fiber: prefixes6 auto -> [fd00:1::/56, fd00:2::/56]",
            "fiber: weight 3 -> 1",
            "fiber: priority 1 -> 5",
            "fiber: new_flows true -> false",
            "fiber: nat masquerade -> none",
            "fiber: description the name -> \"Provider 1\"",
            &format!("fiber: probe.targets {default} -> [icmp://192.0.2.1, icmp://192.0.2.2]"),
            "fiber: probe.interval 500ms -> 1s",
            "fiber: probe.timeout 1s -> 1m",
            "fiber: probe.required 1 -> 2",
            "fiber: probe.down_after 3 -> 4",
            "fiber: probe.up_after 5 -> 6",
            "fiber: flows.on_down reset -> keep",
        ]
    );
}

#[test]
fn uplinks_downlinks_and_settings_come_and_go() {
    let new = "
uplinks:
  cable: {interface: wan3}
  fiber: {interface: wan1, weight: 3}
downlinks: [lan1]
flows: {affinity: source}
fastpath: off
tables: {base: 1000}
rule_priority: 2000
";
    assert_eq!(
        changes(YAML, new),
        [
            "uplink cable added",
            "uplink lte removed",
            "downlink lan1 added",
            "downlink lan0 removed",
            "flows.affinity flow -> source",
            "fastpath auto -> off",
            "tables.base 300 -> 1000",
            "rule_priority 1000 -> 2000",
        ]
    );
}

#[test]
fn a_rule_that_forbids_the_fast_path_is_another_rule() {
    let rule = |more: &str| format!("{YAML}rules:\n  - {{name: voice, via: fiber{more}}}\n");
    let forbids = rule(", fastpath: off");
    assert_eq!(changes(&rule(""), &forbids), ["rule voice changed"]);
    assert_eq!(changes(&rule(", fastpath: auto"), &rule("")), [""; 0]);
}

#[test]
fn what_concerns_all_uplinks_is_told_of_each() {
    assert_eq!(
        changes(
            YAML,
            &format!("{YAML}\nnat: none\nflows: {{on_down: keep}}")
        ),
        [
            "fiber: nat masquerade -> none",
            "fiber: flows.on_down reset -> keep",
            "lte: nat masquerade -> none",
            "lte: flows.on_down reset -> keep",
        ]
    );
}

#[test]
fn what_cannot_change_is_refused_whole_and_named_with_old_and_new() {
    for (key, line, from, to) in [
        ("mode", "mode: classic", "auto", "classic"),
        (
            "marks.mask",
            "marks: {mask: 0x0000ff00}",
            "0xff000000",
            "0x0000ff00",
        ),
        (
            "control",
            "control: /run/other.sock",
            "/run/failover/control.sock",
            "/run/other.sock",
        ),
        (
            "state_dir",
            "state_dir: /var/other",
            "/var/lib/failover",
            "/var/other",
        ),
        (
            "bpffs",
            "bpffs: /sys/fs/bpf/other",
            "/sys/fs/bpf/failover",
            "/sys/fs/bpf/other",
        ),
        ("log", "log: {to: journal}", "the default", "journal"),
        (
            "flows.capacity",
            "flows: {capacity: 4096}",
            "262144",
            "4096",
        ),
    ] {
        let said = refusal(PickedBy::Tc, YAML, &format!("{YAML}\n{line}\n"));
        assert!(
            said.starts_with(&format!("{FILE}: `{key}` ({from} -> {to}) cannot change"))
                && said.contains("restart it"),
            "{said}"
        );
    }
    let both = format!("{YAML}\nmode: classic\nstate_dir: /var/other\n");
    let said = refusal(PickedBy::Tc, YAML, &both);
    assert!(said.contains("`mode`") && said.contains("`state_dir`"));
}

#[test]
fn a_mode_that_runs_already_is_taken_over() {
    use PickedBy::{Nftables, Tc};
    for (old, new, picked_by, good) in [
        ("auto", "ebpf", Tc, true),
        ("ebpf", "auto", Tc, true),
        ("auto", "classic", Nftables, true),
        ("auto", "classic", Tc, false),
        ("auto", "ebpf", Nftables, false),
        // It would try eBPF first, which nobody knows to fail.
        ("classic", "auto", Nftables, false),
    ] {
        let with = |mode| format!("{YAML}\nmode: {mode}\n");
        let plan = plan_of(&running(&with(old), picked_by), &with(new));
        assert_eq!(plan.is_ok(), good, "{old} -> {new}, {picked_by:?}");
    }
}

#[test]
fn keys_of_ebpf_mode_mean_nothing_in_classic_mode() {
    let new = format!("{YAML}\nbpffs: /sys/fs/bpf/other\nflows: {{capacity: 4096}}\n");
    assert!(plan_of(&running(YAML, PickedBy::Nftables), &new).is_ok());
}

#[test]
fn an_uplink_that_went_gets_its_id_back() {
    let without = "uplinks: {lte: {interface: wan2, priority: 2}, new: {interface: wan3}}";
    let current = running(YAML, PickedBy::Nftables);
    let gone = plan_of(&current, without).unwrap();
    assert_eq!(
        gone.ids,
        [
            ("lte".parse().unwrap(), id(2)),
            ("new".parse().unwrap(), id(3)),
        ]
        .into()
    );
    let current = Current {
        config: gone.config,
        ids: gone.ids,
        picked_by: PickedBy::Nftables,
    };
    let back = plan(
        &current,
        config(YAML),
        FILE.into(),
        gone.remembered,
        Sets::new(),
    )
    .unwrap();
    assert_eq!(
        back.ids["fiber".parse::<UplinkName>().as_ref().unwrap()],
        id(1)
    );
}

#[test]
fn an_id_that_an_uplink_was_given_is_not_taken_from_it() {
    let new = "
uplinks:
  fiber: {interface: wan1, weight: 3}
  lte: {interface: wan2, priority: 2}
  cable: {interface: wan3, id: 1}
downlinks: [lan0]
";
    let said = refusal(PickedBy::Tc, YAML, new);
    assert!(
        said.contains("`uplinks.cable.id` is 1, which `fiber` has been given"),
        "{said}"
    );
    let said = new.replace("weight: 3", "weight: 3, id: 9");
    assert!(plan_of(&running(YAML, PickedBy::Tc), &said).is_ok());
}

#[test]
fn ids_in_use_count_even_if_nobody_remembers_them() {
    let old = "uplinks: {b: {interface: wan2}, c: {interface: wan3}}";
    let new = "uplinks: {a: {interface: wan1}, b: {interface: wan2}, c: {interface: wan3}}";
    let current = running(old, PickedBy::Tc);
    let plan = plan(&current, config(new), FILE.into(), Ids::new(), Sets::new()).unwrap();
    for (name, id) in &current.ids {
        assert_eq!(plan.ids[name], *id);
    }
}

fn names() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::btree_set("[a-h]", 1..8).prop_map(|names| names.into_iter().collect())
}

fn written(names: &[String]) -> String {
    let lines: Vec<String> = names
        .iter()
        .map(|name| format!("  {name}: {{interface: wan-{name}}}\n"))
        .collect();
    format!("uplinks:\n{}", lines.concat())
}

proptest! {
    /// Whoever comes and goes, who stays keeps the id, and each change is told once.
    #[test]
    fn who_stays_keeps_the_id(old in names(), new in names()) {
        let current = running(&written(&old), PickedBy::Tc);
        let plan = plan_of(&current, &written(&new)).unwrap();
        for (name, id) in &current.ids {
            if let Some(after) = plan.ids.get(name) {
                prop_assert_eq!(after, id);
            }
        }
        let expected = old.iter().filter(|name| !new.contains(name)).count()
            + new.iter().filter(|name| !old.contains(name)).count();
        prop_assert_eq!(plan.changes.len(), expected);
    }
}
