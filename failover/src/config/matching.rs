//! The key `match` of a rule: which packets it is for.

use std::collections::{BTreeMap, BTreeSet};

use super::problem::Problem;
use super::rule::{Addresses, MatchConfig};
use super::rules::addresses;
use super::section::{Keys, Problems, Read, Section, Value, did_you_mean};
use super::tree::Content;
use super::value::interface;
use crate::flows::Protocol;
use crate::interface::InterfaceName;
use crate::mark::MarkMask;
use crate::network::MacAddress;
use crate::policy::{
    AddressSet, Dscp, InvalidDscp, MarkMatch, PortRange, PortSet, SetName, SetSource,
};
use crate::uplink::UplinkName;

const KEYS: Keys = Keys {
    known: &[
        "interface",
        "source",
        "destination",
        "protocol",
        "ports",
        "source_ports",
        "dscp",
        "mark",
        "mac",
    ],
    later: &[],
};

/// What the other keys say that rules refer to; `None` where one has problems of its own.
pub(super) struct Known<'k> {
    pub(super) uplinks: Option<BTreeSet<UplinkName>>,
    /// Those of which it is said what they can carry.
    pub(super) with_capacity: Option<BTreeSet<UplinkName>>,
    pub(super) downlinks: Option<BTreeSet<InterfaceName>>,
    pub(super) sets: Option<&'k BTreeMap<SetName, SetSource>>,
    pub(super) marks: MarkMask,
}

/// Reads `match`.
pub(super) fn matching(value: &Value<'_>, known: &Known<'_>) -> Read<MatchConfig> {
    let mut section = Section::open(value, &KEYS)?;
    let matching = MatchConfig {
        interfaces: section
            .read("interface", |v| several(v, |v| downlink(v, known)))
            .ok(),
        source: section.read("source", |v| some_addresses(v, known)).ok(),
        destination: section
            .read("destination", |v| some_addresses(v, known))
            .ok(),
        protocols: section.read("protocol", |v| several(v, protocol)).ok(),
        source_ports: section.read("source_ports", ports).ok(),
        ports: section.read("ports", ports).ok(),
        dscp: section.read("dscp", |v| several(v, dscp)).ok(),
        marks: section
            .read("mark", |v| several(v, |v| mark(v, known.marks)))
            .ok(),
        macs: section.read("mac", |v| several(v, mac)).ok(),
    };
    let without_ports = matching
        .protocols
        .as_ref()
        .filter(|_| matching.ports.is_some() || matching.source_ports.is_some())
        .and_then(|protocols| {
            protocols
                .iter()
                .find(|protocol| !protocol.has_ports())
                .copied()
        });
    if let Some(protocol) = without_ports {
        section.problem(value.problem_with(
            format!("ports, and the protocol {protocol}, which has none"),
            "ports of tcp, udp, udplite, sctp and dccp only",
        ));
    }
    section.finish(Some(matching))
}

/// One, or a list of one or more.
fn items<'a, T>(
    value: &Value<'a>,
    mut read: impl FnMut(&Value<'a>) -> Read<T>,
) -> Read<Vec<(T, Value<'a>)>> {
    match &value.node.content {
        Content::List(items) if items.is_empty() => Err(value
            .problem("one value or more; without the key, any")
            .into()),
        Content::List(_) => value.list("", read),
        _ => Ok(vec![(read(value)?, value.clone())]),
    }
}

/// Distinct values: one, or a list of them.
fn several<'a, T: Ord>(
    value: &Value<'a>,
    read: impl FnMut(&Value<'a>) -> Read<T>,
) -> Read<BTreeSet<T>> {
    let items = items(value, read)?;
    let mut found = BTreeSet::new();
    let mut again = Vec::new();
    for (item, at) in items {
        if !found.insert(item) {
            again.push(at.problem_with(format!("{} again", at.found()), "each value once"));
        }
    }
    if again.is_empty() {
        Ok(found)
    } else {
        Err(Problems(again))
    }
}

fn downlink(value: &Value<'_>, known: &Known<'_>) -> Read<InterfaceName> {
    let name = interface(value)?;
    match &known.downlinks {
        Some(downlinks) if !downlinks.contains(&name) => {
            let names: Vec<&str> = downlinks.iter().map(InterfaceName::as_str).collect();
            Err(unknown(value, name.as_str(), "one of `downlinks`", &names).into())
        }
        _ => Ok(name),
    }
}

/// A name that is none of those that another key has.
fn unknown(value: &Value<'_>, name: &str, allowed: &str, names: &[&str]) -> Problem {
    let allowed = match names {
        [] => format!("{allowed}, which has none"),
        names => format!("{allowed}: {}", names.join(", ")),
    };
    value.problem(allowed).hint(did_you_mean(name, names))
}

fn some_addresses(value: &Value<'_>, known: &Known<'_>) -> Read<Addresses> {
    let mut ranges = Vec::new();
    let mut sets = BTreeSet::new();
    items(value, |v| {
        match v.spelled().and_then(|text| text.parse::<SetName>().ok()) {
            Some(name) => {
                is_known(v, &name, known)?;
                sets.insert(name);
            }
            None => ranges.push(addresses(v)?),
        }
        Ok(())
    })?;
    Ok(Addresses {
        inline: AddressSet::of(ranges),
        sets,
    })
}

fn is_known(value: &Value<'_>, name: &SetName, known: &Known<'_>) -> Read<()> {
    match known.sets {
        Some(sets) if !sets.contains_key(name) => {
            let names: Vec<&str> = sets.keys().map(SetName::as_str).collect();
            let allowed = "an address, a prefix or a range, or the name of one of `sets`";
            Err(unknown(value, name.as_str(), allowed, &names).into())
        }
        _ => Ok(()),
    }
}

fn protocol(value: &Value<'_>) -> Read<Protocol> {
    value
        .spelled()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            value
                .problem(
                    "a protocol by its name, such as tcp, udp or icmp, or by its number, 0 to 255",
                )
                .into()
        })
}

fn ports(value: &Value<'_>) -> Read<PortSet> {
    let ranges = items(value, port_range)?;
    Ok(PortSet::of(ranges.into_iter().map(|(range, _)| range)))
}

fn port_range(value: &Value<'_>) -> Read<PortRange> {
    let text = value.spelled().unwrap_or_default();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let port = |text: &str| text.trim().parse::<u16>().ok().filter(|port| *port != 0);
    port(first)
        .zip(port(last))
        .filter(|(first, last)| first <= last)
        .map(|(first, last)| PortRange { first, last })
        .ok_or_else(|| {
            value
                .problem("a port, 1 to 65535, or a range of ports, such as 5000-5999")
                .into()
        })
}

fn dscp(value: &Value<'_>) -> Read<Dscp> {
    let text = value.spelled().unwrap_or_default();
    text.parse()
        .map_err(|error: InvalidDscp| value.problem(error.to_string()).into())
}

/// `VALUE` or `VALUE/MASK`, in decimal or hexadecimal.
fn mark(value: &Value<'_>, ours: MarkMask) -> Read<MarkMatch> {
    let text = value.spelled().unwrap_or_default();
    let (number, mask) = match text.split_once('/') {
        Some((number, mask)) => (as_mark(number), as_mark(mask)),
        None => (as_mark(text), Some(ours.others())),
    };
    number
        .zip(mask)
        .map(|(value, mask)| MarkMatch { mask, value })
        .filter(|mark| mark.mask != 0 && mark.value & !mark.mask == 0 && mark.mask & ours.bits() == 0)
        .ok_or_else(|| {
            value
                .problem(format!(
                    "a mark, such as 0x10, or a mark and the bits that count, such as 0x10/0xff; none of the bits of `marks.mask` {ours}"
                ))
                .into()
        })
}

fn as_mark(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

fn mac(value: &Value<'_>) -> Read<MacAddress> {
    value
        .spelled()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| {
            value
                .problem("a hardware address, such as 02:00:5e:10:00:01")
                .into()
        })
}
