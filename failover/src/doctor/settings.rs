//! Kernel settings: forwarding, router advertisements, reverse-path filters.

use super::Finding;
use super::facts::Host;
use crate::discover::{Gateways, Missing, Reachability, addresses_of, reachability};
use crate::family::Family;
use crate::interface::InterfaceName;
use crate::wanted::sysctls::{RP_FILTER_ALL, rp_filter, rp_filter_key};

/// The switch of IPv4.
pub(super) const FORWARDING4: &str = "net/ipv4/ip_forward";
/// The switch of IPv6.
pub(super) const FORWARDING6: &str = "net/ipv6/conf/all/forwarding";

/// Whether an interface learns from router advertisements.
pub(super) fn accept_ra_key(interface: &InterfaceName) -> String {
    format!("net/ipv6/conf/{interface}/accept_ra")
}

pub(super) fn check(host: &Host) -> Vec<Finding> {
    let mut findings = forwarding(host);
    findings.extend(advertisements(host));
    findings.extend(strict_filters(host));
    findings
}

fn forwarding(host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    if host.config.downlinks.is_empty() {
        return findings;
    }
    if host.setting(FORWARDING4) == Some("0") {
        findings.push(
            Finding::problem(
                "forwarding-ipv4",
                "IPv4 is not forwarded (net.ipv4.ip_forward=0): users behind the downlinks reach nothing",
                lasting("net.ipv4.ip_forward=1"),
            )
            .mended_by(FORWARDING4, "1"),
        );
    }
    if host.setting(FORWARDING6) == Some("0") && has_ipv6_on_both_sides(host) {
        let mut finding = Finding::problem(
            "forwarding-ipv6",
            "IPv6 is not forwarded (net.ipv6.conf.all.forwarding=0) though uplinks and downlinks have it",
            lasting("net.ipv6.conf.all.forwarding=1"),
        );
        // Who forwards listens to no router, unless told to.
        for interface in learning(host) {
            finding = finding.mended_by(accept_ra_key(interface), "2");
        }
        findings.push(finding.mended_by(FORWARDING6, "1"));
    }
    findings
}

/// The interfaces of uplinks that would no longer learn from routers if IPv6 were forwarded.
fn learning(host: &Host) -> impl Iterator<Item = &InterfaceName> {
    host.config
        .uplinks
        .values()
        .map(|uplink| &uplink.interface)
        .filter(|interface| host.setting(&accept_ra_key(interface)) == Some("1"))
}

fn has_ipv6_on_both_sides(host: &Host) -> bool {
    let has = |interface: &InterfaceName| {
        let link = host.view.links.get(interface);
        link.is_some_and(|link| {
            addresses_of(&host.view, link, Family::Ipv6)
                .next()
                .is_some()
        })
    };
    host.config.downlinks.iter().any(has)
        && host
            .config
            .uplinks
            .values()
            .any(|uplink| has(&uplink.interface))
}

/// Whether an interface has lost its IPv6 gateway because it no longer listens to routers.
pub(super) fn hears_no_router(host: &Host, interface: &InterfaceName) -> bool {
    let forwards = [
        FORWARDING6.to_owned(),
        format!("net/ipv6/conf/{interface}/forwarding"),
    ];
    host.setting(&accept_ra_key(interface)) == Some("1")
        && forwards.iter().any(|key| host.setting(key) == Some("1"))
}

fn advertisements(host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, uplink) in &host.config.uplinks {
        let way = reachability(
            uplink,
            Gateways::of(&host.config, uplink),
            Family::Ipv6,
            &host.view,
        );
        let lacks_gateway = matches!(way, Reachability::Absent(Missing::Gateway));
        if lacks_gateway && hears_no_router(host, &uplink.interface) {
            let interface = &uplink.interface;
            findings.push(
                Finding::problem(
                    "accept-ra",
                    format!(
                        "{name} ({interface}) has an IPv6 address and no gateway: while IPv6 is \
                         forwarded, accept_ra=1 means that router advertisements are not listened to"
                    ),
                    lasting(&format!("net.ipv6.conf.{interface}.accept_ra=2")),
                )
                .mended_by(accept_ra_key(interface), "2"),
            );
        }
    }
    findings
}

fn strict_filters(host: &Host) -> Vec<Finding> {
    let interfaces: std::collections::BTreeSet<&InterfaceName> = host
        .config
        .uplinks
        .values()
        .map(|uplink| &uplink.interface)
        .collect();
    interfaces
        .into_iter()
        .filter(|interface| filters_strictly(host, interface))
        .map(|interface| {
            let finding = Finding::problem(
                "rp-filter",
                format!(
                    "{interface} drops answers that main would not send back the same way (rp_filter=1 \
                     on it or on all)"
                ),
                lasting(&format!("net.ipv4.conf.{interface}.rp_filter=2")),
            )
            .mended_by(rp_filter_key(interface), "2");
            if host.running {
                finding
            } else {
                finding.softened("; the daemon sets it to 2 when it starts")
            }
        })
        .collect()
}

/// Whether answers by an interface are dropped that come by another way than `main`'s.
pub(super) fn filters_strictly(host: &Host, interface: &InterfaceName) -> bool {
    let all = host.setting(RP_FILTER_ALL).unwrap_or("0");
    let own = host.setting(&rp_filter_key(interface)).unwrap_or("0");
    rp_filter(all, own).is_some()
}

fn lasting(setting: &str) -> String {
    format!("sysctl -w {setting}; to keep it, put that setting into /etc/sysctl.d/failover.conf")
}
