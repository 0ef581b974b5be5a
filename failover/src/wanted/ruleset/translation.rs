//! The chain that translates sources to the uplink's address.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Formatter};
use std::net::IpAddr;

use super::{FEW, Ruleset, address_keyword, by_output};
use crate::config::Nat;
use crate::family::Family;
use crate::interface::InterfaceName;
use crate::uplink::UplinkId;
use crate::wanted::UplinkSituation;

impl Ruleset<'_> {
    pub(super) fn translate(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let by_interface = self.translations();
        let many = by_interface.len() > FEW;
        if many {
            for (id, rules) in by_interface.values() {
                writeln!(f, "  chain translate_{id} {{")?;
                for rule in rules {
                    writeln!(f, "    {rule}")?;
                }
                writeln!(f, "  }}")?;
            }
        }
        writeln!(f, "  chain translate {{")?;
        writeln!(
            f,
            "    type nat hook postrouting priority srcnat + 10; policy accept;"
        )?;
        if many {
            let ways = by_interface.iter();
            by_output(
                f,
                ways.map(|(interface, (id, _))| (*interface, format!("translate_{id}"))),
            )?;
        } else {
            for (interface, (_, rules)) in by_interface {
                for rule in rules {
                    writeln!(f, "    oifname \"{interface}\" {rule}")?;
                }
            }
        }
        writeln!(f, "  }}")
    }

    /// The rules for what leaves by each interface, with the first uplink that has it.
    fn translations(&self) -> BTreeMap<&InterfaceName, (UplinkId, Vec<String>)> {
        let mut by_interface = BTreeMap::new();
        for uplink in self
            .0
            .uplinks
            .iter()
            .filter(|uplink| uplink.nat == Nat::Masquerade)
        {
            for family in Family::ALL {
                let Some(source) = uplink.path(family).map(|path| path.source) else {
                    continue;
                };
                let ip = address_keyword(source);
                let leaves_by = self.leaves_by(uplink, family);
                let others = other_than(&format!("{ip} saddr"), &untranslated(uplink, source));
                let to = uplink.translated_to.get(family).unwrap_or(source);
                let (_, rules) = by_interface
                    .entry(&uplink.interface)
                    .or_insert_with(|| (uplink.id, Vec::new()));
                rules.push(format!("{leaves_by}{others} snat {ip} to {to}"));
            }
        }
        by_interface
    }
}

/// The sources that stay as they are: the uplink's own addresses and prefixes, and those that mean
/// something on the link only.
fn untranslated(uplink: &UplinkSituation, source: IpAddr) -> Vec<String> {
    let family = Family::of(source);
    let mut kept: Vec<String> = match family {
        Family::Ipv4 => vec!["0.0.0.0".to_owned()],
        Family::Ipv6 => vec!["::".to_owned(), "fe80::/10".to_owned()],
    };
    let prefixes = match family {
        Family::Ipv4 => [].as_slice(),
        Family::Ipv6 => uplink.prefixes6.as_slice(),
    };
    // Elements of an interval set must not overlap: an address in one of the prefixes is left out.
    let addresses: BTreeSet<IpAddr> = uplink.addresses.iter().copied().chain([source]).collect();
    kept.extend(
        ipnet::Ipv6Net::aggregate(&prefixes.to_vec())
            .iter()
            .map(ToString::to_string),
    );
    kept.extend(
        addresses
            .into_iter()
            .filter(|address| Family::of(*address) == family)
            .filter(|address| match address {
                IpAddr::V4(_) => true,
                IpAddr::V6(address) => {
                    !address.is_unicast_link_local()
                        && !prefixes.iter().any(|prefix| prefix.contains(address))
                }
            })
            .map(|address| address.to_string()),
    );
    kept
}

/// A match for whatever is none of these values.
fn other_than(what: &str, values: &[String]) -> String {
    if values.len() > FEW {
        return format!("{what} != {{ {} }}", values.join(", "));
    }
    let each: Vec<String> = values
        .iter()
        .map(|value| format!("{what} != {value}"))
        .collect();
    each.join(" ")
}
