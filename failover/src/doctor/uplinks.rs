//! Uplinks and downlinks: interfaces, addresses, gateways.

use std::collections::BTreeMap;

use super::Finding;
use super::facts::Host;
use super::settings::hears_no_router;
use crate::config::Mss;
use crate::discover::{Gateways, Missing, Reachability, reachability};
use crate::family::Family;
use crate::health::LinkLoss;
use crate::interface::InterfaceName;
use crate::network::Mtu;

pub(super) fn check(host: &Host) -> Vec<Finding> {
    let mut findings = ways(host);
    findings.extend(downlinks(host));
    findings.extend(equal_metrics(host));
    findings.extend(segment_sizes(host));
    findings
}

fn ways(host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, uplink) in &host.config.uplinks {
        let gateways = Gateways::of(&host.config, uplink);
        let way = |family| reachability(uplink, gateways, family, &host.view);
        let ways = [way(Family::Ipv4), way(Family::Ipv6)];
        let interface = &uplink.interface;
        if let [Reachability::LinkDown(loss), _] | [_, Reachability::LinkDown(loss)] = &ways {
            findings.push(match loss {
                LinkLoss::Port(_) => Finding::problem(
                    "bridge-port",
                    format!("{name}: {interface} is a port of a bridge, bond or team"),
                    "name the bridge, bond or team itself as the uplink's interface",
                ),
                loss => Finding::notice(
                    "link-down",
                    format!("{name} cannot be used now: {loss}"),
                    format!("ip link show {interface}; plug it in, or ip link set {interface} up"),
                ),
            });
            continue;
        }
        for way in &ways {
            if let Reachability::Absent(missing @ Missing::Source(_)) = way {
                findings.push(Finding::problem(
                    "source-missing",
                    format!("{name}: {missing}"),
                    format!(
                        "ip address show dev {interface}; correct `source`, or leave it out for the \
                         interface's own"
                    ),
                ));
            }
        }
        let has_way = ways.iter().any(|way| way.path().is_some());
        let known = ways
            .iter()
            .any(|way| matches!(way, Reachability::Absent(Missing::Source(_))));
        if has_way || known {
            continue;
        }
        let lacks = ways
            .iter()
            .any(|way| matches!(way, Reachability::Absent(Missing::Gateway)));
        let only_ipv6 = matches!(ways.first(), Some(Reachability::Absent(Missing::Address)));
        if only_ipv6 && lacks && hears_no_router(host, interface) {
            continue;
        }
        findings.push(if lacks {
            Finding::problem(
                "gateway-missing",
                format!("{name} has an address on {interface} and no gateway"),
                format!(
                    "give `gateway` in the configuration, or a default route by {interface} in main \
                     with a metric of its own, as its DHCP client would: ip route add default via \
                     ADDRESS dev {interface} metric NUMBER"
                ),
            )
        } else {
            Finding::problem(
                "address-missing",
                format!("{name} has no address on {interface}"),
                format!("ip address show dev {interface}; look at its DHCP client or its settings"),
            )
        });
    }
    findings
}

fn downlinks(host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    for interface in &host.config.downlinks {
        match host.view.links.get(interface) {
            None => findings.push(Finding::problem(
                "downlink-missing",
                format!("the downlink {interface} does not exist"),
                "ip link; correct `downlinks`",
            )),
            Some(link) if link.port => findings.push(Finding::problem(
                "bridge-port",
                format!("the downlink {interface} is a port of a bridge, bond or team"),
                "name the bridge, bond or team itself in `downlinks`",
            )),
            Some(_) => {}
        }
    }
    findings
}

/// IPv4 only: router advertisements give all routes of IPv6 the same metric, and they stay apart.
fn equal_metrics(host: &Host) -> Vec<Finding> {
    let mut by_metric: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for route in &host.view.default_routes {
        let Some(uplink) = host.uplink_at(route.interface) else {
            continue;
        };
        let learns = host
            .config
            .uplinks
            .get(uplink)
            .is_some_and(|found| found.gateway.is_none() && host.config.learns_gateways(found));
        if route.family == Family::Ipv4 && learns {
            let interface = host.name_of(route.interface);
            let interfaces = by_metric.entry(route.metric).or_default();
            if !interfaces.contains(&interface) {
                interfaces.push(interface);
            }
        }
    }
    by_metric
        .into_iter()
        .filter(|(_, interfaces)| interfaces.len() > 1)
        .map(|(metric, interfaces)| {
            Finding::notice(
                "metric-equal",
                format!(
                    "the default routes by {} have the same metric {metric}: a program that \
                     replaces one may take the other out, and its gateway is lost",
                    interfaces.join(" and ")
                ),
                "give each interface a metric of its own where its address is set up (metric in \
                 ifupdown, RouteMetric= in systemd-networkd, ipv4.route-metric in NetworkManager)",
            )
        })
        .collect()
}

fn segment_sizes(host: &Host) -> Vec<Finding> {
    if host.config.mss != Mss::Off {
        return Vec::new();
    }
    let mtu = |interface: &InterfaceName| -> Option<Mtu> {
        Some(*host.view.links.get(interface)?.mtu.get(Family::Ipv4))
    };
    let widest = host.config.downlinks.iter().filter_map(mtu).max();
    host.config
        .uplinks
        .iter()
        .filter_map(|(name, uplink)| {
            let own = mtu(&uplink.interface)?;
            let users = widest.filter(|users| own < *users)?;
            Some(Finding::notice(
                "mss-off",
                format!(
                    "{name} takes packets of {} bytes, users send {}: with `flows.mss: off` TCP hangs \
                     where the ICMP errors about that are filtered",
                    own.0, users.0
                ),
                "leave `flows.mss` out, or clamp segments in a firewall of your own",
            ))
        })
        .collect()
}
