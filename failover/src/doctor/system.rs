//! What the kernel and the machine lack, and who else steers.

use super::Finding;
use super::facts::Host;
use crate::config::{FLOW_CAPACITY, ModeSetting};

/// The size of connection tracking's table, and what is in it.
pub(super) const CONNTRACK_MAX: &str = "net/netfilter/nf_conntrack_max";
pub(super) const CONNTRACK_COUNT: &str = "net/netfilter/nf_conntrack_count";

pub(super) fn check(host: &Host) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(why) = &host.no_nft {
        findings.push(Finding::problem(
            "nft-missing",
            why.clone(),
            "apt-get install nftables; translation and marks need it in both modes",
        ));
    }
    for feature in &host.missing_features {
        findings.push(Finding::problem(
            "kernel-feature",
            format!("the kernel's netfilter cannot do what is needed: {feature}"),
            "load the module (modprobe), or use a distribution's own kernel",
        ));
    }
    match (&host.no_ebpf, host.config.mode) {
        (Some(why), ModeSetting::Ebpf) => findings.push(Finding::problem(
            "ebpf-unsupported",
            format!("`mode: ebpf` cannot work: {why}"),
            "leave `mode` out, so that nftables is used where eBPF does not work",
        )),
        (Some(why), ModeSetting::Auto) => findings.push(Finding::notice(
            "ebpf-unsupported",
            format!("eBPF cannot be used, so classic mode is: {why}"),
            "nothing has to be done; `mode: classic` says that it is known",
        )),
        _ => {}
    }
    findings.extend(conntrack(host));
    for (program, pid) in &host.others {
        findings.push(Finding::problem(
            "other-program",
            format!("{program} runs as well (process {pid}) and steers the same traffic"),
            format!(
                "stop {program}, and take out its rules: ip rule; iptables-save; nft list ruleset"
            ),
        ));
    }
    if host.has_our_rules && !host.running {
        findings.push(Finding::notice(
            "not-running",
            "rules of failover are in the kernel, and no daemon answers: nobody notices a dead uplink",
            "start it (systemctl start failover), or take everything out: failover clean",
        ));
    }
    findings
}

fn conntrack(host: &Host) -> Option<Finding> {
    let number = |key| host.setting(key)?.parse::<u64>().ok();
    let (max, count) = (number(CONNTRACK_MAX)?, number(CONNTRACK_COUNT)?);
    if max > 0 && count >= max / 10 * 9 {
        return Some(Finding::problem(
            "conntrack-full",
            format!(
                "connection tracking holds {count} of {max} entries: new connections are dropped"
            ),
            format!(
                "sysctl -w net.netfilter.nf_conntrack_max={}",
                max.saturating_mul(2)
            ),
        ));
    }
    let capacity = u64::from(host.config.flow_capacity);
    // Small machines track fewer connections than the table holds by default, and that is enough for them.
    let wants_more =
        host.config.flow_capacity > FLOW_CAPACITY && host.config.mode != ModeSetting::Classic;
    (wants_more && max < capacity).then(|| {
        Finding::notice(
            "conntrack-small",
            format!("connection tracking holds {max} entries, the flow table {capacity}"),
            format!(
                "sysctl -w net.netfilter.nf_conntrack_max={capacity}, or a smaller `flows.capacity`"
            ),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: &str, max: &str, capacity: u32) -> Vec<&'static str> {
        let mut host = Host::with(&format!(
            "uplinks: {{fiber: {{interface: wan1}}}}\nflows: {{capacity: {capacity}}}\n"
        ));
        for (key, value) in [(CONNTRACK_COUNT, count), (CONNTRACK_MAX, max)] {
            host.settings.insert(key.to_owned(), value.to_owned());
        }
        check(&host).iter().map(|finding| finding.id).collect()
    }

    #[test]
    fn connection_tracking_that_is_nearly_full_or_small() {
        assert_eq!(ids("240000", "262144", 262_144), ["conntrack-full"]);
        assert_eq!(ids("100", "65536", 262_144), [""; 0]);
        assert_eq!(ids("100", "262144", 1_000_000), ["conntrack-small"]);
        assert_eq!(ids("100", "1000000", 1_000_000), [""; 0]);
    }
}
