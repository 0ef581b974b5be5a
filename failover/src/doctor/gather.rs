//! Looks at the host. Changes nothing, and says what it could not look at.

mod netfilter;
mod probing;
mod processes;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::facts::Host;
use super::settings::{FORWARDING4, FORWARDING6, accept_ra_key};
use super::system::{CONNTRACK_COUNT, CONNTRACK_MAX};
use crate::causes::in_one_line;
use crate::config::{Config, ModeSetting};
use crate::dataplane::ebpf::support::{self, Unsupported};
use crate::kernel::network::{NetworkObserver, ObserveError};
use crate::kernel::sysctl::ProcSys;
use crate::kernel::{Sysctls as _, foreign};
use crate::wanted::sysctls::{RP_FILTER_ALL, rp_filter_key};

/// Looks at everything that checks ask for.
///
/// # Errors
/// When not even interfaces and addresses can be read.
pub async fn gather(config: Config) -> Result<Host, ObserveError> {
    let view = NetworkObserver::open()?.view().await?;
    let mut host = Host {
        running: answers(&config.control),
        settings: settings(&config),
        others: processes::others(),
        view,
        config,
        rules: Vec::new(),
        routes: Vec::new(),
        has_our_rules: false,
        firewall: None,
        no_nft: None,
        missing_features: Vec::new(),
        no_ebpf: None,
        probes: Vec::new(),
        unseen: Vec::new(),
    };
    match foreign::read().await {
        Ok(foreign) => {
            host.rules = foreign.rules;
            host.routes = foreign.routes;
            host.has_our_rules = foreign.has_ours;
        }
        Err(error) => host.unseen.push(format!(
            "rules and routes of others: {}",
            in_one_line(&error)
        )),
    }
    netfilter::look(&mut host).await;
    if host.config.mode != ModeSetting::Classic {
        match support::check() {
            Ok(()) => {}
            Err(Unsupported::Capabilities) => {
                host.unseen.push("eBPF: that takes root".to_owned());
            }
            Err(error) => host.no_ebpf = Some(in_one_line(&error)),
        }
    }
    probing::probe(&mut host).await;
    Ok(host)
}

/// Whether a daemon listens; who may not ask it takes it that one does.
fn answers(control: &Path) -> bool {
    match UnixStream::connect(control) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::PermissionDenied,
    }
}

fn settings(config: &Config) -> BTreeMap<String, String> {
    let common = [
        FORWARDING4,
        FORWARDING6,
        RP_FILTER_ALL,
        CONNTRACK_MAX,
        CONNTRACK_COUNT,
    ];
    let of_uplinks = config.uplinks.values().flat_map(|uplink| {
        let interface = &uplink.interface;
        [
            rp_filter_key(interface),
            accept_ra_key(interface),
            format!("net/ipv6/conf/{interface}/forwarding"),
        ]
    });
    let settings = ProcSys::default();
    common
        .into_iter()
        .map(str::to_owned)
        .chain(of_uplinks)
        .filter_map(|key| {
            let value = settings.read(&key).ok().flatten()?;
            Some((key, value))
        })
        .collect()
}
