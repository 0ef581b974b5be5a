//! The state that the kernel should be in, computed whole, and its difference from what is there.
//!
//! [`routing`] has the values, [`tables`] and [`rules`] say which are wanted, `own_traffic` those of the
//! router's own packets, [`difference`] what to change; [`ruleset`] writes the own nftables table, [`sysctls`] the kernel settings, and [`dataplane`]
//! what the TC programs know. [`gateways`] says whose a packet is where the interface does not.

pub mod dataplane;
pub mod difference;
pub mod gateways;
pub mod narrow;
mod own_traffic;
pub mod routing;
pub mod rules;
pub mod ruleset;
pub mod sysctls;
pub mod tables;

#[cfg(test)]
pub(crate) mod fixture;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::Ipv6Net;

use crate::config::{Affinity, FastPathSetting, Nat};
use crate::discover::Path;
use crate::family::{Family, PerFamily};
use crate::interface::{InterfaceIndex, InterfaceName};
use crate::mark::MarkMask;
use crate::network::{LinkLayer, MacAddress};
use crate::policy::{Policy, RulePool};
use crate::select::Pool;
use crate::status::State;
use crate::uplink::UplinkId;
use dataplane::DataPlane;
use narrow::Narrow;
use routing::{Routing, TableId};

/// Everything that the wanted state follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Situation {
    /// Numbers that are ours.
    pub numbers: Numbers,
    /// The uplinks, by ascending id.
    pub uplinks: Vec<UplinkSituation>,
    /// The interfaces behind which users are.
    pub downlinks: Vec<InterfaceName>,
    /// All addresses of the router but loopback ones.
    pub own_addresses: BTreeSet<IpAddr>,
    /// Those of the interfaces above, and of the uplinks, that exist.
    pub links: BTreeMap<InterfaceName, LinkSituation>,
    /// The uplinks' interfaces for which TCP segments are made smaller.
    pub narrow: Narrow,
    /// What makes flows go together.
    pub affinity: Affinity,
    /// Whether established flows may bypass routing and netfilter.
    pub fast_path: FastPathSetting,
    /// Who new flows go to, by family.
    pub pools: PerFamily<Pool>,
    /// The user's rules.
    pub policy: Arc<Policy>,
    /// Who the flows of rules go to, by the position of their pool.
    pub rule_pools: Vec<RulePool>,
    /// Nobody gets new flows of this family, and `main` would send them by an uplink that is disabled
    /// by hand.
    pub closed: PerFamily<bool>,
    /// Who picks the uplink of a new flow.
    pub picked_by: PickedBy,
}

/// Marks, tables and preferences that the configuration reserves for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    /// Our bits of marks.
    pub marks: MarkMask,
    /// The table of the healthy set.
    pub base_table: u32,
    /// The first preference of our rules.
    pub rule_priority: u32,
}

impl Numbers {
    /// The table of one uplink.
    #[must_use]
    pub fn table(&self, id: UplinkId) -> TableId {
        TableId(self.base_table + u32::from(id.get()))
    }

    /// The table of the healthy set.
    #[must_use]
    pub const fn base(&self) -> TableId {
        TableId(self.base_table)
    }

    /// The table of a way that the router's own traffic goes by.
    #[must_use]
    pub fn way(&self, number: usize) -> TableId {
        self.behind_uplinks(number.saturating_mul(2))
    }

    /// The table that refuses what must not leave by a way.
    #[must_use]
    pub fn refusal(&self, number: usize) -> TableId {
        self.behind_uplinks(number.saturating_mul(2).saturating_add(1))
    }

    /// Tables behind those of uplinks, and never one of the kernel's own (253 to 255).
    fn behind_uplinks(&self, number: usize) -> TableId {
        let behind = self.base_table + u32::from(UplinkId::MAX) + 1;
        let table = behind.saturating_add(u32::try_from(number).unwrap_or(u32::MAX));
        TableId(if behind <= 255 && table >= 253 {
            table.saturating_add(3)
        } else {
            table
        })
    }
}

/// Who picks the uplink of a new flow from a downlink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PickedBy {
    /// The own nftables table (classic mode).
    Nftables,
    /// The TC programs (eBPF mode).
    Tc,
}

impl PickedBy {
    /// The mode, as the configuration and the status call it.
    #[must_use]
    pub const fn mode(self) -> &'static str {
        match self {
            Self::Nftables => "classic",
            Self::Tc => "ebpf",
        }
    }
}

/// One interface as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkSituation {
    /// The kernel's index.
    pub index: InterfaceIndex,
    /// What its packets begin with.
    pub layer: LinkLayer,
}

/// One uplink as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkSituation {
    /// Its id.
    pub id: UplinkId,
    /// Its interface.
    pub interface: InterfaceName,
    /// Whether sources are translated on it.
    pub nat: Nat,
    /// How packets leave, by family.
    pub paths: PerFamily<Option<Path>>,
    /// The hardware addresses of its gateways, by family, as far as they are known and needed.
    pub macs: PerFamily<Option<MacAddress>>,
    /// The metric of the default route of `main` that goes the same way, by family.
    pub main_metric: PerFamily<Option<u32>>,
    /// Its state, by family.
    pub states: PerFamily<State>,
    /// Whether the router's own traffic may be bound to it, by family.
    pub usable: PerFamily<bool>,
    /// The addresses of its interface, which are never translated.
    pub addresses: Vec<IpAddr>,
    /// What sources are translated to where it is not the uplink's own address, by family.
    pub translated_to: PerFamily<Option<IpAddr>>,
    /// IPv6 sources that are not translated.
    pub prefixes6: Vec<Ipv6Net>,
}

/// The wanted state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Routes and rules.
    pub routing: Routing,
    /// The own nftables table.
    pub ruleset: String,
    /// What the TC programs know, and where they hang.
    pub dataplane: DataPlane,
    /// The interfaces that must send no ICMP redirects: users and gateways are behind the same one,
    /// and a redirect would lead users past us.
    pub without_redirects: BTreeSet<InterfaceName>,
}

impl Situation {
    /// The state that the kernel should be in.
    #[must_use]
    pub fn wanted(&self) -> Wanted {
        Wanted {
            routing: Routing {
                routes: tables::routes(self),
                rules: rules::rules(self),
                exceptions: own_traffic::exceptions(self),
            },
            ruleset: ruleset::ruleset(self),
            dataplane: dataplane::data_plane(self),
            without_redirects: self.one_arms().cloned().collect(),
        }
    }

    fn uplink(&self, id: UplinkId) -> Option<&UplinkSituation> {
        self.uplinks.iter().find(|uplink| uplink.id == id)
    }

    /// Whether another uplink uses the same interface, so that the interface alone does not tell
    /// them apart.
    fn shares_interface(&self, uplink: &UplinkSituation) -> bool {
        self.uplinks
            .iter()
            .any(|other| other.id != uplink.id && other.interface == uplink.interface)
    }

    /// Whether another uplink of the same interface has the same address, too.
    fn shares_source(&self, uplink: &UplinkSituation, family: Family) -> bool {
        let source = |uplink: &UplinkSituation| uplink.path(family).map(|path| path.source);
        self.uplinks.iter().any(|other| {
            other.id != uplink.id
                && other.interface == uplink.interface
                && source(other).is_some()
                && source(other) == source(uplink)
        })
    }

    /// Whether users are behind an uplink's interface too.
    fn is_one_arm(&self, interface: &InterfaceName) -> bool {
        self.downlinks.contains(interface)
    }

    /// The interfaces that are uplink and downlink at once.
    fn one_arms(&self) -> impl Iterator<Item = &InterfaceName> {
        let names: BTreeSet<&InterfaceName> = self
            .uplinks
            .iter()
            .map(|uplink| &uplink.interface)
            .filter(|name| self.is_one_arm(name))
            .collect();
        names.into_iter()
    }

    /// Whether all that comes in by the uplink's interface is the uplink's, and all that leaves by it.
    fn has_own_interface(&self, uplink: &UplinkSituation) -> bool {
        !self.shares_interface(uplink) && !self.is_one_arm(&uplink.interface)
    }
}

impl UplinkSituation {
    /// Its path in one family.
    #[must_use]
    pub fn path(&self, family: Family) -> Option<&Path> {
        self.paths.get(family).as_ref()
    }
}
