//! Probe targets: whether they answer, and whether they tell anything.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Finding;
use super::facts::{Host, Probed};
use super::settings::filters_strictly;
use crate::config::Target;
use crate::discover::{addresses_of, network};
use crate::family::Family;
use crate::uplink::UplinkName;

pub(super) fn check(host: &Host) -> Vec<Finding> {
    let mut findings = answers(host);
    findings.extend(near(host));
    findings
}

fn answers(host: &Host) -> Vec<Finding> {
    let mut by_way: BTreeMap<(&UplinkName, Family), Vec<&Probed>> = BTreeMap::new();
    for probed in &host.probes {
        by_way
            .entry((&probed.uplink, probed.family))
            .or_default()
            .push(probed);
    }
    let mut findings = Vec::new();
    for ((uplink, family), probes) in &by_way {
        // What its filter drops is told already.
        let filtered = *family == Family::Ipv4
            && host
                .config
                .uplinks
                .get(*uplink)
                .is_some_and(|found| filters_strictly(host, &found.interface));
        if filtered || probes.iter().any(|probed| probed.failure.is_none()) {
            continue;
        }
        let first = probes.first();
        let why = first.and_then(|probed| probed.failure.as_deref());
        let example = first.map_or_else(String::new, |probed| probed.target.to_string());
        findings.push(Finding::problem(
            "targets-unreachable",
            format!(
                "no target answers over {family} by {uplink}; {example}: {}",
                why.unwrap_or_default()
            ),
            format!(
                "if the line works, its provider filters these targets: give {uplink} others \
                 (`probe.targets`); else the line is down"
            ),
        ));
    }
    let targets: BTreeSet<String> = host
        .probes
        .iter()
        .map(|probed| probed.target.to_string())
        .collect();
    for target in targets {
        let of_it = |probed: &&Probed| probed.target.to_string() == target;
        let asked: Vec<&Probed> = host.probes.iter().filter(of_it).collect();
        // Where nothing answers, it is the line's fault.
        let telling = asked.iter().filter(|probed| {
            by_way
                .get(&(&probed.uplink, probed.family))
                .is_some_and(|all| all.iter().any(|other| other.failure.is_none()))
        });
        let silent: Vec<&&Probed> = telling.filter(|probed| probed.failure.is_some()).collect();
        if silent.is_empty() {
            continue;
        }
        let uplinks: BTreeSet<&str> = silent.iter().map(|probed| probed.uplink.as_str()).collect();
        let why = silent.first().and_then(|probed| probed.failure.as_deref());
        findings.push(Finding::notice(
            "target-silent",
            format!(
                "{target} does not answer by {} ({}), others do",
                uplinks.into_iter().collect::<Vec<_>>().join(", "),
                why.unwrap_or_default()
            ),
            "take another target in its place",
        ));
    }
    findings
}

/// Targets that answer although the internet behind them is gone.
fn near(host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, uplink) in &host.config.uplinks {
        let Some(link) = host.view.links.get(&uplink.interface) else {
            continue;
        };
        for family in Family::ALL {
            let targets: Vec<&Target> = uplink
                .probe
                .targets
                .iter()
                .filter(|target| target.is_asked_in(family))
                .collect();
            let own: Vec<IpNet> = addresses_of(&host.view, link, family)
                .map(network)
                .collect();
            if targets.is_empty() || own.is_empty() {
                continue;
            }
            let is_near = |target: &&Target| match target {
                Target::Gateway => true,
                Target::Icmp(address) => own.iter().any(|net| net.contains(address)),
                _ => false,
            };
            if targets.iter().all(is_near) {
                findings.push(Finding::notice(
                    "targets-near",
                    format!(
                        "all {family} targets of {name} are in its own network: they answer though \
                         the internet behind them is gone"
                    ),
                    "add a target further away, such as icmp://1.1.1.1 or icmp://2606:4700:4700::1111",
                ));
            } else if targets.len() > 1 && one_network(&targets) {
                findings.push(Finding::notice(
                    "targets-together",
                    format!("all {family} targets of {name} are in one network, and fall silent together"),
                    "add a target of another operator, such as icmp://9.9.9.9 or icmp://2620:fe::fe",
                ));
            }
        }
    }
    findings
}

/// Whether all are addresses of the same /24 or /48.
fn one_network(targets: &[&Target]) -> bool {
    let networks: Option<BTreeSet<IpNet>> = targets
        .iter()
        .map(|target| match target {
            Target::Icmp(address) => {
                let prefix = match address {
                    IpAddr::V4(_) => 24,
                    IpAddr::V6(_) => 48,
                };
                IpNet::new(*address, prefix).ok().map(|net| net.trunc())
            }
            _ => None,
        })
        .collect();
    networks.is_some_and(|networks| networks.len() == 1)
}
