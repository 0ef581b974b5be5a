//! How the gateway of each variant is set up.

use std::fmt::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use failover::family::Family;

use super::Variant;
use super::gateway::{fast_path, neighbours};
use crate::addressing::targets_in_yaml;
use crate::daemon::{Daemon, Failover};
use crate::error::LabError;
use crate::lab::Lab;
use crate::node::ProgramSpec;

const MASQUERADE: &str = include_str!("rules/masquerade.nft");
const CONNMARK: &str = include_str!("rules/connmark.nft");
const FAULT_TOLERANT_ROUTER: &str = include_str!("rules/fault_tolerant_router.iptables");
const MWAN3: &str = include_str!("rules/mwan3.iptables");

/// The client has no sockets for what comes back.
const NO_ANSWERS: &str = "table netdev nobody {
    chain drop_answers {
        type filter hook ingress device \"eth0\" priority 0; policy accept;
        ip saddr 192.0.2.0/24 drop
        ip6 saddr fd00:192::/32 drop
    }
}";

/// The daemon's usual flow table, and the largest that it takes.
const CAPACITY: (u32, u32) = (262_144, 16_777_216);

/// What all variants have in common.
pub(super) async fn prepare(lab: &Lab) -> Result<(), LabError> {
    let gateway = lab.gateway().node();
    for (key, value) in [
        // A network card has verified checksums already; frames of a packet socket are unverified.
        ("net/netfilter/nf_conntrack_checksum", "0"),
        // Flows stay until all variants have had their turns.
        ("net/netfilter/nf_conntrack_udp_timeout", "120"),
        ("net/netfilter/nf_conntrack_udp_timeout_stream", "600"),
        // Over several next hops go flows, not pairs of hosts.
        ("net/ipv4/fib_multipath_hash_policy", "1"),
        ("net/ipv6/fib_multipath_hash_policy", "1"),
    ] {
        gateway.set_sysctl(key, value).await?;
    }
    lab.client(1)?.node().nft(NO_ANSWERS).await?;
    neighbours(lab).await
}

/// Sets up a gateway without a daemon.
pub(super) async fn rules(variant: Variant, lab: &Lab) -> Result<(), LabError> {
    let gateway = lab.gateway().node();
    match variant {
        Variant::Masquerade => gateway.nft(MASQUERADE).await,
        Variant::Multipath => {
            multipath(lab).await?;
            gateway.nft(MASQUERADE).await
        }
        Variant::NftablesConnmark => {
            tables(lab, 1, 0xff).await?;
            gateway.nft(CONNMARK).await
        }
        Variant::Marking => {
            for family in Family::ALL {
                let connected = "rule add lookup main suppress_prefixlength 0 priority 2000\n";
                ip(lab, family, connected.to_owned()).await?;
            }
            tables(lab, 1, 0xff).await?;
            gateway.nft(MASQUERADE).await
        }
        Variant::FaultTolerantRouter => {
            tables(lab, 1, 0xff).await?;
            multipath(lab).await?;
            iptables(lab, Family::Ipv4, FAULT_TOLERANT_ROUTER).await
        }
        Variant::Mwan3 => {
            tables(lab, 0x100, 0x3f00).await?;
            // What came by an uplink, before the tables by mark.
            let from =
                |number| format!("rule add iif wan{number} lookup main priority 100{number}\n");
            let uplinks = lab.uplinks().iter();
            let from: String = uplinks.map(|uplink| from(uplink.number())).collect();
            for family in Family::ALL {
                ip(lab, family, from.clone()).await?;
            }
            iptables(lab, Family::Ipv4, MWAN3).await?;
            iptables(lab, Family::Ipv6, MWAN3).await
        }
        _ => Ok(()),
    }
}

/// One routing table for each uplink, found by a mark: the first uplink's, the second's is twice that.
async fn tables(lab: &Lab, first: u32, mask: u32) -> Result<(), LabError> {
    for family in Family::ALL {
        let mut batch = String::new();
        for uplink in lab.uplinks() {
            let (number, interface) = (uplink.number(), uplink.interface());
            let Some(next_hop) = uplink.next_hop(family) else {
                continue;
            };
            let (table, mark) = (100 + u32::from(number), first * u32::from(number));
            // Writing to a string does not fail.
            writeln!(
                batch,
                "route add default via {next_hop} dev {interface} table {table}\n\
                 rule add fwmark {mark:#x}/{mask:#x} lookup {table} priority {}",
                2000 + u32::from(number),
            )
            .ok();
        }
        ip(lab, family, batch).await?;
    }
    Ok(())
}

/// A default route over all uplinks, before those that are there.
async fn multipath(lab: &Lab) -> Result<(), LabError> {
    for family in Family::ALL {
        let mut line = String::from("route add default metric 1");
        for uplink in lab.uplinks() {
            if let Some(next_hop) = uplink.next_hop(family) {
                let interface = uplink.interface();
                // Writing to a string does not fail.
                write!(line, " nexthop via {next_hop} dev {interface} weight 1").ok();
            }
        }
        line.push('\n');
        ip(lab, family, line).await?;
    }
    Ok(())
}

async fn ip(lab: &Lab, family: Family, batch: String) -> Result<(), LabError> {
    let option = match family {
        Family::Ipv4 => "-4",
        Family::Ipv6 => "-6",
    };
    let spec = ProgramSpec::line(&format!("ip {option} -batch -")).input(batch);
    lab.gateway().node().must(spec).await.map(drop)
}

async fn iptables(lab: &Lab, family: Family, rules: &str) -> Result<(), LabError> {
    let mut rules = rules.to_owned();
    for uplink in lab.uplinks() {
        if let Some(address) = uplink.gateway_address(family) {
            let place = format!("@{}@", uplink.interface());
            rules = rules.replace(&place, &address.to_string());
        }
    }
    let (program, connected, multicast) = match family {
        Family::Ipv4 => ("iptables-legacy-restore", "198.18.0.0/16", "224.0.0.0/3"),
        Family::Ipv6 => ("ip6tables-legacy-restore", "fd00:18::/32", "ff00::/8"),
    };
    let rules = rules.replace("@connected@", connected);
    let rules = rules.replace("@multicast@", multicast);
    let spec = ProgramSpec::new(program).input(rules);
    lab.gateway().node().must(spec).await.map(drop)
}

/// How long a daemon has until its fast path is on.
const ON_WITHIN: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);

/// Starts the daemon of a variant, or says why it cannot be had. Its table has room for five times the
/// flows, of which a quarter is for those on the fast path.
pub(super) async fn daemon(
    variant: Variant,
    lab: &Lab,
    binary: Option<&Path>,
    flows: u32,
) -> Result<Result<Daemon, String>, LabError> {
    let (mode, fast_path_key) = match variant {
        Variant::Classic => ("classic", None),
        Variant::FastPath => ("ebpf", Some("fastpath: auto\n")),
        _ => ("ebpf", Some("fastpath: off\n")),
    };
    let mut base = format!("mode: {mode}\ndownlinks: [lan0]\nuplinks:\n");
    for uplink in lab.uplinks() {
        let (number, interface) = (uplink.number(), uplink.interface());
        // Writing to a string does not fail.
        writeln!(base, "  u{number}: {{interface: {interface}}}").ok();
    }
    let capacity = flows.saturating_mul(5).clamp(CAPACITY.0, CAPACITY.1);
    let targets = targets_in_yaml();
    base.push_str(&format!(
        "flows: {{capacity: {capacity}}}\nprobe: {{targets: {targets}, max_hold: 0s}}\n"
    ));
    let config = format!("{base}{}", fast_path_key.unwrap_or_default());
    let failover = Failover::chosen(lab, binary, &config)?;
    let check = failover.command("check").await?;
    if !check.status.success() {
        if variant == Variant::FastPath {
            let reason = check.stderr.lines().next().unwrap_or_default();
            return Ok(Err(format!("the program refuses its key: {reason}")));
        }
        failover.rewrite(&base)?;
    }
    // As it is installed, and not as talkative as in tests.
    let level = ("RUST_LOG", "failover=info");
    let run = failover.program("run").variable(level.0, level.1);
    let daemon = failover.run_as(run).await?;
    if variant == Variant::FastPath && !is_on(&daemon).await? {
        let reason = "the daemon says that its fast path is not on";
        return Ok(Err(reason.to_owned()));
    }
    Ok(Ok(daemon))
}

async fn is_on(daemon: &Daemon) -> Result<bool, LabError> {
    let began = Instant::now();
    while fast_path(daemon, "on").await? != true {
        if began.elapsed() > ON_WITHIN {
            return Ok(false);
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(true)
}
