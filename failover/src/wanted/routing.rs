//! Routes and rules of ours, as values that can be compared.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::family::Family;
use crate::interface::InterfaceIndex;
use crate::policy::Prefixes;
pub use crate::policy::Selector;

/// The number that marks every route and rule of ours as ours (`RTA_PROTOCOL`, `FRA_PROTOCOL`), so
/// that they are found and removed whatever happened before. Not used by any routing daemon in
/// iproute2's `rt_protos`.
pub const PROTOCOL: u8 = 102;

/// The number of a routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

/// The default route of one of our tables. At most one exists per table and family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The table.
    pub table: TableId,
    /// The family.
    pub family: Family,
    /// Where to.
    pub to: To,
}

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum To {
    /// To routers.
    Hops {
        /// Never empty, more than one is a multipath route. Sorted.
        hops: Vec<NextHop>,
        /// The preferred source address; only on routes with one next hop.
        source: Option<IpAddr>,
    },
    /// Nowhere: who asks is told that it is not allowed (`prohibit`).
    Nowhere,
}

impl Route {
    /// The next hops; none where it leads nowhere.
    #[must_use]
    pub fn hops(&self) -> &[NextHop] {
        match &self.to {
            To::Hops { hops, .. } => hops,
            To::Nowhere => &[],
        }
    }

    /// The preferred source address.
    #[must_use]
    pub const fn source(&self) -> Option<IpAddr> {
        match self.to {
            To::Hops { source, .. } => source,
            To::Nowhere => None,
        }
    }
}

/// Destinations of which a table says that the next rule is to be asked (`throw`), by table.
pub type Exceptions = BTreeMap<(TableId, Family), Prefixes>;

/// One next hop of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHop {
    /// The interface.
    pub interface: InterfaceIndex,
    /// The gateway; none where the interface needs none.
    pub gateway: Option<IpAddr>,
    /// The gateway is reached on the link although no prefix says so.
    pub onlink: bool,
    /// Its share, 1 to 256, as `ip route` shows it; 1 where it is alone.
    pub weight: u16,
}

/// One `ip rule`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rule {
    /// The preference; lower is asked first.
    pub priority: u32,
    /// The family.
    pub family: Family,
    /// Whose packets.
    pub origin: Origin,
    /// Which of them.
    pub selector: Selector,
    /// What with them.
    pub action: Action,
}

/// Whose packets a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Everyone's.
    Any,
    /// The router's own (`iif lo`).
    Local,
    /// All but the router's own (`not iif lo`).
    Others,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Asks a table.
    Lookup(TableId),
    /// Asks a table for anything but its default route (`suppress_prefixlength 0`).
    LookupSpecific(TableId),
    /// Goes on with the rules of a higher preference; one must be there.
    Goto(u32),
    /// Nothing: the next rule is asked (`nop`). A place for others to lead to.
    Nothing,
    /// Says that there is no way.
    Unreachable,
}

/// The table `main`.
pub const MAIN: TableId = TableId(254);

/// The table `default`, which the kernel asks behind `main`.
pub const DEFAULT: TableId = TableId(253);

/// Routes and rules: wanted, or found with our protocol number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// The routes.
    pub routes: BTreeSet<Route>,
    /// The rules.
    pub rules: BTreeSet<Rule>,
    /// What tables have nothing to say about.
    pub exceptions: Exceptions,
}

/// One change, in the order in which it is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutingChange {
    /// Makes this the default route of its table and family, in place of whatever stands there, in
    /// one step.
    ReplaceRoute(Route),
    /// Takes the default route out of a table.
    DeleteRoute(Route),
    /// Has a table say nothing about these destinations.
    AddExceptions(TableId, Family, Vec<IpNet>),
    /// Has a table's default route say where these go, as it does for others.
    DeleteExceptions(TableId, Family, Vec<IpNet>),
    /// Adds a rule.
    AddRule(Rule),
    /// Takes a rule out.
    DeleteRule(Rule),
}

impl Routing {
    /// Makes a change as the kernel would.
    pub fn carry_out(&mut self, change: &RoutingChange) {
        let in_place = |route: &Route, place| (route.table, route.family) == place;
        match change {
            RoutingChange::ReplaceRoute(route) => {
                let place = (route.table, route.family);
                self.routes.retain(|old| !in_place(old, place));
                self.routes.insert(route.clone());
            }
            RoutingChange::DeleteRoute(route) => {
                let place = (route.table, route.family);
                self.routes.retain(|old| !in_place(old, place));
            }
            RoutingChange::AddExceptions(table, family, prefixes) => {
                let kept = self.exceptions.entry((*table, *family)).or_default();
                Arc::make_mut(kept).extend(prefixes);
            }
            RoutingChange::DeleteExceptions(table, family, prefixes) => {
                let place = (*table, *family);
                let Some(kept) = self.exceptions.get_mut(&place).map(Arc::make_mut) else {
                    return;
                };
                for prefix in prefixes {
                    kept.remove(prefix);
                }
                if kept.is_empty() {
                    self.exceptions.remove(&place);
                }
            }
            RoutingChange::AddRule(rule) => {
                self.rules.insert(rule.clone());
            }
            RoutingChange::DeleteRule(rule) => {
                self.rules.remove(rule);
            }
        }
    }
}
