//! Routes and rules of ours, as values that can be compared.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::family::Family;
use crate::interface::InterfaceIndex;

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
    /// Where to; never empty, more than one is a multipath route. Sorted.
    pub hops: Vec<NextHop>,
    /// The preferred source address; only on routes with one next hop.
    pub source: Option<IpAddr>,
}

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
}

/// Which packets a rule is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Selector {
    /// All.
    All,
    /// Those whose mark has `value` under `mask`.
    Mark {
        /// The value.
        value: u32,
        /// The bits that count.
        mask: u32,
    },
    /// Those from one address.
    From(IpAddr),
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// Asks a table.
    Lookup(TableId),
    /// Asks a table for anything but its default route (`suppress_prefixlength 0`).
    LookupSpecific(TableId),
    /// Says that there is no way.
    Unreachable,
}

/// The table `main`.
pub const MAIN: TableId = TableId(254);

/// Routes and rules: wanted, or found with our protocol number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routing {
    /// The routes.
    pub routes: BTreeSet<Route>,
    /// The rules.
    pub rules: BTreeSet<Rule>,
}

/// One change, in the order in which it is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoutingChange {
    /// Makes this the default route of its table and family, in place of whatever stands there, in
    /// one step.
    ReplaceRoute(Route),
    /// Takes the default route out of a table.
    DeleteRoute(Route),
    /// Adds a rule.
    AddRule(Rule),
    /// Takes a rule out.
    DeleteRule(Rule),
}
