//! mwan3's rules: one for all traffic becomes the uplinks' own numbers, the others become rules.

use std::collections::{BTreeMap, BTreeSet};

use super::super::network::Network;
use super::super::uci::{Section, Setting};
use super::super::{Draft, ImportError};
use super::interfaces::Uplinks;
use super::{Policy, number};
use crate::draft::{self, Entry, Value};

/// For how long mwan3 remembers where it does not say.
const STICKY: u32 = 600;

type Policies = BTreeMap<String, Policy>;

/// What the rules say.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// The policy for all traffic.
    pub(super) default: Option<Policy>,
    /// The others.
    pub(super) rules: Vec<Vec<Entry>>,
    /// The devices that rules are for, which are downlinks.
    pub(super) devices: BTreeSet<String>,
}

/// A rule, and the device that what it matches comes in by, where it looks at that.
struct Rule {
    entries: Vec<Entry>,
    device: Option<String>,
}

/// Reads the rules.
pub(super) fn read(
    sections: &[Section<'_>],
    policies: &Policies,
    uplinks: &Uplinks,
    network: Option<&Network>,
    draft: &mut Draft,
) -> Result<Rules, ImportError> {
    let mut read = Rules::default();
    for (position, section) in (1..).zip(sections.iter().filter(|section| section.kind == "rule")) {
        let name = section
            .name
            .map_or_else(|| format!("rule {position}"), str::to_owned);
        let Some(used) = section.option("use_policy") else {
            draft.remark(
                section.line,
                format!("the rule `{name}` names no policy: left out"),
            );
            continue;
        };
        let Some(policy) = policies
            .get(used.value)
            .filter(|policy| !policy.members.is_empty())
        else {
            draft.remark(used.line, without_policy(&name, used.value, policies));
            continue;
        };
        if is_for_all(section) {
            match &read.default {
                None => {
                    last_resort(policy, draft);
                    read.default = Some(policy.clone());
                }
                Some(first) if first.members == policy.members => {}
                Some(_) => draft.remark(
                    section.line,
                    format!(
                        "the rule `{name}` is a second one for all traffic (of the other family) with \
                         another policy: priorities and weights are those of the first"
                    ),
                ),
            }
            continue;
        }
        if read.default.is_some() {
            draft.remark(
                section.line,
                format!(
                    "the rule `{name}` stands behind one for all traffic, which came first: look \
                     whether it is meant"
                ),
            );
        }
        if let Some(Rule { entries, device }) =
            rule(&name, section, policy, uplinks, network, draft)?
        {
            match trouble(policy, &entries, device.as_deref()) {
                None => {
                    read.rules.push(entries);
                    read.devices.extend(device);
                }
                Some(why) => draft.remark(
                    section.line,
                    format!("the rule `{name}` was left out: {why}"),
                ),
            }
        }
    }
    Ok(read)
}

fn without_policy(name: &str, policy: &str, policies: &Policies) -> String {
    match policy {
        "default" => format!(
            "the rule `{name}` sends by the default route of `main` (`use_policy default`): no rule \
             does that; make one that names the uplink"
        ),
        "unreachable" | "blackhole" => format!(
            "the rule `{name}` refuses traffic (`use_policy {policy}`): that is for the firewall"
        ),
        _ if policies.contains_key(policy) => {
            format!("the rule `{name}` was left out: no member of `{policy}` takes part")
        }
        _ => format!("the rule `{name}` was left out: there is no policy `{policy}`"),
    }
}

fn is_for_all(section: &Section<'_>) -> bool {
    let everything =
        |option: &Setting<'_>| matches!(option.value, "0.0.0.0/0" | "::/0" | "all" | "");
    [
        "src_ip",
        "dest_ip",
        "src_port",
        "dest_port",
        "proto",
        "ipset",
        "src_iface",
    ]
    .iter()
    .filter_map(|key| section.option(key))
    .all(everything)
}

fn last_resort(policy: &Policy, draft: &mut Draft) {
    if policy.last_resort != "default" {
        draft.remark(
            policy.line,
            format!(
                "`last_resort {}`: with no usable uplink every one that has a route is tried",
                policy.last_resort
            ),
        );
    }
}

fn rule(
    name: &str,
    section: &Section<'_>,
    policy: &Policy,
    uplinks: &Uplinks,
    network: Option<&Network>,
    draft: &mut Draft,
) -> Result<Option<Rule>, ImportError> {
    let mut matched = Vec::new();
    let mut from = None;
    let mut left_out = None;
    for option in &section.options {
        match option.key {
            "src_ip" | "dest_ip" => {
                let ours = if option.key == "src_ip" {
                    "source"
                } else {
                    "destination"
                };
                match addresses(option.value) {
                    Some(list) => matched.push(Entry::new(ours, Value::Row(list))),
                    None => left_out = Some((option, "addresses and prefixes are allowed")),
                }
            }
            "proto" if option.value == "all" => {}
            "proto" => matched.push(Entry::scalar("protocol", option.value)),
            "src_port" | "dest_port" => {
                let ours = if option.key == "src_port" {
                    "source_ports"
                } else {
                    "ports"
                };
                let ports = option.value.replace(':', "-");
                let ports: Vec<&str> = ports
                    .split([',', ' '])
                    .filter(|port| !port.is_empty())
                    .collect();
                matched.push(Entry::new(
                    ours,
                    Value::Yaml(format!("[{}]", ports.join(", "))),
                ));
            }
            "ipset" => left_out = Some((option, "write its addresses as one of `sets`")),
            "src_iface" => {
                let device = network.and_then(|network| network.device(option.value));
                match device.filter(|device| !uplinks.has_device(device)) {
                    Some(device) => {
                        matched.push(Entry::scalar("interface", device));
                        from = Some(device.to_owned());
                    }
                    None => left_out = Some((option, "name its device as `interface`")),
                }
            }
            "use_policy" | "sticky" | "timeout" => {}
            "family" => {
                let all = if option.value == "ipv6" {
                    "::/0"
                } else {
                    "0.0.0.0/0"
                };
                let says = section
                    .options
                    .iter()
                    .any(|other| matches!(other.key, "src_ip" | "dest_ip"));
                if !says && matches!(option.value, "ipv4" | "ipv6") {
                    matched.push(Entry::new("destination", Value::Row(vec![all.to_owned()])));
                }
            }
            other => draft.remark(
                option.line,
                format!(
                    "`{other} {}` of the rule `{name}` was left out",
                    option.value
                ),
            ),
        }
    }
    if let Some((option, instead)) = left_out {
        draft.remark(
            option.line,
            format!(
                "the rule `{name}` was left out because of `{} {}`: {instead}",
                option.key, option.value
            ),
        );
        return Ok(None);
    }
    let mut entries = vec![
        Entry::scalar("name", &name.chars().take(100).collect::<String>()),
        Entry::new("match", Value::Map(matched)),
        Entry::new("via", Value::Yaml(via(policy))),
    ];
    if section
        .option("sticky")
        .is_some_and(|option| option.value == "1")
    {
        let seconds = section.option("timeout").map_or(Ok(STICKY), number)?;
        let affinity = format!("{{source: {}s}}", seconds.clamp(1, 86_400));
        entries.push(Entry::new("affinity", Value::Yaml(affinity)));
    }
    if policy.last_resort != "default" {
        entries.push(Entry::scalar("otherwise", "drop"));
    }
    Ok(Some(Rule {
        entries,
        device: from,
    }))
}

/// Why a rule cannot be, beside uplinks and downlinks that exist.
fn trouble(policy: &Policy, rule: &[Entry], device: Option<&str>) -> Option<String> {
    let names: BTreeSet<&str> = policy
        .members
        .iter()
        .map(|member| member.uplink.as_str())
        .collect();
    let uplink = |(number, name): (usize, &str)| {
        let interface = Entry::scalar("interface", &format!("uplink{number}"));
        Entry::new(name, Value::Map(vec![interface]))
    };
    let uplinks = names.into_iter().enumerate().map(uplink).collect();
    let downlinks = device.into_iter().map(str::to_owned).collect();
    draft::trouble(&[
        Entry::new("uplinks", Value::Map(uplinks)),
        Entry::new("downlinks", Value::Row(downlinks)),
        Entry::new("rules", Value::Maps(vec![rule.to_vec()])),
    ])
}

/// Members in the order of their metrics; those of one metric are a pool.
fn via(policy: &Policy) -> String {
    let mut groups: Vec<(u32, Vec<(String, u32)>)> = Vec::new();
    for member in &policy.members {
        let seen = |groups: &[(u32, Vec<(String, u32)>)]| {
            let mut all = groups.iter().flat_map(|(_, group)| group);
            all.any(|(uplink, _)| *uplink == member.uplink)
        };
        if seen(&groups) {
            continue;
        }
        let item = (member.uplink.clone(), member.weight);
        match groups.last_mut() {
            Some((metric, group)) if *metric == member.metric => group.push(item),
            _ => groups.push((member.metric, vec![item])),
        }
    }
    let groups: Vec<String> = groups
        .iter()
        .map(|(_, group)| match group.as_slice() {
            [(only, _)] => format!("\"{only}\""),
            pool => {
                let pool: Vec<String> = pool
                    .iter()
                    .map(|(uplink, weight)| format!("\"{uplink}\": {weight}"))
                    .collect();
                format!("{{{}}}", pool.join(", "))
            }
        })
        .collect();
    format!("[{}]", groups.join(", "))
}

/// Addresses and prefixes; none where there is something else.
fn addresses(text: &str) -> Option<Vec<String>> {
    text.split([',', ' '])
        .filter(|part| !part.is_empty())
        .map(|part| {
            let is_net = part.parse::<ipnet::IpNet>().is_ok();
            (is_net || part.parse::<std::net::IpAddr>().is_ok()).then(|| part.to_owned())
        })
        .collect()
}
