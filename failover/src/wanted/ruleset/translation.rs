//! The chain that translates sources to the uplink's address.

use std::collections::BTreeSet;
use std::fmt::{self, Formatter};
use std::net::IpAddr;

use super::{Ruleset, address_keyword};
use crate::config::Nat;
use crate::family::Family;
use crate::wanted::UplinkSituation;

impl Ruleset<'_> {
    pub(super) fn translate(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "  chain translate {{")?;
        writeln!(
            f,
            "    type nat hook postrouting priority srcnat + 10; policy accept;"
        )?;
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
                writeln!(f, "    {leaves_by} {others} snat {ip} to {to}")?;
            }
        }
        writeln!(f, "  }}")
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

/// How many values are compared one by one: that is faster than a look into a set.
const FEW: usize = 4;

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
