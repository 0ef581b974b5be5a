//! Others' nftables and iptables rules, and what netfilter can do here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::super::facts::Host;
use super::super::firewall::Firewall;
use crate::causes::in_one_line;
use crate::kernel::capabilities::{self, Capability};
use crate::kernel::nftables::{Nft, NftError};

/// How long a listing may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the table of the daemon uses, each by itself, as a chain that is checked and not kept.
const FEATURES: [(&str, &str); 5] = [
    (
        "connection marks (nft_ct, nf_conntrack)",
        "type filter hook prerouting priority mangle; meta mark set ct mark",
    ),
    (
        "translation (nft_masq, nft_chain_nat)",
        "type nat hook postrouting priority srcnat; masquerade",
    ),
    (
        "choosing by hash (nft_hash)",
        "type filter hook prerouting priority mangle; meta mark set jhash ip saddr mod 2",
    ),
    (
        "the kernel's own answer about a way (nft_fib_inet)",
        "type filter hook prerouting priority mangle; fib daddr oif 1",
    ),
    (
        "resets (nft_reject_inet)",
        "type filter hook forward priority filter; meta l4proto tcp reject with tcp reset",
    ),
];

pub(super) async fn look(host: &mut Host) {
    let nft = match Nft::find() {
        Ok(nft) => nft,
        Err(error) => {
            host.no_nft = Some(in_one_line(&error));
            return;
        }
    };
    if capabilities::require(&[Capability::NetAdmin]).is_err() {
        host.unseen.push(
            "nftables and iptables rules, and what netfilter can do: that takes root".to_owned(),
        );
        return;
    }
    match nft.everything().await {
        Ok(listing) => {
            let mut firewall = Firewall::default();
            firewall.add_nftables(&listing);
            for (names, program) in [
                ("/proc/net/ip_tables_names", "iptables"),
                ("/proc/net/ip6_tables_names", "ip6tables"),
            ] {
                if let Some(rules) = legacy(names, program).await {
                    firewall.add_iptables(&rules);
                }
            }
            host.firewall = Some(firewall);
        }
        Err(error) => host
            .unseen
            .push(format!("nftables rules: {}", in_one_line(&error))),
    }
    let all: Vec<&str> = FEATURES.iter().map(|(_, rule)| *rule).collect();
    if is_possible(&nft, &all).await.is_ok() {
        return;
    }
    for (feature, rule) in FEATURES {
        if let Err(NftError::Refused { .. }) = is_possible(&nft, &[rule]).await {
            host.missing_features.push(feature);
        }
    }
}

/// Whether the kernel would take chains with these rules.
async fn is_possible(nft: &Nft, rules: &[&str]) -> Result<(), NftError> {
    let chains: Vec<String> = (0..)
        .zip(rules)
        .map(|(number, rule)| format!("chain c{number} {{ {rule}; }}"))
        .collect();
    let table = format!("table inet failover_doctor {{\n{}\n}}\n", chains.join("\n"));
    nft.check(&table).await
}

/// The rules of the older iptables. It is asked only where it has tables: it makes them otherwise.
async fn legacy(names: &str, program: &str) -> Option<String> {
    if fs::read_to_string(names).ok()?.trim().is_empty() {
        return None;
    }
    let folders = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"];
    let programs = [format!("{program}-legacy-save"), format!("{program}-save")];
    let found: PathBuf = programs
        .iter()
        .flat_map(|program| folders.map(|folder| Path::new(folder).join(program)))
        .find(|path| path.is_file())?;
    let output = Command::new(found)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(PATIENCE, output).await.ok()?.ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}
