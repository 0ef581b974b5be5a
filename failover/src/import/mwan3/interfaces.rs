//! mwan3's interfaces: which uplinks they are, and how they are asked.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::super::network::Network;
use super::super::uci::Section;
use super::super::{Draft, ImportError};
use super::{number, wrong};
use crate::draft::{self, Entry, Names, Value};
use crate::interface::InterfaceName;

/// The most targets of an uplink.
const MOST_TARGETS: usize = 16;

/// The uplinks, and which of mwan3's interfaces each is.
#[derive(Debug, Default)]
pub(super) struct Uplinks {
    uplinks: Vec<Uplink>,
    /// By mwan3's names; an IPv4 and an IPv6 interface on one device are one uplink.
    names: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Uplink {
    name: String,
    device: String,
    device_known: bool,
    targets: Vec<String>,
    has_ipv6: bool,
    probe: Vec<Entry>,
    required: u32,
    line: u64,
}

impl Uplinks {
    pub(super) fn read(
        sections: &[Section<'_>],
        network: Option<&Network>,
        draft: &mut Draft,
    ) -> Result<Self, ImportError> {
        let mut all = Self::default();
        let mut names = Names::default();
        for section in sections
            .iter()
            .filter(|section| section.kind == "interface")
        {
            let theirs = section
                .name
                .ok_or_else(|| wrong(section.line, "an interface without a name"))?;
            let off = section
                .option("enabled")
                .filter(|option| option.value != "1");
            if let Some(off) = off {
                draft.remark(
                    off.line,
                    format!("the interface `{theirs}` is not enabled and was left out"),
                );
                continue;
            }
            all.add(theirs, section, network, &mut names, draft)?;
        }
        if all.uplinks.is_empty() {
            return Err(wrong(
                sections.first().map_or(1, |section| section.line),
                "no interface of this file takes part: each says `enabled '0'`, or nothing",
            ));
        }
        Ok(all)
    }

    fn add(
        &mut self,
        theirs: &str,
        section: &Section<'_>,
        network: Option<&Network>,
        names: &mut Names,
        draft: &mut Draft,
    ) -> Result<(), ImportError> {
        let found = network.and_then(|network| network.device(theirs));
        let is_ipv6 = section
            .option("family")
            .is_some_and(|option| option.value == "ipv6");
        // Without the network's file, wan6 is taken for the IPv6 of wan.
        let twin = theirs.strip_suffix('6').filter(|_| is_ipv6);
        let same = self.uplinks.iter_mut().find(|uplink| match found {
            Some(device) => uplink.device == device,
            None => twin.is_some_and(|twin| uplink.device == twin),
        });
        let targets = targets(section, draft);
        if let Some(uplink) = same {
            self.names.insert(theirs.to_owned(), uplink.name.clone());
            uplink.has_ipv6 |= is_ipv6;
            for target in targets {
                if !uplink.targets.contains(&target) {
                    uplink.targets.push(target);
                }
            }
            draft.remark(
                section.line,
                format!(
                    "`{theirs}` is a part of the uplink `{}`: one uplink has both families here, \
                     each with its own state",
                    uplink.name
                ),
            );
            return Ok(());
        }
        let device: InterfaceName = found.unwrap_or(theirs).parse().map_err(|error| {
            wrong(
                section.line,
                format!("the device of `{theirs}` is not known, and {error}: use --network"),
            )
        })?;
        let name = names.name(theirs);
        let (probe, required) = probe(section, draft)?;
        self.names.insert(theirs.to_owned(), name.clone());
        self.uplinks.push(Uplink {
            name,
            device: device.to_string(),
            device_known: found.is_some(),
            targets,
            has_ipv6: is_ipv6,
            probe,
            required,
            line: section.line,
        });
        Ok(())
    }

    /// The uplink that one of mwan3's interfaces is.
    pub(super) fn of(&self, interface: &str) -> Option<&str> {
        self.names.get(interface).map(String::as_str)
    }

    pub(super) fn has_device(&self, device: &str) -> bool {
        self.uplinks.iter().any(|uplink| uplink.device == device)
    }

    /// The uplinks with the shares of the policy for all traffic; without one, all are alike.
    pub(super) fn entries(
        self,
        shares: Option<&BTreeMap<String, (u32, u32)>>,
        draft: &mut Draft,
    ) -> Vec<Entry> {
        if shares.is_none() {
            draft.remark(
                None,
                "no rule is for all traffic: what no rule matched went by the default route of \
                 `main`; here it is spread over all uplinks. Give them priorities",
            );
        }
        let uplinks = self.uplinks.into_iter();
        uplinks.map(|uplink| uplink.entry(shares, draft)).collect()
    }
}

impl Uplink {
    fn entry(mut self, shares: Option<&BTreeMap<String, (u32, u32)>>, draft: &mut Draft) -> Entry {
        let mut interface = Entry::scalar("interface", &self.device);
        if !self.device_known {
            interface = interface.with_comment(format!(
                "The device is not in mwan3's file: `ifstatus {}` on the old router says it as \
                 l3_device.",
                self.device
            ));
            draft.remark(
                self.line,
                format!(
                    "the device of `{}` is not in this file: put it in as `interface`, or import \
                     again with --network /etc/config/network",
                    self.device
                ),
            );
        }
        let mut entries = vec![interface];
        match shares.map(|shares| shares.get(&self.name)) {
            Some(Some((metric, weight))) => {
                entries.push(Entry::scalar("priority", metric));
                entries.push(Entry::scalar("weight", weight));
            }
            Some(None) => entries.push(
                Entry::scalar("new_flows", "false")
                    .with_comment("The policy for all traffic has it not; only rules use it."),
            ),
            None => {}
        }
        let ipv6 = |target: &String| target.contains("://[") || target.matches(':').count() > 2;
        if !self.targets.is_empty() && !self.targets.iter().any(ipv6) && !self.has_ipv6 {
            draft.remark(
                self.line,
                format!(
                    "`{}` asks IPv4 targets only, so that its IPv6 is judged by the link alone: add \
                     an IPv6 target if it has IPv6",
                    self.name
                ),
            );
        }
        self.targets.truncate(MOST_TARGETS);
        let mut probe = Vec::new();
        if !self.targets.is_empty() {
            let four = self.targets.iter().filter(|target| !ipv6(target)).count();
            let six = self.targets.len() - four;
            let most = u32::try_from(four.max(six)).unwrap_or(1);
            probe.push(Entry::new("targets", Value::Column(self.targets)));
            if self.required > 1 {
                probe.push(Entry::scalar("required", &self.required.min(most)));
            }
        }
        probe.extend(self.probe);
        if !probe.is_empty() {
            entries.push(Entry::new("probe", Value::Map(probe)));
        }
        Entry::new(self.name, Value::Map(entries))
    }
}

fn targets(section: &Section<'_>, draft: &mut Draft) -> Vec<String> {
    let method = section.option("track_method");
    let way = method.map_or("ping", |option| option.value);
    let mut targets = Vec::new();
    if let Some(method) = method.filter(|_| !matches!(way, "ping" | "httping")) {
        draft.remark(
            method.line,
            format!(
                "`track_method {way}` became echoes (icmp://); other targets are tcp://HOST:PORT, \
                 dns://SERVER/NAME and arp://gateway"
            ),
        );
    }
    for tracked in section.list("track_ip") {
        let target = match tracked.value.parse::<IpAddr>() {
            Ok(address) => format!("icmp://{address}"),
            Err(_) if tracked.value.starts_with("http") && tracked.value.contains("://") => {
                tracked.value.to_owned()
            }
            Err(_) if way == "httping" && !tracked.value.is_empty() => {
                format!("http://{}/", tracked.value)
            }
            Err(_) => {
                draft.remark(
                    tracked.line,
                    format!(
                        "`track_ip {}` is no address and was left out; names are for tcp://, \
                         http:// and https:// targets",
                        tracked.value
                    ),
                );
                continue;
            }
        };
        match trouble(&target) {
            None if !targets.contains(&target) => targets.push(target),
            None => {}
            Some(why) => draft.remark(
                tracked.line,
                format!("`track_ip {}` was left out: {why}", tracked.value),
            ),
        }
    }
    if targets.is_empty() {
        draft.remark(
            section.line,
            format!(
                "`{}` has no `track_ip`: mwan3 took it for online always, here the default targets \
                 are asked",
                section.name.unwrap_or_default()
            ),
        );
    }
    targets
}

/// Why something is no target.
fn trouble(target: &str) -> Option<String> {
    let targets = Entry::new("targets", Value::Row(vec![target.to_owned()]));
    let uplink = vec![
        Entry::scalar("interface", "any"),
        Entry::new("probe", Value::Map(vec![targets])),
    ];
    let uplinks = Value::Map(vec![Entry::new("any", Value::Map(uplink))]);
    draft::trouble(&[Entry::new("uplinks", uplinks)])
}

/// How it is asked, and how many must answer.
fn probe(section: &Section<'_>, draft: &mut Draft) -> Result<(Vec<Entry>, u32), ImportError> {
    let mut entries = Vec::new();
    let value = |key: &str, most: u32| {
        section
            .option(key)
            .map(|option| number(option).map(|found| found.clamp(1, most)))
            .transpose()
    };
    if let Some(seconds) = value("interval", 3600)? {
        entries.push(
            Entry::scalar("interval", &format!("{seconds}s"))
                .with_comment("It may be much shorter: the default is 500ms."),
        );
    }
    if let Some(seconds) = value("timeout", 60)? {
        entries.push(Entry::scalar("timeout", &format!("{seconds}s")));
    }
    for (theirs, ours) in [("down", "down_after"), ("up", "up_after")] {
        if let Some(rounds) = value(theirs, 1000)? {
            entries.push(Entry::scalar(ours, &rounds));
        }
    }
    let quality = section
        .option("check_quality")
        .is_some_and(|option| option.value == "1");
    for (bad, good, ours, unit, most) in [
        (
            "failure_latency",
            "recovery_latency",
            "max_latency",
            "ms",
            60_000,
        ),
        ("failure_loss", "recovery_loss", "max_loss", "%", 100),
    ] {
        if let (true, Some(bad)) = (quality, value(bad, most)?) {
            let good = value(good, most)?.unwrap_or(bad).min(bad);
            let band = format!("{{above: {bad}{unit}, back_at: {good}{unit}}}");
            entries.push(Entry::new(ours, Value::Yaml(band)));
        }
    }
    for option in &section.options {
        let text = match option.key {
            "count" if option.value != "1" => {
                "each target is asked once in a round: let `down_after` be larger instead"
            }
            "flush_conntrack" => {
                "an uplink that dies has its own connections forgotten and TCP clients told \
                 (`flows.on_down`), and nobody else's"
            }
            "failure_interval" | "recovery_interval" | "keep_failure_interval" => {
                "in doubt targets are asked faster by themselves"
            }
            "initial_state" => "the last known state counts until the first verdict",
            "size" | "max_ttl" => "echoes are small and have the usual hop limit",
            "httping_ssl" => "write https:// for http:// in the targets",
            "check_quality" | "enabled" | "family" | "track_ip" | "track_method"
            | "reliability" | "count" | "timeout" | "interval" | "down" | "up"
            | "failure_latency" | "recovery_latency" | "failure_loss" | "recovery_loss" => continue,
            _ => "it is not known here and was left out",
        };
        draft.remark(
            option.line,
            format!("`{} {}`: {text}", option.key, option.value),
        );
    }
    let required = value("reliability", u32::from(u16::MAX))?.unwrap_or(1);
    Ok((entries, required))
}
