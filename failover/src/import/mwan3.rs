//! mwan3: interfaces, members with metric and weight, policies of members, rules that name policies.

mod interfaces;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use super::network::Network;
use super::uci::{self, NotUci, Section, Setting};
use super::{Draft, ImportError, Program};
use crate::config::Place;
use crate::draft::{Entry, Value};
use interfaces::Uplinks;

/// A member of a policy: an uplink, with the numbers that it has there.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    uplink: String,
    metric: u32,
    weight: u32,
}

/// A policy.
#[derive(Clone, Debug)]
struct Policy {
    members: Vec<Member>,
    last_resort: String,
    line: u64,
}

pub(super) fn read(text: &str, network: Option<&str>) -> Result<Draft, ImportError> {
    let not = |NotUci { place, why }| ImportError::NotThat {
        program: Program::Mwan3,
        place,
        why,
        looks_like: None,
    };
    let sections = uci::read(text).map_err(not)?;
    let known = network.map(Network::read).transpose().map_err(|error| {
        let why = format!("the file of --network is no UCI: {}", error.why);
        ImportError::value(error.place, why)
    })?;
    if !sections.iter().any(|section| section.kind == "interface") {
        return Err(ImportError::not(
            Program::Mwan3,
            1,
            "it has no `config interface` section",
        ));
    }
    // /etc/config/network has sections of this name, too.
    if let Some(section) = sections
        .iter()
        .find(|section| section.kind == "interface" && section.option("proto").is_some())
    {
        return Err(ImportError::not(
            Program::Mwan3,
            section.line,
            "this is /etc/config/network: name it with --network, and /etc/config/mwan3 as FILE",
        ));
    }
    let mut draft = Draft {
        about: vec![
            "From a configuration of mwan3. Devices, targets and rules are as they were there; what \
             has no equivalent was said on standard error."
                .to_owned(),
        ],
        ..Draft::default()
    };
    globals(&sections, &mut draft);
    let uplinks = Uplinks::read(&sections, known.as_ref(), &mut draft)?;
    let members = members(&sections, &uplinks, &mut draft)?;
    let policies = policies(&sections, &members, &mut draft);
    let rules = rules::read(&sections, &policies, &uplinks, known.as_ref(), &mut draft)?;
    let shares = rules.default.as_ref().map(shares);
    let downlinks = downlinks(known.as_ref(), &uplinks, rules.devices, &mut draft);
    let entries = uplinks.entries(shares.as_ref(), &mut draft);
    draft.entries = vec![Entry::new("uplinks", Value::Map(entries)), downlinks];
    if !rules.rules.is_empty() {
        let rules = Value::Maps(rules.rules);
        draft.entries.push(Entry::new("rules", rules));
    }
    Ok(draft)
}

/// Each uplink's best metric and its weight there.
fn shares(policy: &Policy) -> BTreeMap<String, (u32, u32)> {
    let mut shares = BTreeMap::new();
    for member in &policy.members {
        let share = shares
            .entry(member.uplink.clone())
            .or_insert((member.metric, member.weight));
        if member.metric < share.0 {
            *share = (member.metric, member.weight);
        }
    }
    shares
}

fn globals(sections: &[Section<'_>], draft: &mut Draft) {
    for option in sections
        .iter()
        .filter(|section| section.kind == "globals")
        .flat_map(|section| &section.options)
    {
        let text = match option.key {
            "mmx_mask" => format!(
                "`mmx_mask {}`: ours is `marks.mask`, by default 0xff000000; nothing to do unless \
                 other software uses those bits",
                option.value
            ),
            "logging" | "loglevel" => format!(
                "`{}`: failover run -v or -q, or RUST_LOG, say what is logged",
                option.key
            ),
            other => format!("`{other}` has no equivalent and needs none"),
        };
        draft.remark(option.line, text);
    }
}

fn members(
    sections: &[Section<'_>],
    uplinks: &Uplinks,
    draft: &mut Draft,
) -> Result<BTreeMap<String, Member>, ImportError> {
    let mut members = BTreeMap::new();
    for section in sections.iter().filter(|section| section.kind == "member") {
        let Some(name) = section.name else {
            draft.remark(section.line, "a member without a name cannot be used");
            continue;
        };
        let interface = section.option("interface").ok_or_else(|| {
            wrong(
                section.line,
                format!("the member `{name}` has no interface"),
            )
        })?;
        let Some(uplink) = uplinks.of(interface.value) else {
            draft.remark(
                interface.line,
                format!(
                    "the member `{name}` was left out: `{}` is no interface that takes part",
                    interface.value
                ),
            );
            continue;
        };
        let number = |key: &str, most: u32| match section.option(key) {
            Some(option) => number(option).map(|value| value.clamp(1, most)),
            None => Ok(1),
        };
        let member = Member {
            uplink: uplink.to_owned(),
            metric: number("metric", 65_535)?,
            weight: number("weight", 256)?,
        };
        members.insert(name.to_owned(), member);
    }
    Ok(members)
}

fn policies(
    sections: &[Section<'_>],
    members: &BTreeMap<String, Member>,
    draft: &mut Draft,
) -> BTreeMap<String, Policy> {
    let mut policies = BTreeMap::new();
    for section in sections.iter().filter(|section| section.kind == "policy") {
        let mut policy = Policy {
            members: Vec::new(),
            last_resort: section
                .option("last_resort")
                .map_or("unreachable", |option| option.value)
                .to_owned(),
            line: section.line,
        };
        for used in section.list("use_member") {
            match members.get(used.value) {
                // wan and wan6 are one uplink here.
                Some(member) if policy.members.contains(member) => {}
                Some(member) => policy.members.push(member.clone()),
                None => draft.remark(
                    used.line,
                    format!("`{}` is no member that takes part: left out", used.value),
                ),
            }
        }
        policy.members.sort_by_key(|member| member.metric);
        if let Some(name) = section.name {
            policies.insert(name.to_owned(), policy);
        }
    }
    policies
}

fn downlinks(
    network: Option<&Network>,
    uplinks: &Uplinks,
    named: BTreeSet<String>,
    draft: &mut Draft,
) -> Entry {
    let found: BTreeSet<String> = network
        .iter()
        .flat_map(|network| {
            let local = network
                .interfaces
                .iter()
                .filter(|(_, found)| found.is_local);
            local.filter_map(|(name, _)| network.device(name))
        })
        .filter(|device| !uplinks.has_device(device))
        .map(str::to_owned)
        .chain(named)
        .collect();
    if !found.is_empty() {
        return Entry::new("downlinks", Value::Row(found.into_iter().collect()))
            .with_comment("Interfaces with a fixed private address and no gateway.");
    }
    draft.remark(
        None,
        "downlinks: mwan3 steers what comes in by any interface; name those behind which users are \
         (br-lan is a guess)",
    );
    Entry::new("downlinks", Value::Row(vec!["br-lan".to_owned()]))
        .with_comment("A guess: the interfaces behind which users are.")
}

fn number(option: &Setting<'_>) -> Result<u32, ImportError> {
    option.value.parse().map_err(|_| {
        wrong(
            option.line,
            format!("`{} {}` is no number", option.key, option.value),
        )
    })
}

fn wrong(line: u64, why: impl Into<String>) -> ImportError {
    ImportError::value(Place { line, column: 1 }, why)
}
