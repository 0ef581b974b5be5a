//! What is different between two configurations, key by key.
//!
//! Every field is named: one that is added to the configuration and not compared here does not
//! compile.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use crate::config::{Band, Config, Percent, ProbeConfig, QualityLimits, UplinkConfig, written};
use crate::identity::Ids;
use crate::reload::Change;
use crate::reload::changes::Change::{
    DownlinkAdded, DownlinkRemoved, RuleAdded, RuleChanged, RuleRemoved, RulesReordered,
    SettingChanged, UplinkAdded, UplinkChanged, UplinkRemoved,
};
use crate::uplink::{UplinkId, UplinkName};

/// A configuration and the ids that go with it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identified<'c> {
    pub(super) config: &'c Config,
    pub(super) ids: &'c Ids,
}

/// What changes from `old` to `new`. What all uplinks take from the same key changes in each.
pub(super) fn difference(old: Identified<'_>, new: Identified<'_>) -> Vec<Change> {
    let mut changes = uplinks(old, new);
    changes.extend(downlinks(old.config, new.config));
    changes.extend(settings(old.config, new.config));
    changes.extend(rules(old.config, new.config));
    changes
}

/// Rules by their names; the order counts where it is another for those that stay.
fn rules(old: &Config, new: &Config) -> Vec<Change> {
    let find = |config: &Config, name: &str| {
        let mut rules = config.rules.iter();
        rules.find(|rule| rule.name == name).cloned()
    };
    let rule = |name: &str| name.to_owned();
    let mut changes = Vec::new();
    for before in &old.rules {
        match find(new, &before.name) {
            None => changes.push(RuleRemoved {
                rule: rule(&before.name),
            }),
            Some(after) if !before.means(&after) => changes.push(RuleChanged {
                rule: rule(&before.name),
            }),
            Some(_) => {}
        }
    }
    let added = new
        .rules
        .iter()
        .filter(|rule| find(old, &rule.name).is_none());
    changes.extend(added.map(|added| RuleAdded {
        rule: rule(&added.name),
    }));
    let common = |config: &Config, other: &Config| -> Vec<String> {
        let names = config.rules.iter().map(|rule| rule.name.clone());
        names.filter(|name| find(other, name).is_some()).collect()
    };
    if common(old, new) != common(new, old) {
        changes.push(RulesReordered);
    }
    changes
}

fn uplinks(old: Identified<'_>, new: Identified<'_>) -> Vec<Change> {
    let mut changes = Vec::new();
    for (uplink, id) in new.ids {
        if !old.ids.contains_key(uplink) {
            changes.push(UplinkAdded {
                uplink: uplink.clone(),
                id: *id,
            });
        }
    }
    for (uplink, id) in old.ids {
        let (Some(before), Some(after), Some(id_after)) = (
            old.config.uplinks.get(uplink),
            new.config.uplinks.get(uplink),
            new.ids.get(uplink),
        ) else {
            changes.push(UplinkRemoved {
                uplink: uplink.clone(),
                id: *id,
            });
            continue;
        };
        changes.extend(uplink_changes(uplink, (*id, before), (*id_after, after)));
    }
    changes
}

fn uplink_changes(
    uplink: &UplinkName,
    (id, before): (UplinkId, &UplinkConfig),
    (id_after, after): (UplinkId, &UplinkConfig),
) -> Vec<Change> {
    let UplinkConfig {
        interface,
        // What the file says of it counts as far as it changes the id.
        id: _,
        gateway,
        gateway6,
        source,
        source6,
        virtual4,
        virtual6,
        prefixes6,
        weight,
        priority,
        new_flows,
        metered,
        capacity,
        nat,
        description,
        probe,
        on_down,
        on_up,
    } = after;
    let mut keys = Keys::default();
    keys.compare("id", &id, &id_after);
    keys.compare("interface", &before.interface, interface);
    keys.compare_by("gateway", &before.gateway, gateway, or_auto);
    keys.compare_by("gateway6", &before.gateway6, gateway6, or_auto);
    keys.compare_by("source", &before.source, source, or_auto);
    keys.compare_by("source6", &before.source6, source6, or_auto);
    let or_none =
        |address: &Option<IpAddr>| address.map_or_else(|| "none".to_owned(), |a| a.to_string());
    for (key, old, new) in [
        (
            "virtual",
            before.virtual4.map(IpAddr::V4),
            virtual4.map(IpAddr::V4),
        ),
        (
            "virtual6",
            before.virtual6.map(IpAddr::V6),
            virtual6.map(IpAddr::V6),
        ),
    ] {
        keys.compare_by(key, &old, &new, or_none);
    }
    keys.compare_by("prefixes6", &before.prefixes6, prefixes6, |prefixes| {
        or_auto(&prefixes.as_deref().map(list))
    });
    keys.compare("weight", &before.weight, weight);
    keys.compare("priority", &before.priority, priority);
    keys.compare("new_flows", &before.new_flows, new_flows);
    keys.compare("metered", &before.metered, metered);
    keys.compare_by("capacity", &before.capacity, capacity, |capacity| {
        capacity.map_or_else(|| "none".to_owned(), |capacity| capacity.to_string())
    });
    keys.compare("nat", &before.nat, nat);
    keys.compare_by(
        "description",
        &before.description,
        description,
        |description| {
            let quoted = description.as_ref().map(|text| format!("{text:?}"));
            quoted.unwrap_or_else(|| "the name".to_owned())
        },
    );
    probe_changes(&mut keys, &before.probe, probe);
    keys.compare("flows.on_down", &before.on_down, on_down);
    keys.compare("flows.on_up", &before.on_up, on_up);
    keys.0
        .into_iter()
        .map(|(key, from, to)| UplinkChanged {
            uplink: uplink.clone(),
            key,
            from,
            to,
        })
        .collect()
}

fn probe_changes(keys: &mut Keys, before: &ProbeConfig, after: &ProbeConfig) {
    let ProbeConfig {
        targets,
        interval,
        timeout,
        required,
        down_after,
        up_after,
        quality,
        max_hold,
        passive,
        budget,
    } = after;
    let QualityLimits {
        window,
        max_loss,
        max_latency,
        max_jitter,
    } = quality;
    let duration = |duration: &Duration| written(*duration);
    keys.compare_by("probe.targets", &before.targets, targets, |all| list(all));
    keys.compare_by("probe.interval", &before.interval, interval, duration);
    keys.compare_by("probe.timeout", &before.timeout, timeout, duration);
    keys.compare("probe.required", &before.required, required);
    keys.compare("probe.down_after", &before.down_after, down_after);
    keys.compare("probe.up_after", &before.up_after, up_after);
    keys.compare_by("probe.window", &before.quality.window, window, duration);
    let share = |band: &Option<Band<Percent>>| limit(*band, |share| share.to_string());
    keys.compare_by("probe.max_loss", &before.quality.max_loss, max_loss, share);
    let time = |band: &Option<Band<Duration>>| limit(*band, written);
    keys.compare_by(
        "probe.max_latency",
        &before.quality.max_latency,
        max_latency,
        time,
    );
    keys.compare_by(
        "probe.max_jitter",
        &before.quality.max_jitter,
        max_jitter,
        time,
    );
    keys.compare_by("probe.max_hold", &before.max_hold, max_hold, duration);
    keys.compare("probe.passive", &before.passive, passive);
    keys.compare("probe.budget", &before.budget, budget);
}

fn limit<T>(band: Option<Band<T>>, written: impl Fn(T) -> String) -> String {
    band.map_or_else(
        || "none".to_owned(),
        |band| {
            format!(
                "{} (back at {})",
                written(band.above),
                written(band.back_at)
            )
        },
    )
}

fn downlinks(old: &Config, new: &Config) -> impl Iterator<Item = Change> {
    let added = new.downlinks.difference(&old.downlinks);
    let removed = old.downlinks.difference(&new.downlinks);
    added
        .map(|interface| DownlinkAdded {
            interface: interface.clone(),
        })
        .chain(removed.map(|interface| DownlinkRemoved {
            interface: interface.clone(),
        }))
        .collect::<Vec<_>>()
        .into_iter()
}

fn settings(old: &Config, new: &Config) -> impl Iterator<Item = Change> {
    let Config {
        uplinks: _,
        downlinks: _,
        sets,
        rules: _,
        mode,
        strategies,
        affinity,
        mss,
        fast_path,
        flow_capacity,
        notify,
        marks,
        base_table,
        rule_priority,
        control,
        state_dir,
        bpffs,
        log,
        track_file,
    } = new;
    let mut keys = Keys::default();
    for name in old.sets.keys().chain(sets.keys()).collect::<BTreeSet<_>>() {
        let (before, after) = (old.sets.get(name), sets.get(name));
        keys.compare_by(&format!("sets.{name}"), &before, &after, |set| {
            set.map_or_else(|| "none".to_owned(), ToString::to_string)
        });
    }
    for name in old
        .notify
        .keys()
        .chain(notify.keys())
        .collect::<BTreeSet<_>>()
    {
        let (before, after) = (old.notify.get(name), notify.get(name));
        keys.compare_by(&format!("notify.{name}"), &before, &after, |channel| {
            channel.map_or_else(|| "none".to_owned(), ToString::to_string)
        });
    }
    keys.compare("mode", &old.mode, mode);
    keys.compare("strategy", &old.strategies, strategies);
    keys.compare("flows.affinity", &old.affinity, affinity);
    keys.compare("flows.mss", &old.mss, mss);
    keys.compare("fastpath", &old.fast_path, fast_path);
    keys.compare("flows.capacity", &old.flow_capacity, flow_capacity);
    keys.compare("marks.mask", &old.marks, marks);
    keys.compare("tables.base", &old.base_table, base_table);
    keys.compare("rule_priority", &old.rule_priority, rule_priority);
    keys.compare("control", &old.control.display(), &control.display());
    keys.compare("state_dir", &old.state_dir.display(), &state_dir.display());
    keys.compare("bpffs", &old.bpffs.display(), &bpffs.display());
    keys.compare("log", &old.log, log);
    keys.compare_by("track_file", &old.track_file, track_file, |path| {
        let path = path.as_ref().map(|path| path.display().to_string());
        path.unwrap_or_else(|| "none".to_owned())
    });
    keys.0
        .into_iter()
        .map(|(key, from, to)| SettingChanged { key, from, to })
}

/// The keys that differ, with what they were and what they are.
#[derive(Default)]
struct Keys(Vec<(String, String, String)>);

impl Keys {
    fn compare<T: Display>(&mut self, key: &str, before: &T, after: &T) {
        let (from, to) = (before.to_string(), after.to_string());
        if from != to {
            self.0.push((key.to_owned(), from, to));
        }
    }

    fn compare_by<T: PartialEq>(
        &mut self,
        key: &str,
        before: &T,
        after: &T,
        write: impl Fn(&T) -> String,
    ) {
        if before != after {
            self.0.push((key.to_owned(), write(before), write(after)));
        }
    }
}

fn or_auto<T: Display>(value: &Option<T>) -> String {
    value
        .as_ref()
        .map_or_else(|| "auto".to_owned(), ToString::to_string)
}

fn list<T: Display>(values: &[T]) -> String {
    let written: Vec<String> = values.iter().map(ToString::to_string).collect();
    format!("[{}]", written.join(", "))
}
