//! The keys that concern all uplinks, and the whole file.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::affinity::affinity;
use super::log::log;
use super::matching::Known;
use super::model::{
    Affinity, Config, FastPathSetting, LogTo, ModeSetting, Mss, Nat, OnDown, OnUp, ProbeConfig,
};
use super::notify;
use super::on_up::on_up;
use super::probe::probe;
use super::relations;
use super::rules::{rules, sets};
use super::section::{Given, Keys, Problems, Read, Section, Value};
use super::strategy;
use super::tree::Content;
use super::uplinks::{Defaults, uplinks};
use super::value::{integer, interface, path, word};
use crate::interface::InterfaceName;
use crate::mark::MarkMask;
use crate::uplink::UplinkId;

const KEYS: Keys = Keys {
    known: &[
        "uplinks",
        "downlinks",
        "sets",
        "rules",
        "strategy",
        "mode",
        "nat",
        "probe",
        "flows",
        "fastpath",
        "notify",
        "marks",
        "tables",
        "rule_priority",
        "control",
        "state_dir",
        "bpffs",
        "log",
        "track_file",
    ],
    later: &[],
};
const FLOW_KEYS: Keys = Keys {
    known: &["affinity", "on_down", "on_up", "mss", "capacity"],
    later: &[],
};
const UPLINK_FLOW_KEYS: Keys = Keys {
    known: &["on_down", "on_up"],
    later: &[],
};
const MARK_KEYS: Keys = Keys {
    known: &["mask"],
    later: &[],
};
const TABLE_KEYS: Keys = Keys {
    known: &["base"],
    later: &[],
};

/// Entries of the flow table: by default, and at least and at most. One takes about 150 bytes of
/// memory of the kernel.
pub(crate) const FLOW_CAPACITY: u32 = 262_144;
const FLOW_CAPACITIES: RangeInclusive<u32> = 1024..=16_777_216;

const MODE: [(&str, ModeSetting); 3] = [
    ("auto", ModeSetting::Auto),
    ("ebpf", ModeSetting::Ebpf),
    ("classic", ModeSetting::Classic),
];
pub(super) const NAT: [(&str, Nat); 2] = [("masquerade", Nat::Masquerade), ("none", Nat::None)];
pub(super) const FAST_PATH: [(&str, FastPathSetting); 2] = [
    ("auto", FastPathSetting::Auto),
    ("off", FastPathSetting::Off),
];
const MSS: [(&str, Mss); 2] = [("auto", Mss::Auto), ("off", Mss::Off)];
const ON_DOWN: [(&str, OnDown); 2] = [("reset", OnDown::Reset), ("keep", OnDown::Keep)];

/// The default of `tables.base`.
const BASE_TABLE: u32 = 300;
/// For how many tables there is room behind those of uplinks; rules need no more.
const WAY_TABLES: u32 = 0x1_0000;
/// The default of `rule_priority`.
const RULE_PRIORITY: u32 = 1000;
/// The largest `rule_priority`: the preferences behind it that are ours, too, stay well before
/// 32765, where the catch-all stands, and 32766, where `main` does.
const LAST_RULE_PRIORITY: u32 = 32_000;
/// The longest path of a UNIX socket, the closing zero not counted (`sun_path`, unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;
/// The longest path of anything else (`PATH_MAX`, with room for the names of files below it).
pub(super) const LONGEST_PATH: usize = 3840;

/// What `flows` says, where it says something.
#[derive(Clone, Copy, Default)]
pub(super) struct FlowSettings {
    affinity: Option<Affinity>,
    mss: Option<Mss>,
    capacity: Option<u32>,
    pub(super) on_down: Option<OnDown>,
    pub(super) on_up: Option<OnUp>,
}

/// Reads the whole file.
pub(super) fn config(root: &Value<'_>) -> Read<Config> {
    let mut section = Section::open(root, &KEYS)?;
    let mode = section
        .read("mode", |v| word(v, &MODE))
        .or(ModeSetting::Auto);
    let nat = section.read("nat", |v| word(v, &NAT)).or(Nat::Masquerade);
    let fast_path = section
        .read("fastpath", |v| word(v, &FAST_PATH))
        .or(FastPathSetting::Auto);
    let default_probe = ProbeConfig::default();
    let probe = section.read("probe", |v| probe(v, Some(&default_probe)));
    let flows = section.read("flows", flows).or(FlowSettings::default());
    let marks = section.read("marks", mask);
    let base_table = section.read("tables", base_table).or(BASE_TABLE);
    let rule_priority = section
        .read("rule_priority", |v| integer(v, 1..=LAST_RULE_PRIORITY))
        .or(RULE_PRIORITY);
    let control = read_path(&mut section, "control", LONGEST_SOCKET_PATH)
        .unwrap_or_else(|| "/run/failover/control.sock".into());
    let state_dir = read_path(&mut section, "state_dir", LONGEST_PATH)
        .unwrap_or_else(|| "/var/lib/failover".into());
    let bpffs = read_path(&mut section, "bpffs", LONGEST_PATH)
        .unwrap_or_else(|| "/sys/fs/bpf/failover".into());
    let log = section.read("log", log).or(LogTo::Auto);
    let track_file = read_path(&mut section, "track_file", LONGEST_PATH);

    let defaults = Defaults {
        nat,
        probe: match &probe {
            Given::Absent => Some(&default_probe),
            Given::Bad => None,
            Given::Good(probe, _) => Some(probe),
        },
        on_down: flows.on_down.unwrap_or(OnDown::Reset),
        on_up: flows.on_up.unwrap_or(OnUp::Stay),
    };
    let mut claims = Vec::new();
    let mut how_many = None;
    let uplinks = section.read("uplinks", |value| {
        if let Content::Map(entries) = &value.node.content {
            how_many = Some((entries.len(), value.clone()));
        }
        uplinks(value, &defaults, &mut claims)
    });
    section.require(
        &uplinks,
        "uplinks",
        "a map of one uplink or more, such as {fiber: {interface: eth1}}",
    );
    let downlinks = section.read("downlinks", downlinks);
    let sets = section.read("sets", sets);

    let mask = match &marks {
        Given::Absent => Some(MarkMask::DEFAULT),
        Given::Bad => None,
        Given::Good(mask, _) => Some(*mask),
    };
    let known = Known {
        uplinks: uplinks.good().map(|(all, _)| all.keys().cloned().collect()),
        downlinks: match &downlinks {
            Given::Absent => Some(BTreeSet::new()),
            Given::Bad => None,
            Given::Good(all, _) => Some(all.iter().map(|(name, _)| name.clone()).collect()),
        },
        sets: match &sets {
            Given::Absent => Some(&BTreeMap::new()),
            Given::Bad => None,
            Given::Good(all, _) => Some(all),
        },
        with_capacity: strategy::with_capacity(&uplinks),
        marks: mask.unwrap_or(MarkMask::DEFAULT),
    };
    let said = section.read("strategy", strategy::strategies);
    let rules = section.read("rules", |v| rules(v, &known)).or(Vec::new());
    let notify = section.read("notify", |v| notify::channels(v, known.uplinks.as_ref()));
    let mut misfits = Problems::default();
    if let Some(mask) = mask {
        if let Some((count, value)) = &how_many {
            misfits.0.extend(relations::too_many(*count, value, mask));
        }
        misfits.0.extend(relations::ids_beyond_mask(&claims, mask));
    }
    if let (Some((said, _)), Some((uplinks, _))) = (said.good(), uplinks.good()) {
        misfits.0.extend(strategy::misfits(said, uplinks));
    }
    // Comparing each with each is for a number of uplinks that can be.
    if claims.len() <= usize::from(UplinkId::MAX) {
        misfits.0.extend(relations::same_ids(&claims));
        misfits.0.extend(relations::same_way(&claims));
        let downlinks: Vec<InterfaceName> = known.downlinks.iter().flatten().cloned().collect();
        misfits
            .0
            .extend(strategy::untold_capacities(&claims, &downlinks));
    }
    for misfit in misfits.0 {
        section.problem(misfit);
    }

    let config = uplinks.ok().zip(mask).map(|(uplinks, marks)| Config {
        uplinks,
        downlinks: downlinks
            .ok()
            .into_iter()
            .flatten()
            .map(|(name, _)| name)
            .collect(),
        sets: sets.ok().unwrap_or_default(),
        rules,
        mode,
        strategies: strategy::resolved(said.ok().unwrap_or_default()),
        affinity: flows.affinity.unwrap_or(Affinity::Flow),
        mss: flows.mss.unwrap_or(Mss::Auto),
        fast_path,
        flow_capacity: flows.capacity.unwrap_or(FLOW_CAPACITY),
        notify: notify.ok().unwrap_or_default(),
        marks,
        base_table,
        rule_priority,
        control,
        state_dir,
        bpffs,
        log,
        track_file,
    });
    section.finish(config)
}

fn read_path(section: &mut Section<'_>, key: &str, longest: usize) -> Option<PathBuf> {
    section.read(key, |v| path(v, longest)).ok()
}

fn flows(value: &Value<'_>) -> Read<FlowSettings> {
    let section = Section::open(value, &FLOW_KEYS)?;
    flow_settings(section)
}

/// Reads `flows` of one uplink.
pub(super) fn uplink_flows(value: &Value<'_>) -> Read<FlowSettings> {
    let section = Section::open(value, &UPLINK_FLOW_KEYS)?;
    flow_settings(section)
}

fn flow_settings(mut section: Section<'_>) -> Read<FlowSettings> {
    let settings = FlowSettings {
        affinity: section.read("affinity", affinity).ok(),
        mss: section.read("mss", |v| word(v, &MSS)).ok(),
        capacity: section
            .read("capacity", |v| integer(v, FLOW_CAPACITIES))
            .ok(),
        on_down: section.read("on_down", |v| word(v, &ON_DOWN)).ok(),
        on_up: section.read("on_up", on_up).ok(),
    };
    section.finish(Some(settings))
}

fn mask(value: &Value<'_>) -> Read<MarkMask> {
    let mut section = Section::open(value, &MARK_KEYS)?;
    let mask = section.read("mask", |v| {
        let allowed = "2 to 8 bits in one run, such as 0xff000000";
        let Content::Integer(number) = v.node.content else {
            return Err(v.problem(allowed).into());
        };
        let bits = u32::try_from(number).map_err(|_| v.problem(allowed))?;
        MarkMask::new(bits).map_err(|error| v.problem(allowed).hint(error.to_string()).into())
    });
    section.finish(Some(mask.or(MarkMask::DEFAULT)))
}

fn base_table(value: &Value<'_>) -> Read<u32> {
    // The tables base to base + 127 must be neither 0 (unspecified) nor 253 to 255 (default, main
    // and local; RT_TABLE_* in the kernel's linux/rtnetlink.h). Those behind them, for the router's
    // own traffic, step over these.
    let ids = u32::from(UplinkId::MAX);
    let last = u32::MAX - ids - WAY_TABLES;
    let mut section = Section::open(value, &TABLE_KEYS)?;
    let base = section.read("base", |v| {
        let base = integer(v, 1..=last).unwrap_or(0);
        if (1..=252 - ids).contains(&base) || base > 255 {
            Ok(base)
        } else {
            Err(v
                .problem(format!(
                    "1 to {} or 256 to {}, so that the {} tables from there on are neither 0 nor \
                     253 to 255",
                    252 - ids,
                    last,
                    ids + 1
                ))
                .into())
        }
    });
    section.finish(Some(base.or(BASE_TABLE)))
}

fn downlinks<'a>(value: &Value<'a>) -> Read<Vec<(InterfaceName, Value<'a>)>> {
    let allowed = "a list of interface names, such as [eth0], or [] for none";
    let items = value.list(allowed, interface)?;
    let mut seen = BTreeSet::new();
    let again: Vec<_> = items
        .iter()
        .filter(|(name, _)| !seen.insert(name))
        .map(|(_, at)| at.problem_with(format!("{} again", at.found()), "each interface once"))
        .collect();
    if again.is_empty() {
        Ok(items)
    } else {
        Err(Problems(again))
    }
}
