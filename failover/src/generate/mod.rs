//! Rules for those who translate themselves (`nat: none`): what failover would do, to be put into a
//! firewall of one's own.
//!
//! Marks are not among them: with `nat: none` too, failover's own table notes in each connection's
//! mark the uplink that it goes by.

mod iptables;
mod nftables;

use std::net::IpAddr;

use ipnet::Ipv6Net;
use thiserror::Error;

use crate::config::{Config, Nat, UplinkConfig};
use crate::discover::own_prefixes6;
use crate::family::Family;
use crate::mark::Mark;
use crate::network::NetworkView;
use crate::uplink::UplinkName;

/// For which program rules are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Firewall {
    /// For `nft -f`, both families.
    Nftables,
    /// For `iptables-restore`, or with --ipv6 for `ip6tables-restore`.
    Iptables,
}

/// Why there are no rules.
#[derive(Debug, Error)]
pub enum GenerateError {
    /// failover translates itself.
    #[error(
        "no uplink has `nat: none`, so failover translates itself and there is nothing to generate; set \
         `nat: none` in the configuration, for all or for single uplinks, to do it yourself"
    )]
    Translated,
    /// Two uplinks of an interface cannot be told apart.
    #[error(
        "{uplink} shares {interface} with others and has a `source` of its own: give it an `id`, so that \
         its packets can be told by their mark"
    )]
    NoId {
        /// The uplink.
        uplink: UplinkName,
        /// The interface.
        interface: String,
    },
}

/// What is translated on one uplink in one family.
#[derive(Debug)]
struct Translation<'a> {
    name: &'a UplinkName,
    uplink: &'a UplinkConfig,
    family: Family,
    /// To which address; `None`: the interface's own, whatever it is.
    to: Option<IpAddr>,
    /// The mark of its packets, where the interface alone does not tell.
    mark: Option<Mark>,
    /// Sources that the provider knows, and that stay.
    own: Vec<Ipv6Net>,
}

/// The rules as the text of a file. `family` counts for iptables only.
///
/// # Errors
/// When there is nothing to generate, or uplinks cannot be told apart.
pub fn rules(
    config: &Config,
    view: &NetworkView,
    firewall: Firewall,
    family: Family,
) -> Result<String, GenerateError> {
    let mut translations = Vec::new();
    for (name, uplink) in &config.uplinks {
        if uplink.nat != Nat::None {
            continue;
        }
        for family in Family::ALL {
            translations.push(translation(config, view, name, uplink, family)?);
        }
    }
    if translations.is_empty() {
        return Err(GenerateError::Translated);
    }
    // Those that are told by their mark come first: the interface alone is all others.
    translations.sort_by_key(|translation| translation.mark.is_none());
    Ok(match firewall {
        Firewall::Nftables => nftables::text(config, &translations),
        Firewall::Iptables => iptables::text(config, &translations, family),
    })
}

fn translation<'a>(
    config: &Config,
    view: &NetworkView,
    name: &'a UplinkName,
    uplink: &'a UplinkConfig,
    family: Family,
) -> Result<Translation<'a>, GenerateError> {
    let to = match family {
        Family::Ipv4 => uplink.source.map(IpAddr::V4),
        Family::Ipv6 => uplink.source6.map(IpAddr::V6),
    };
    let shares = !config.learns_gateways(uplink);
    let mark = match (to, uplink.id) {
        (Some(_), Some(id)) if shares => Some(config.marks.flow(id)),
        (Some(_), None) if shares => {
            return Err(GenerateError::NoId {
                uplink: name.clone(),
                interface: uplink.interface.to_string(),
            });
        }
        _ => None,
    };
    let own = match family {
        Family::Ipv4 => Vec::new(),
        Family::Ipv6 if shares && uplink.prefixes6.is_none() => Vec::new(),
        Family::Ipv6 => own_prefixes6(uplink, view),
    };
    Ok(Translation {
        name,
        uplink,
        family,
        to,
        mark,
        own,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn generated(text: &str, firewall: Firewall, family: Family) -> Result<String, GenerateError> {
        let config = config::parse(text).unwrap();
        rules(&config, &NetworkView::default(), firewall, family)
    }

    const CONFIG: &str = "
uplinks:
  fiber: {interface: wan1, source: 192.0.2.2, prefixes6: [\"2001:db8:1::/56\"]}
  lte: {interface: wwan0, priority: 2}
  own: {interface: wan3, nat: masquerade}
downlinks: [lan0]
nat: none
";

    #[test]
    fn nftables_translates_to_the_source_or_to_whatever_the_interface_has() {
        let text = generated(CONFIG, Firewall::Nftables, Family::Ipv4).unwrap();
        for line in [
            "oifname \"wan1\" meta nfproto ipv4 snat ip to 192.0.2.2",
            "oifname \"wan1\" ip6 saddr != { fe80::/10, 2001:db8:1::/56 } masquerade",
            "oifname \"wwan0\" meta nfproto ipv4 masquerade",
        ] {
            assert!(
                text.lines().any(|found| found.trim() == line),
                "{line}\n{text}"
            );
        }
        assert!(!text.contains("wan3"), "{text}");
    }

    #[test]
    fn iptables_has_a_file_for_each_family() {
        let four = generated(CONFIG, Firewall::Iptables, Family::Ipv4).unwrap();
        assert!(
            four.contains("-A failover-nat -o wan1 -j SNAT --to-source 192.0.2.2\n"),
            "{four}"
        );
        assert!(!four.contains("2001:db8"), "{four}");
        let six = generated(CONFIG, Firewall::Iptables, Family::Ipv6).unwrap();
        assert!(
            six.contains("-A failover-nat -o wan1 -s 2001:db8:1::/56 -j RETURN\n"),
            "{six}"
        );
        assert!(
            six.contains("-A failover-nat -o wwan0 -j MASQUERADE\n"),
            "{six}"
        );
    }

    #[test]
    fn who_has_failover_translate_is_told_so() {
        let text = "uplinks: {fiber: {interface: wan1}}";
        let error = generated(text, Firewall::Nftables, Family::Ipv4).unwrap_err();
        assert!(error.to_string().contains("`nat: none`"), "{error}");
    }

    #[test]
    fn sources_of_one_interface_are_told_apart_by_mark() {
        let text = "
uplinks:
  a: {interface: wan0, gateway: 192.0.2.1, source: 192.0.2.8, id: 1}
  b: {interface: wan0, gateway: 192.0.2.2, source: 192.0.2.9, id: 2}
nat: none
";
        let rules = generated(text, Firewall::Nftables, Family::Ipv4).unwrap();
        assert!(
            rules.contains(
                "meta mark & 0xff000000 == 0x02000000 meta nfproto ipv4 snat ip to 192.0.2.9"
            ),
            "{rules}"
        );
        let error = generated(
            &text.replace(", id: 2", ""),
            Firewall::Nftables,
            Family::Ipv4,
        );
        assert!(matches!(error, Err(GenerateError::NoId { .. })));
    }
}
