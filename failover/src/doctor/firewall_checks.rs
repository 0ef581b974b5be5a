//! What others' firewalls do that keeps steering from working.

use super::Finding;
use super::facts::Host;
use super::firewall::{Chain, Firewall};

pub(super) fn check(host: &Host) -> Vec<Finding> {
    let Some(firewall) = &host.firewall else {
        return Vec::new();
    };
    let mut findings = offload(host, firewall);
    findings.extend(reverse_path(firewall));
    if !host.config.downlinks.is_empty() {
        findings.extend(firewall.chains.iter().filter_map(dropped));
    }
    findings
}

/// Packets of offloaded connections meet neither our programs nor our table after the first few, and
/// go on by a dead uplink.
fn offload(host: &Host, firewall: &Firewall) -> Vec<Finding> {
    let is_ours = |device: &str| {
        let downlink = host
            .config
            .downlinks
            .iter()
            .any(|name| name.as_str() == device);
        let mut uplinks = host.config.uplinks.values();
        downlink || uplinks.any(|uplink| uplink.interface.as_str() == device)
    };
    let mut findings = Vec::new();
    for flowtable in &firewall.flowtables {
        let ours: Vec<&str> = flowtable
            .devices
            .iter()
            .map(String::as_str)
            .filter(|device| is_ours(device))
            .collect();
        if !ours.is_empty() {
            findings.push(Finding::problem(
                "flow-offload",
                format!(
                    "the flowtable {} of table {} takes flows of {} past failover: they go on by an \
                     uplink that is dead",
                    flowtable.name,
                    flowtable.table,
                    ours.join(", ")
                ),
                "take these interfaces out of the flowtable (on OpenWrt: flow_offloading '0' in \
                 /etc/config/firewall)",
            ));
        }
    }
    for (chain, rule) in firewall.rules() {
        if rule.contains("FLOWOFFLOAD") {
            findings.push(Finding::problem(
                "flow-offload",
                format!("{}: `{rule}` takes flows past failover", place(chain)),
                "take the rule out (on OpenWrt: flow_offloading '0' in /etc/config/firewall)",
            ));
        }
    }
    findings
}

/// A firewall that drops what comes in by another way than the answer would take.
fn reverse_path(firewall: &Firewall) -> Vec<Finding> {
    firewall
        .rules()
        .filter(|(_, rule)| {
            let nft = rule.contains("fib saddr")
                && rule.contains("iif")
                && rule.contains("drop")
                && (rule.contains("missing")
                    || rule.contains("oif 0")
                    || rule.contains("oif eq 0"));
            let iptables = rule.contains("-m rpfilter") && !rule.contains("--loose");
            nft || (iptables && rule.contains("--invert"))
        })
        .map(|(chain, rule)| {
            let finding = Finding::problem(
                "rp-filter-firewall",
                format!(
                    "{}: `{rule}` drops answers that come in by another uplink than main's",
                    place(chain)
                ),
                "make the check loose, or take it out (firewalld: IPv6_rpfilter=loose in \
                 firewalld.conf; nftables: `fib saddr oif missing drop`)",
            );
            // In eBPF mode packets have their uplink's mark by then, and so the right answer.
            if rule.contains("mark") {
                finding.softened("; in eBPF mode it does not, since it looks at the mark")
            } else {
                finding
            }
        })
        .collect()
}

/// A chain that drops all that is forwarded.
fn dropped(chain: &Chain) -> Option<Finding> {
    let lets_through = chain.rules.iter().any(|rule| {
        [
            "accept", "ACCEPT", "jump", "goto", "vmap", "-j ", "-g ", "queue",
        ]
        .iter()
        .any(|word| rule.contains(word))
    });
    (chain.drops && chain.hook.as_deref() == Some("forward") && !lets_through).then(|| {
        Finding::notice(
            "forward-dropped",
            format!(
                "{} drops all that is forwarded: users reach nothing",
                place(chain)
            ),
            "accept there what comes from the downlinks, and `ct state established,related`",
        )
    })
}

fn place(chain: &Chain) -> String {
    format!("table {}, chain {}", chain.table, chain.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firewall(listing: &str) -> Firewall {
        let mut firewall = Firewall::default();
        firewall.add_nftables(listing);
        firewall
    }

    #[test]
    fn offload_of_our_interfaces_and_of_others() {
        let host = Host::with("uplinks: {fiber: {interface: wan1}}\ndownlinks: [lan0]\n");
        let flowtable = |devices: &str| {
            firewall(&format!(
                "table inet fw {{\n flowtable fast {{\n devices = {{ {devices} }}\n }}\n}}\n"
            ))
        };
        let found = offload(&host, &flowtable("lan0, wan1"));
        assert!(
            matches!(found.as_slice(), [only] if only.id == "flow-offload" && only.found.contains("lan0, wan1"))
        );
        assert_eq!(offload(&host, &flowtable("eth7, eth8")), []);
        let mut iptables = Firewall::default();
        iptables
            .add_iptables("*filter\n:FORWARD ACCEPT [0:0]\n-A FORWARD -j FLOWOFFLOAD\nCOMMIT\n");
        assert_eq!(offload(&host, &iptables).len(), 1);
    }

    #[test]
    fn strict_reverse_path_checks_and_loose_ones() {
        for (rule, found) in [
            (
                "meta nfproto ipv6 fib saddr . mark . iif oif missing drop",
                1,
            ),
            ("fib saddr . iif oif 0 drop", 1),
            ("fib saddr oif missing drop", 0),
            ("fib daddr type local accept", 0),
        ] {
            let listing = format!("table inet fw {{\n chain a {{\n {rule}\n }}\n}}\n");
            assert_eq!(reverse_path(&firewall(&listing)).len(), found, "{rule}");
        }
    }

    #[test]
    fn a_chain_that_lets_something_through_is_left_alone() {
        let chain = |rule: &str| {
            firewall(&format!(
                "table inet fw {{\n chain f {{\n type filter hook forward priority 0; policy drop;\n\
                 {rule}\n }}\n}}\n"
            ))
        };
        let found = |rule| chain(rule).chains.iter().filter_map(dropped).count();
        assert_eq!(found("counter"), 1);
        assert_eq!(found("iifname lan0 accept"), 0);
        assert_eq!(found("jump users"), 0);
    }
}
