//! What a random rule is for: as many conditions as it takes to be for few packets, so that rules
//! further behind have their share.

use std::fmt;

use failover::family::Family;
use failover::policy::Dscp;

use super::sets::{self, NamedSet};
use super::space::Side;
use super::{list, quoted};
use crate::chance::Chance;

/// The conditions of a rule, each with its key, as in the configuration.
#[derive(Clone, Debug, Default)]
pub(super) struct Conditions(Vec<(&'static str, String)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Interface,
    Source,
    Destination,
    Service,
    SourcePorts,
    Dscp,
    Mark,
    Mac,
}

const KINDS: [Kind; 9] = [
    Kind::Interface,
    Kind::Source,
    Kind::Destination,
    // Most rules that people write have one.
    Kind::Destination,
    Kind::Service,
    Kind::SourcePorts,
    Kind::Dscp,
    Kind::Mark,
    Kind::Mac,
];

/// Ports that people name.
const PORTS: [u16; 12] = [22, 25, 53, 80, 123, 443, 587, 993, 1194, 5060, 8080, 51820];
/// Protocols with ports.
const WITH_PORTS: [&str; 6] = ["tcp", "udp", "tcp", "udp", "sctp", "udplite"];
/// Any.
pub(super) const PROTOCOLS: [&str; 10] = [
    "tcp", "udp", "icmp", "icmpv6", "sctp", "gre", "esp", "udplite", "dccp", "99",
];
/// Hardware addresses that rules and packets have.
pub(super) const MACS: u64 = 12;

impl Conditions {
    /// Conditions that hold of one packet in some hundreds.
    pub(super) fn draw(downlinks: &[String], sets: &[NamedSet], chance: &mut Chance) -> Self {
        let mut drawn = Self::default();
        // Each is worth the bits by which it lessens the packets.
        let wanted = 8 + chance.below(5);
        let family = *chance.pick(&Family::ALL).unwrap_or(&Family::Ipv4);
        let mut left = KINDS.to_vec();
        let mut bits = 0;
        while bits < wanted {
            let Some(kind) = chance.pick(&left).copied() else {
                break;
            };
            left.retain(|other| *other != kind);
            bits += match kind {
                Kind::Interface => {
                    let name = chance.pick(downlinks).cloned().unwrap_or_default();
                    drawn.0.push(("interface", list(&[name], chance)));
                    1
                }
                Kind::Source => drawn.addresses("source", Side::Users, family, sets, chance),
                Kind::Destination => {
                    drawn.addresses("destination", Side::Destinations, family, sets, chance)
                }
                Kind::Service => drawn.service(chance),
                Kind::SourcePorts => {
                    drawn.0.push(("source_ports", ports(chance)));
                    // Whatever else it is for has no ports.
                    let services = drawn.0.iter_mut().filter(|(key, _)| *key == "protocol");
                    for (_, protocols) in services {
                        *protocols = "[tcp, udp]".to_owned();
                    }
                    4
                }
                Kind::Dscp => {
                    let points = several(chance, 3, |chance| dscp(chance.below(64)));
                    drawn.0.push(("dscp", list(&points, chance)));
                    4
                }
                Kind::Mark => {
                    let marks = several(chance, 2, mark);
                    drawn.0.push(("mark", list(&marks, chance)));
                    3
                }
                Kind::Mac => {
                    let macs = several(chance, 2, |chance| quoted(mac(chance.below(MACS))));
                    drawn.0.push(("mac", list(&macs, chance)));
                    3
                }
            };
        }
        drawn
    }

    fn addresses(
        &mut self,
        key: &'static str,
        side: Side,
        family: Family,
        sets: &[NamedSet],
        chance: &mut Chance,
    ) -> u64 {
        let of_side: Vec<&NamedSet> = sets.iter().filter(|set| set.side == side).collect();
        let named = chance.pick(&of_side);
        let (items, bits) = match (chance.below(20), named) {
            (0, _) => (vec![everything(family)], 0),
            (1..=8, Some(set)) => (vec![set.name.clone()], 3),
            (9, Some(set)) => {
                let beside = sets::few(side, family, chance);
                (vec![set.name.clone(), quoted(beside)], 3)
            }
            (10..=12, _) => {
                let wide = side.prefix(family, 4 + u32::from(chance.percent(50)), chance);
                (vec![quoted(wide)], 6)
            }
            _ => {
                let few = several(chance, 4, |chance| quoted(sets::few(side, family, chance)));
                (few, 8)
            }
        };
        self.0.push((key, list(&items, chance)));
        bits
    }

    /// A protocol, ports, or both.
    fn service(&mut self, chance: &mut Chance) -> u64 {
        let with_ports = chance.percent(70);
        let has_source_ports = self.0.iter().any(|(key, _)| *key == "source_ports");
        let names: &[&str] = if with_ports || has_source_ports {
            &WITH_PORTS
        } else {
            &PROTOCOLS
        };
        let only_ports = with_ports && chance.percent(25);
        if !only_ports {
            let protocols = several(chance, 2, |chance| {
                (*chance.pick(names).unwrap_or(&"tcp")).to_owned()
            });
            self.0.push(("protocol", list(&protocols, chance)));
        }
        if with_ports {
            self.0.push(("ports", ports(chance)));
        }
        if with_ports { 5 } else { 2 }
    }
}

impl fmt::Display for Conditions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions: Vec<String> = self
            .0
            .iter()
            .map(|(key, value)| format!("{key}: {value}"))
            .collect();
        write!(f, "{{{}}}", conditions.join(", "))
    }
}

/// One or more distinct values.
fn several(
    chance: &mut Chance,
    most: u64,
    mut draw: impl FnMut(&mut Chance) -> String,
) -> Vec<String> {
    let count = 1 + chance.below(most);
    let mut values = Vec::new();
    for _ in 0..count {
        let value = draw(chance);
        if !values.contains(&value) {
            values.push(value);
        }
    }
    values
}

fn everything(family: Family) -> String {
    match family {
        Family::Ipv4 => "0.0.0.0/0".to_owned(),
        Family::Ipv6 => quoted("::/0"),
    }
}

fn ports(chance: &mut Chance) -> String {
    let ports = several(chance, 3, |chance| match chance.below(3) {
        0 => chance.pick(&PORTS).unwrap_or(&80).to_string(),
        1 => (1 + chance.below(65_535)).to_string(),
        _ => {
            let first = 1 + chance.below(65_000);
            format!("{first}-{}", first + chance.below(536))
        }
    });
    list(&ports, chance)
}

/// By name where it has one.
fn dscp(number: u64) -> String {
    let point = u8::try_from(number).ok().and_then(Dscp::new);
    point.map(|point| point.to_string()).unwrap_or_default()
}

/// One of a few, under one of four masks.
fn mark(chance: &mut Chance) -> String {
    match chance.below(4) {
        0 => format!("{:#x}/0xff", 1 + chance.below(6)),
        1 => format!("{:#x}/0xff00", (1 + chance.below(6)) << 8),
        2 => format!("{:#x}/0xf0000", (1 + chance.below(4)) << 16),
        _ => (*chance
            .pick(&["0x11", "74565", "0x40000"])
            .unwrap_or(&"0x11"))
        .to_owned(),
    }
}

/// The hardware address of a number.
pub(super) fn mac(number: u64) -> String {
    format!("02:00:5e:10:00:{number:02x}")
}
