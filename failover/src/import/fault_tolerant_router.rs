//! `fault_tolerant_router`: a file of YAML.

use std::net::Ipv4Addr;

use super::{Draft, ImportError, Program};
use crate::config::{self, Content, Node, Place};
use crate::draft::{Entry, Names, Value};
use crate::interface::InterfaceName;

/// The most targets of an uplink.
const MOST_TARGETS: usize = 16;
/// The longest interval, in seconds.
const LONGEST: i128 = 3600;
/// How long its pings wait for an answer.
const TIMEOUT: &str = "2s";

pub(super) fn read(text: &str) -> Result<Draft, ImportError> {
    let not = |line, why: &str| ImportError::not(Program::FaultTolerantRouter, line, why);
    let root = config::read_yaml(text).map_err(|error| {
        let problem = error.problems().first();
        let line = problem
            .and_then(config::Problem::place)
            .map_or(1, |place| place.line);
        let found = problem.map_or("no YAML", config::Problem::found);
        not(line, &format!("it is no YAML: {found}"))
    })?;
    let file = Map::of(&root).ok_or_else(|| not(1, "it is no map"))?;
    let Some(Content::List(uplinks)) = file.get("uplinks").map(|node| &node.content) else {
        let line = file.get("uplinks").map_or(1, |node| node.place.line);
        return Err(not(line, "it has no list `uplinks`"));
    };
    if uplinks.is_empty() {
        return Err(not(root.place.line, "its list `uplinks` is empty"));
    }
    let mut draft = Draft {
        about: vec![
            "From a configuration of fault_tolerant_router. What its `generate_iptables` printed is \
             not needed: marks and translation are made here."
                .to_owned(),
        ],
        ..Draft::default()
    };
    let mut names = Names::default();
    let mut entries = Vec::new();
    for node in uplinks {
        let (name, uplink) = uplink(node, &mut names, &mut draft)?;
        entries.push(Entry::new(name, Value::Map(uplink)));
    }
    let downlinks = downlinks(&file, &mut draft)?;
    draft.entries = vec![
        Entry::new("uplinks", Value::Map(entries)),
        Entry::new("downlinks", Value::Row(downlinks)),
    ];
    let probe = probe(&file, &mut draft)?;
    if !probe.is_empty() {
        draft.entries.push(Entry::new("probe", Value::Map(probe)));
    }
    what_is_left(&file, &mut draft);
    Ok(draft)
}

fn uplink(
    node: &Node,
    names: &mut Names,
    draft: &mut Draft,
) -> Result<(String, Vec<Entry>), ImportError> {
    let map = Map::of(node).ok_or_else(|| wrong(node, "an uplink is a map with `interface`"))?;
    let interface = map
        .get("interface")
        .ok_or_else(|| wrong(node, "an uplink without `interface`"))?;
    let mut entries = vec![Entry::scalar("interface", &interface_name(interface)?)];
    let description = map.get("description").and_then(text);
    let name = names.name(description.unwrap_or_else(|| text(interface).unwrap_or("uplink")));
    if map.get("type").and_then(text) != Some("ppp") {
        for (theirs, ours) in [("ip", "source"), ("gateway", "gateway")] {
            if let Some(given) = map.get(theirs) {
                entries.push(Entry::scalar(ours, &address(given)?));
            }
        }
    }
    for (theirs, ours, most) in [
        ("weight", "weight", 256),
        ("priority_group", "priority", 65_535),
    ] {
        if let Some(given) = map.get(theirs) {
            let value = number(given)?;
            let written = value.clamp(1, most);
            if value != written {
                draft.remark(
                    given.place.line,
                    format!(
                        "`{theirs}: {value}`: {ours} is 1 to {most}, so it became {written}; look that \
                         it still is what you mean"
                    ),
                );
            }
            entries.push(Entry::scalar(ours, &written));
        }
    }
    match map.get("default_route").map(|node| (node, &node.content)) {
        None | Some((_, Content::Bool(true) | Content::Null)) => {}
        Some((_, Content::Bool(false))) => {
            entries.push(Entry::scalar("new_flows", "false").with_comment(
                "Connections from outside are answered through it, no others use it.",
            ));
        }
        Some((node, _)) => return Err(wrong(node, "`default_route` is true or false")),
    }
    if let Some(description) = description.filter(|text| *text != name && !text.is_empty()) {
        let shortened: String = description.chars().take(100).collect();
        entries.push(Entry::scalar("description", &shortened));
    }
    let known = [
        "interface",
        "type",
        "ip",
        "gateway",
        "description",
        "weight",
        "priority_group",
        "default_route",
    ];
    map.remark_unknown(&known, draft);
    Ok((name, entries))
}

fn downlinks(file: &Map<'_>, draft: &mut Draft) -> Result<Vec<String>, ImportError> {
    let Some(node) = file.get("downlinks") else {
        draft.remark(
            None,
            "there are no `downlinks`: name the interfaces behind which users are",
        );
        return Ok(Vec::new());
    };
    let map = Map::of(node).ok_or_else(|| wrong(node, "`downlinks` is a map with `lan`"))?;
    let mut names = Vec::new();
    for (_, node) in map.entries() {
        if !matches!(node.content, Content::Null) {
            let name = interface_name(node)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    Ok(names)
}

fn probe(file: &Map<'_>, draft: &mut Draft) -> Result<Vec<Entry>, ImportError> {
    let Some(node) = file.get("tests") else {
        draft.remark(None, "there are no `tests`: the default targets are asked");
        return Ok(Vec::new());
    };
    let tests = Map::of(node).ok_or_else(|| wrong(node, "`tests` is a map with `ips`"))?;
    let mut entries = Vec::new();
    let mut targets: Vec<String> = Vec::new();
    if let Some(node) = tests.get("ips") {
        let Content::List(ips) = &node.content else {
            return Err(wrong(node, "`ips` is a list of addresses"));
        };
        for ip in ips {
            let target = format!("icmp://{}", address(ip)?);
            if targets.contains(&target) {
                draft.remark(ip.place.line, format!("{target} is asked once, not twice"));
            } else if targets.len() == MOST_TARGETS {
                draft.remark(
                    ip.place.line,
                    format!("{target} was left out: an uplink has at most {MOST_TARGETS} targets"),
                );
            } else {
                targets.push(target);
            }
        }
        draft.remark(
            node.place.line,
            "`tests: ips` has IPv4 addresses only, so IPv6 is judged by the link alone: add targets \
             such as icmp://2606:4700:4700::1111 if your providers have IPv6",
        );
    }
    let most = if targets.is_empty() { 2 } else { targets.len() };
    if !targets.is_empty() {
        entries.push(Entry::new("targets", Value::Column(targets)));
    }
    if let Some(node) = tests.get("required_successful") {
        let value = number(node)?;
        let most = i128::try_from(most).unwrap_or(1);
        let required = value.clamp(1, most);
        if required != value {
            draft.remark(
                node.place.line,
                format!("`required_successful: {value}`: of {most} targets {required} must answer"),
            );
        }
        entries.push(Entry::scalar("required", &required));
    }
    if let Some(node) = tests.get("interval") {
        let seconds = number(node)?.clamp(1, LONGEST);
        entries.push(
            Entry::scalar("interval", &format!("{seconds}s")).with_comment(
                "All targets are asked at once, so it may be much shorter: 500ms, say.",
            ),
        );
    }
    entries.push(Entry::scalar("timeout", TIMEOUT).with_comment("As its pings wait."));
    if let Some(node) = tests.get("ping_retries") {
        let rounds = number(node)?.clamp(0, 999) + 1;
        entries.push(
            Entry::scalar("down_after", &rounds)
                .with_comment("A round and its retries; `up_after: 1` is its way, 5 is calmer."),
        );
        entries.push(Entry::scalar("up_after", &1));
    }
    let known = ["ips", "required_successful", "ping_retries", "interval"];
    tests.remark_unknown(&known, draft);
    Ok(entries)
}

/// What has no place here, section by section.
fn what_is_left(file: &Map<'_>, draft: &mut Draft) {
    for (key, node) in file.entries() {
        let line = file.line_of(key).unwrap_or(node.place.line);
        let text = match key {
            "uplinks" | "downlinks" | "tests" => continue,
            "log" => "`log`: the log goes to standard error, and so to systemd's journal; \
                      `failover events` has what happened"
                .to_owned(),
            "email" => {
                let sends = Map::of(node)
                    .and_then(|email| email.get("send"))
                    .is_some_and(|send| matches!(send.content, Content::Bool(true)));
                if !sends {
                    continue;
                }
                "`email`: notifications are not imported; `failover events --follow --json` tells a \
                 script of yours what happens"
                    .to_owned()
            }
            "base_table" | "base_priority" | "base_fwmark" => format!(
                "`{key}`: `tables.base` (300), `rule_priority` (1000) and `marks.mask` (0xff000000) \
                 are what is ours; the defaults clash with nothing common"
            ),
            other => format!("`{other}` is not known here and was left out"),
        };
        draft.remark(line, text);
    }
    draft.remark(
        None,
        "iptables: take out what `generate_iptables` made (CONNMARK and SNAT of the uplinks); a \
         second program that marks and translates gets in the way",
    );
}

/// A map of the file.
#[derive(Clone, Copy)]
struct Map<'a>(&'a Node);

impl<'a> Map<'a> {
    const fn of(node: &'a Node) -> Option<Self> {
        match node.content {
            Content::Map(_) => Some(Self(node)),
            _ => None,
        }
    }

    /// Keys and values; Ruby's symbols are keys as well.
    fn entries(self) -> impl Iterator<Item = (&'a str, &'a Node)> {
        let entries = match &self.0.content {
            Content::Map(entries) => entries.as_slice(),
            _ => &[],
        };
        entries
            .iter()
            .map(|entry| (entry.key.trim_start_matches(':'), &entry.node))
    }

    fn get(self, key: &str) -> Option<&'a Node> {
        self.entries()
            .find(|(found, _)| *found == key)
            .map(|(_, node)| node)
    }

    fn line_of(self, key: &str) -> Option<u64> {
        match &self.0.content {
            Content::Map(entries) => entries
                .iter()
                .find(|entry| entry.key.trim_start_matches(':') == key)
                .map(|entry| entry.place.line),
            _ => None,
        }
    }

    fn remark_unknown(self, known: &[&str], draft: &mut Draft) {
        for (key, node) in self.entries().filter(|(key, _)| !known.contains(key)) {
            draft.remark(
                self.line_of(key).unwrap_or(node.place.line),
                format!("`{key}` is not known here and was left out"),
            );
        }
    }
}

fn text(node: &Node) -> Option<&str> {
    match &node.content {
        Content::Text(text) => Some(text.trim_start_matches(':')),
        _ => None,
    }
}

fn interface_name(node: &Node) -> Result<String, ImportError> {
    let name: InterfaceName = text(node)
        .ok_or_else(|| wrong(node, "an interface has a name"))?
        .parse()
        .map_err(|error| wrong(node, format!("{error}")))?;
    Ok(name.to_string())
}

fn address(node: &Node) -> Result<Ipv4Addr, ImportError> {
    let written = text(node).unwrap_or_default();
    written
        .parse()
        .map_err(|_| wrong(node, format!("`{written}` is no IPv4 address")))
}

fn number(node: &Node) -> Result<i128, ImportError> {
    match &node.content {
        Content::Integer(number) => Ok(*number),
        _ => Err(wrong(node, "a whole number is needed here")),
    }
}

fn wrong(node: &Node, why: impl Into<String>) -> ImportError {
    let Place { line, column } = node.place;
    ImportError::value(Place { line, column }, why)
}
