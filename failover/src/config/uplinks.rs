//! The key `uplinks`: each uplink by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::Ipv6Net;

use super::model::{Nat, OnDown, OnUp, ProbeConfig, UplinkConfig};
use super::on_up;
use super::probe::probe;
use super::problem::Problem;
use super::section::{Given, Keys, Problems, Read, Section, Value};
use super::settings::{FlowSettings, NAT, uplink_flows};
use super::strategy::capacity;
use super::value::{
    INTERFACE_NAME, auto_or, boolean, global6, host4, host6, integer, interface, line_of_text,
    prefix6, word,
};
use crate::interface::InterfaceName;
use crate::load::Capacity;
use crate::uplink::{InvalidUplinkName, UplinkId, UplinkName};

const KEYS: Keys = Keys {
    known: &[
        "interface",
        "id",
        "gateway",
        "gateway6",
        "source",
        "source6",
        "virtual",
        "virtual6",
        "prefixes6",
        "weight",
        "priority",
        "new_flows",
        "metered",
        "capacity",
        "nat",
        "description",
        "probe",
        "flows",
    ],
    later: &[],
};

/// What an uplink takes from the settings of all.
pub(super) struct Defaults<'a> {
    pub(super) nat: Nat,
    /// None when `probe` has problems of its own.
    pub(super) probe: Option<&'a ProbeConfig>,
    pub(super) on_down: OnDown,
    pub(super) on_up: OnUp,
}

/// What has to fit the other uplinks, with its places; also of uplinks with other problems.
pub(super) struct Claims<'a> {
    pub(super) name: &'a str,
    pub(super) interface: Given<'a, InterfaceName>,
    pub(super) id: Given<'a, UplinkId>,
    pub(super) gateway: Given<'a, Option<Ipv4Addr>>,
    pub(super) gateway6: Given<'a, Option<Ipv6Addr>>,
    pub(super) capacity: Given<'a, Capacity>,
}

/// Reads all uplinks. What each claims is added to `claims`.
pub(super) fn uplinks<'a>(
    value: &Value<'a>,
    defaults: &Defaults<'_>,
    claims: &mut Vec<Claims<'a>>,
) -> Read<BTreeMap<UplinkName, UplinkConfig>> {
    const ALLOWED: &str = "a map of one uplink or more, such as {fiber: {interface: eth1}}";
    let named = value.named(ALLOWED)?;
    if named.is_empty() {
        return Err(value.problem(ALLOWED).into());
    }
    let mut uplinks = BTreeMap::new();
    let mut problems = Problems::default();
    for (name, place, value) in named {
        let parsed: Result<UplinkName, InvalidUplinkName> = name.parse();
        let read = uplink(name, &value, defaults, claims);
        match (parsed, read) {
            (Ok(name), Ok(uplink)) => {
                uplinks.insert(name, uplink);
            }
            (parsed, read) => {
                if let Err(InvalidUplinkName { found }) = parsed {
                    problems.0.push(invalid_name(&found, &value).at(place));
                }
                problems.0.extend(read.err().unwrap_or_default().0);
            }
        }
    }
    if problems.0.is_empty() {
        Ok(uplinks)
    } else {
        Err(problems)
    }
}

fn invalid_name(found: &str, value: &Value<'_>) -> Problem {
    value.problem_with(
        format!("`{}`", super::problem::shown(found)),
        "an uplink name: 1 to 32 of the characters a-z A-Z 0-9 _ - ., the first a letter or a digit",
    )
}

fn uplink<'a>(
    name: &'a str,
    value: &Value<'a>,
    defaults: &Defaults<'_>,
    claims: &mut Vec<Claims<'a>>,
) -> Read<UplinkConfig> {
    let mut section = Section::open(value, &KEYS)?;
    let interface = section.read("interface", interface);
    section.require(&interface, "interface", INTERFACE_NAME);
    let id = section.read("id", uplink_id);
    let gateway = section.read("gateway", |v| auto_or(v, host4));
    let gateway6 = section.read("gateway6", |v| auto_or(v, host6));
    let source = section.read("source", |v| host4(v, ""));
    let source6 = section.read("source6", global6);
    own_gateway(&mut section, &gateway, &source);
    own_gateway(&mut section, &gateway6, &source6);
    let virtual4 = section.read("virtual", |v| host4(v, ""));
    let virtual6 = section.read("virtual6", global6);
    of_its_own(&mut section, &virtual4, &source, &gateway);
    of_its_own(&mut section, &virtual6, &source6, &gateway6);
    let prefixes6 = section.read("prefixes6", prefixes6);
    let weight = section.read("weight", |v| integer(v, 1..=256)).or(1);
    let priority = section.read("priority", |v| integer(v, 1..=65_535)).or(1);
    let new_flows = section.read("new_flows", boolean).or(true);
    let metered = section.read("metered", boolean).or(false);
    let capacity = section.read("capacity", capacity);
    let nat = section.read("nat", |v| word(v, &NAT)).or(defaults.nat);
    let description = section.read("description", line_of_text).ok();
    let probe = section.read("probe", |v| probe(v, defaults.probe));
    let flows = section
        .read("flows", uplink_flows)
        .or(FlowSettings::default());

    let uplink = interface.good().map(|(interface, _)| UplinkConfig {
        interface: interface.clone(),
        id: id.good().map(|(id, _)| *id),
        gateway: gateway.good().and_then(|(gateway, _)| *gateway),
        gateway6: gateway6.good().and_then(|(gateway, _)| *gateway),
        source: source.ok(),
        source6: source6.ok(),
        virtual4: virtual4.ok(),
        virtual6: virtual6.ok(),
        prefixes6: prefixes6.ok(),
        weight,
        priority,
        new_flows,
        metered,
        capacity: capacity.good().map(|(capacity, _)| *capacity),
        nat,
        description,
        probe: probe
            .ok()
            .or_else(|| defaults.probe.cloned())
            .unwrap_or_default(),
        on_down: flows.on_down.unwrap_or(defaults.on_down),
        on_up: on_up::of_uplink(flows.on_up, defaults.on_up, metered),
    });
    claims.push(Claims {
        name,
        interface,
        id,
        gateway,
        gateway6,
        capacity,
    });
    section.finish(uplink)
}

fn own_gateway<'a, A: Copy + PartialEq>(
    section: &mut Section<'a>,
    gateway: &Given<'a, Option<A>>,
    source: &Given<'a, A>,
) {
    if let (Some((Some(gateway), at)), Some((source, _))) = (gateway.good(), source.good())
        && gateway == source
    {
        section.problem(at.problem("an address that is not this uplink's own source"));
    }
}

/// A virtual address is nobody's but that of whichever router the users are with.
fn of_its_own<'a, A: Copy + PartialEq>(
    section: &mut Section<'a>,
    shared: &Given<'a, A>,
    source: &Given<'a, A>,
    gateway: &Given<'a, Option<A>>,
) {
    let Some((address, at)) = shared.good() else {
        return;
    };
    let is_source = source.good().is_some_and(|(source, _)| source == address);
    let is_gateway = gateway
        .good()
        .is_some_and(|(gateway, _)| gateway.as_ref() == Some(address));
    if is_source || is_gateway {
        section
            .problem(at.problem("an address that is neither this uplink's source nor its gateway"));
    }
}

fn uplink_id(value: &Value<'_>) -> Read<UplinkId> {
    let number = integer(value, 1..=UplinkId::MAX)?;
    UplinkId::try_from(number).map_err(|error| value.problem(error.to_string()).into())
}

fn prefixes6(value: &Value<'_>) -> Read<Vec<Ipv6Net>> {
    let allowed = "a list of IPv6 prefixes, such as [fd00:1::/56], or [] for none";
    let items = value.list(allowed, prefix6)?;
    let mut seen = BTreeSet::new();
    let again: Vec<_> = items
        .iter()
        .filter(|(net, _)| !seen.insert(*net))
        .map(|(_, at)| at.problem_with(format!("{} again", at.found()), "each prefix once"))
        .collect();
    if again.is_empty() {
        Ok(items.into_iter().map(|(net, _)| net).collect())
    } else {
        Err(Problems(again))
    }
}
