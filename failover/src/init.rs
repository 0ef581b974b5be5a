//! A first configuration for a host, from what it is like.
//!
//! What leads out are the interfaces with default routes, by whomever these were made; users are
//! behind the others that have addresses. Each guess is said in a comment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use thiserror::Error;

use crate::config::{self, ConfigError};
use crate::discover::{addresses_of, network};
use crate::draft::{self, Entry, Names, Value};
use crate::family::{Family, PerFamily};
use crate::interface::InterfaceName;
use crate::network::{Link, LinkLayer, NetworkView};

/// Beginnings of names of mobile modems' interfaces: every byte is likely to be paid for.
const MOBILE: [&str; 4] = ["wwan", "wwp", "rmnet", "usb"];
/// Beginnings of names of interfaces that container and virtual machine programs make.
const OTHERS: [&str; 9] = [
    "docker", "br-", "virbr", "veth", "cni", "lxc", "lxdbr", "incusbr", "podman",
];

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum InitError {
    /// Nothing leads out.
    #[error(
        "no interface has a default route, so nothing tells which ones lead out: set up the addresses \
         of your providers' interfaces first (DHCP, PPP, router advertisements or by hand), each \
         default route with a metric of its own"
    )]
    NoUplink,
    /// What was put together is no configuration.
    #[error("what this host is like makes no configuration:\n{0}")]
    Draft(ConfigError),
}

/// An uplink as it was found.
#[derive(Debug)]
struct Found {
    interface: InterfaceName,
    /// Where the interface has one gateway only, the daemon learns it.
    gateways: PerFamily<Option<IpAddr>>,
    /// The gateways have to be said, since several uplinks share the interface.
    shares: bool,
    comment: String,
}

/// Writes the configuration.
///
/// # Errors
/// When the host has no default route.
pub fn configuration(view: &NetworkView) -> Result<String, InitError> {
    let found = uplinks(view);
    if found.is_empty() {
        return Err(InitError::NoUplink);
    }
    let downlinks = downlinks(view, &found);
    let entries = vec![
        Entry::new("uplinks", Value::Map(uplink_entries(&found))).with_comment(
            "What leads out. Gateways and addresses are followed by themselves, as DHCP, PPP and router \
             advertisements change them. `weight` gives an uplink more of the new flows; one with a \
             higher `priority` is used when all with a lower one are down.",
        ),
        downlinks,
        Entry::new("probe", Value::Map(vec![targets()])).with_comment(
            "Who is asked whether an uplink works; one that answers is enough. Take hosts that matter \
             to you, of several operators.",
        ),
    ];
    let about = [
        "Written by `failover init` from what this host is like. Read it, then: failover check && \
         failover doctor"
            .to_owned(),
        "All keys: docs/configuration.md".to_owned(),
    ];
    let (text, _) = draft::written(&about, &entries).map_err(InitError::Draft)?;
    Ok(text)
}

fn uplinks(view: &NetworkView) -> Vec<Found> {
    let mut found = Vec::new();
    let mut metrics: Vec<(u32, &InterfaceName, &Link)> = view
        .links
        .iter()
        .filter(|(_, link)| !link.loopback && !link.port)
        .filter_map(|(name, link)| {
            let routes = view.default_routes.iter();
            let own = routes.filter(|route| route.interface == link.index);
            let best = own.map(|route| route.metric).min()?;
            Some((best, name, link))
        })
        .collect();
    // As the host preferred them so far.
    metrics.sort_by_key(|(metric, name, _)| (*metric, name.to_string()));
    for (_, name, link) in metrics {
        let gateways = PerFamily::from_fn(|family| gateways(view, link, family));
        let (four, six) = (&gateways.ipv4, &gateways.ipv6);
        let count = four.len().max(six.len()).max(1);
        for place in 0..count {
            let own = PerFamily {
                ipv4: four.get(place).copied(),
                ipv6: six.get(place).copied(),
            };
            found.push(Found {
                interface: name.clone(),
                comment: comment(view, link, own, count > 1),
                gateways: own,
                shares: count > 1,
            });
        }
    }
    found
}

/// The gateways of an interface, the best first.
fn gateways(view: &NetworkView, link: &Link, family: Family) -> Vec<IpAddr> {
    let mut routes: Vec<_> = view
        .default_routes
        .iter()
        .filter(|route| route.interface == link.index && route.family == family)
        .filter_map(|route| Some((route.metric, route.gateway?)))
        .collect();
    routes.sort_unstable();
    let mut gateways = Vec::new();
    for (_, gateway) in routes {
        if !gateways.contains(&gateway) {
            gateways.push(gateway);
        }
    }
    gateways
}

fn comment(
    view: &NetworkView,
    link: &Link,
    gateways: PerFamily<Option<IpAddr>>,
    shares: bool,
) -> String {
    let mut parts = Vec::new();
    for family in Family::ALL {
        let Some(own) = addresses_of(view, link, family).next() else {
            continue;
        };
        parts.push(match gateways.get(family) {
            Some(gateway) => format!("{family} {} via {gateway}", own.address),
            None => format!("{family} {}", own.address),
        });
    }
    let mut comment = format!("Now: {}.", parts.join(", "));
    if link.point_to_point {
        comment.push_str(" A point-to-point line: it needs no gateway.");
    }
    if shares {
        comment.push_str(" Several gateways are behind this interface, so each says its own.");
        if parts.len() > 1 {
            comment.push_str(" Which IPv6 gateway goes with which of IPv4 is a guess.");
        }
    }
    comment
}

fn uplink_entries(found: &[Found]) -> Vec<Entry> {
    let is_mobile = |uplink: &Found| {
        let name = uplink.interface.as_str();
        MOBILE.iter().any(|start| name.starts_with(start))
    };
    let all_mobile = found.iter().all(is_mobile);
    let mut names = Names::default();
    let mut entries = Vec::new();
    for uplink in found {
        let mut keys = vec![Entry::scalar("interface", &uplink.interface)];
        if uplink.shares {
            let (four, six) = (uplink.gateways.ipv4, uplink.gateways.ipv6);
            keys.extend(four.map(|gateway| Entry::scalar("gateway", &gateway)));
            keys.extend(six.map(|gateway| Entry::scalar("gateway6", &gateway)));
        }
        if is_mobile(uplink) {
            if !all_mobile {
                keys.push(Entry::scalar("priority", &2).with_comment(
                    "A guess by its name: mobile, so only when the others are down.",
                ));
            }
            keys.push(
                Entry::scalar("metered", "true").with_comment(
                    "A guess: its bytes are paid for, so that it is probed sparingly.",
                ),
            );
        } else if uplink.interface.as_str().starts_with("ppp") {
            keys.push(
                Entry::scalar("metered", "false").with_comment(
                    "true, and `priority: 2`, if this is a mobile modem and not DSL.",
                ),
            );
        }
        let name = names.name(uplink.interface.as_str());
        entries.push(Entry::new(name, Value::Map(keys)).with_comment(&*uplink.comment));
    }
    entries
}

/// The interfaces behind which users seem to be.
fn downlinks(view: &NetworkView, uplinks: &[Found]) -> Entry {
    let outer: BTreeSet<&InterfaceName> = uplinks.iter().map(|uplink| &uplink.interface).collect();
    let mut inner: Vec<String> = Vec::new();
    let mut left_out: Vec<String> = Vec::new();
    let mut public: Vec<String> = Vec::new();
    for (name, link) in &view.links {
        let candidate = !link.loopback
            && !link.port
            && !link.point_to_point
            && link.layer == LinkLayer::Ethernet
            && !outer.contains(name);
        let addresses: Vec<IpAddr> = Family::ALL
            .into_iter()
            .flat_map(|family| addresses_of(view, link, family))
            .map(|own| own.address)
            .collect();
        if !candidate || addresses.is_empty() {
            continue;
        }
        if OTHERS.iter().any(|start| name.as_str().starts_with(start)) {
            left_out.push(name.to_string());
            continue;
        }
        if !addresses.iter().any(|address| is_internal(*address)) {
            public.push(name.to_string());
        }
        inner.push(name.to_string());
    }
    let shared = one_arm(view, uplinks).filter(|_| inner.is_empty());
    let comment = match (&shared, inner.is_empty()) {
        (Some(interface), _) => format!(
            "Users seem to be behind {interface}, where the gateways are: they take this host for their \
             gateway. If nobody does, write []."
        ),
        (None, true) => {
            "No interface seems to have users behind it: only this host's own traffic is \
                         cared for."
                .to_owned()
        }
        (None, false) => {
            "Behind these, users seem to be: they have addresses and no default route.".to_owned()
        }
    };
    inner.extend(shared.map(|interface| interface.to_string()));
    let mut entry = Entry::new("downlinks", Value::Row(inner)).with_comment(comment);
    if !public.is_empty() {
        entry = entry.with_comment(format!(
            "{} has public addresses only: take it out if no users are behind it.",
            public.join(", ")
        ));
    }
    if !left_out.is_empty() {
        entry = entry.with_comment(format!(
            "Left out, since containers or virtual machines use them: {}. They reach the internet all \
             the same; named here, rules can be for them.",
            left_out.join(", ")
        ));
    }
    entry
}

/// The one interface where several gateways are in a network of private addresses.
fn one_arm<'f>(view: &NetworkView, uplinks: &'f [Found]) -> Option<&'f InterfaceName> {
    let mut by_interface: BTreeMap<&InterfaceName, usize> = BTreeMap::new();
    for uplink in uplinks {
        *by_interface.entry(&uplink.interface).or_default() += 1;
    }
    let mut interfaces = by_interface.into_iter();
    let (interface, gateways) = interfaces.next()?;
    let link = view.links.get(interface)?;
    let is_private = Family::ALL
        .into_iter()
        .flat_map(|family| addresses_of(view, link, family))
        .any(|own| {
            is_internal(own.address) && network(own).prefix_len() < network(own).max_prefix_len()
        });
    (gateways > 1 && is_private && interfaces.next().is_none()).then_some(interface)
}

/// Addresses that the internet does not know.
fn is_internal(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let shared = Ipv4Addr::new(100, 64, 0, 0);
            let benchmarks = Ipv4Addr::new(198, 18, 0, 0);
            let within = |net: Ipv4Addr, bits: u32| {
                (u32::from(address) ^ u32::from(net)).leading_zeros() >= bits
            };
            address.is_private() || within(shared, 10) || within(benchmarks, 15)
        }
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

/// The targets that are asked when the file names none.
fn targets() -> Entry {
    let smallest = config::parse("uplinks: {only: {interface: only}}");
    let targets = smallest
        .ok()
        .and_then(|config| Some(config.uplinks.into_values().next()?.probe.targets))
        .unwrap_or_default();
    let targets = targets.iter().map(ToString::to_string).collect();
    Entry::new("targets", Value::Column(targets))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::InterfaceIndex;
    use crate::network::{DefaultRoute, InterfaceAddress};

    /// An interface, its addresses, its gateways and the metrics of their routes.
    type Interface<'a> = (&'a str, &'a [&'a str], &'a [(&'a str, u32)]);

    fn view(interfaces: &[Interface<'_>]) -> NetworkView {
        let mut view = NetworkView::default();
        for (number, (name, addresses, gateways)) in (1..).zip(interfaces) {
            let index = InterfaceIndex(number);
            view.links
                .insert(name.parse().unwrap(), Link::ethernet(index));
            for address in *addresses {
                view.addresses.push(InterfaceAddress {
                    interface: index,
                    address: address.parse().unwrap(),
                    prefix_len: 24,
                });
            }
            for (gateway, metric) in *gateways {
                let gateway: IpAddr = gateway.parse().unwrap();
                view.default_routes.push(DefaultRoute {
                    family: Family::of(gateway),
                    interface: index,
                    gateway: Some(gateway),
                    source: None,
                    metric: *metric,
                });
            }
        }
        view
    }

    #[test]
    fn lines_of_their_own_and_users() {
        let text = configuration(&view(&[
            ("docker0", &["172.17.0.1"], &[]),
            ("eth0", &["192.168.1.1", "fd00:1::1"], &[]),
            ("eth1", &["192.0.2.2"], &[("192.0.2.1", 100)]),
            ("wwan0", &["198.51.100.2"], &[("198.51.100.1", 700)]),
        ]))
        .unwrap();
        let config = config::parse(&text).unwrap();
        let mobile = &config.uplinks[&"wwan0".parse().unwrap()];
        assert!(mobile.metered && mobile.priority == 2, "{text}");
        assert_eq!(config.uplinks[&"eth1".parse().unwrap()].priority, 1);
        let downlinks: Vec<&str> = config.downlinks.iter().map(|name| name.as_str()).collect();
        assert_eq!(downlinks, ["eth0"], "{text}");
        assert!(text.contains("docker0"), "{text}");
        assert_eq!(
            config.uplinks.values().next().unwrap().probe.targets.len(),
            4
        );
    }

    #[test]
    fn gateways_behind_one_interface_say_their_own() {
        let text = configuration(&view(&[(
            "eth0",
            &["192.168.1.5"],
            &[("192.168.1.2", 200), ("192.168.1.1", 100)],
        )]))
        .unwrap();
        let config = config::parse(&text).unwrap();
        let gateways: Vec<_> = config
            .uplinks
            .values()
            .map(|uplink| uplink.gateway)
            .collect();
        let expected = ["192.168.1.1", "192.168.1.2"].map(|text| Some(text.parse().unwrap()));
        assert_eq!(gateways, expected, "{text}");
        assert_eq!(config.downlinks.len(), 1, "{text}");
    }

    #[test]
    fn a_host_without_default_routes_is_told_what_to_do() {
        let error = configuration(&view(&[("eth0", &["192.168.1.5"], &[])])).unwrap_err();
        assert!(error.to_string().contains("default route"), "{error}");
    }
}
