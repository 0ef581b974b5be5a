//! What is known of a host when it is judged.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::firewall::Firewall;
use crate::config::{Config, Target};
use crate::family::Family;
use crate::interface::InterfaceIndex;
use crate::network::NetworkView;
use crate::uplink::UplinkName;

/// A host, as far as it could be looked at.
#[derive(Debug)]
pub struct Host {
    /// The configuration.
    pub config: Config,
    /// Whether a daemon answers at its control socket.
    pub running: bool,
    /// Links, addresses and the default routes of `main`.
    pub view: NetworkView,
    /// Kernel settings by their paths below `/proc/sys`; those that do not exist are left out.
    pub settings: BTreeMap<String, String>,
    /// Rules of others.
    pub rules: Vec<ForeignRule>,
    /// Routes of others outside of `main`.
    pub routes: Vec<ForeignRoute>,
    /// Whether rules of ours are in the kernel.
    pub has_our_rules: bool,
    /// Others' nftables and iptables rules; `None` where they could not be read.
    pub firewall: Option<Firewall>,
    /// Why `nft` cannot be used.
    pub no_nft: Option<String>,
    /// What the kernel's netfilter lacks.
    pub missing_features: Vec<&'static str>,
    /// Why eBPF cannot be used.
    pub no_ebpf: Option<String>,
    /// Other programs that steer, and their process ids.
    pub others: Vec<(String, u32)>,
    /// What came of a probe of each target.
    pub probes: Vec<Probed>,
    /// What could not be looked at, and why.
    pub unseen: Vec<String>,
}

/// What came of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// The uplink.
    pub uplink: UplinkName,
    /// The family.
    pub family: Family,
    /// Who was asked.
    pub target: Target,
    /// Why there was no answer; `None`: there was one.
    pub failure: Option<String>,
}

/// An `ip rule` of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignRule {
    /// The family.
    pub family: Family,
    /// The preference.
    pub priority: u32,
    /// The table that it asks, if it asks one.
    pub table: Option<u32>,
    /// The mark that packets must have, and in which bits.
    pub mark: Option<(u32, u32)>,
    /// It is for all other packets.
    pub inverted: bool,
    /// It looks at addresses, interfaces, ports or users.
    pub narrow: bool,
    /// It leaves out default routes.
    pub specific_only: bool,
}

/// A route of others in a table other than `main` and `local`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignRoute {
    /// The family.
    pub family: Family,
    /// The table.
    pub table: u32,
    /// It is one for everything that is reachable.
    pub is_default: bool,
    /// Where to; `None` for a default route.
    pub destination: Option<IpNet>,
    /// The interfaces that it leaves by.
    pub interfaces: Vec<InterfaceIndex>,
}

impl Host {
    /// A kernel setting.
    pub(super) fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(|value| value.trim())
    }

    /// The uplink whose interface an index is of.
    pub(super) fn uplink_at(&self, index: InterfaceIndex) -> Option<&UplinkName> {
        let (name, _) = self
            .view
            .links
            .iter()
            .find(|(_, link)| link.index == index)?;
        let mut uplinks = self.config.uplinks.iter();
        uplinks
            .find(|(_, uplink)| uplink.interface == *name)
            .map(|(uplink, _)| uplink)
    }

    /// What an interface is called.
    pub(super) fn name_of(&self, index: InterfaceIndex) -> String {
        self.view
            .links
            .iter()
            .find(|(_, link)| link.index == index)
            .map_or_else(
                || format!("interface {}", index.0),
                |(name, _)| name.to_string(),
            )
    }
}

#[cfg(test)]
impl Host {
    /// A host of which nothing but its configuration is known.
    pub(super) fn with(config: &str) -> Self {
        Self {
            config: crate::config::parse(config).unwrap(),
            running: false,
            view: NetworkView::default(),
            settings: BTreeMap::new(),
            rules: Vec::new(),
            routes: Vec::new(),
            has_our_rules: false,
            firewall: None,
            no_nft: None,
            missing_features: Vec::new(),
            no_ebpf: None,
            others: Vec::new(),
            probes: Vec::new(),
            unseen: Vec::new(),
        }
    }
}
