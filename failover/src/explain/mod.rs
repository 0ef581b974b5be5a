//! Why a flow goes where it goes: what `failover explain` asks, and what it is answered.
//!
//! Fields may be added, never renamed.

mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

pub use table::table;

use crate::flows::{FlowEntry, Protocol};
use crate::interface::InterfaceName;
use crate::network::MacAddress;
use crate::policy::Dscp;
use crate::uplink::UplinkName;

/// The flow that is asked for, by its first packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// Where it comes from.
    pub source: IpAddr,
    /// The port that it comes from, or the identifier of an echo; without it, any.
    pub source_port: Option<u16>,
    /// Where it goes; of the same family.
    pub destination: IpAddr,
    /// The port that it goes to; null where the protocol has none.
    pub port: Option<u16>,
    /// What it speaks.
    pub protocol: Protocol,
    /// The downlink that it comes in by; none for one of the host's own.
    pub interface: Option<InterfaceName>,
    /// It is one of the host's own: the source is what its socket is bound to, or unspecified.
    #[serde(default)]
    pub own: bool,
    /// Its code point.
    pub dscp: Dscp,
    /// Its mark.
    pub mark: u32,
    /// The hardware address that it comes from.
    pub mac: Option<MacAddress>,
}

/// The whole answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// What was asked, with the downlink that was found.
    pub question: Question,
    /// `ebpf` or `classic`.
    pub mode: String,
    /// Where the flow's next packet goes.
    pub fate: Fate,
    /// What decides that.
    pub decided_by: Decider,
    /// What the programs' flow table holds for it; null where nothing, and in classic mode.
    pub flow_table: Option<FlowEntry>,
    /// What connection tracking holds for it; null where nothing.
    pub conntrack: Option<TrackedAs>,
    /// Where the kernel sends what nobody steers.
    pub route: RouteAnswer,
    /// Where it would go if it began now, were nothing remembered.
    pub new_flow: Choice,
    /// What is remembered in the pool that a new flow has; it decides as long as the uplink is one of
    /// the pool's members. Null where nothing is.
    #[serde(default)]
    pub remembered: Option<Remembered>,
    /// Where it would go if single uplinks were down, by their names.
    pub without: BTreeMap<UplinkName, Fate>,
}

/// Where a flow goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// By this uplink.
    Uplink(UplinkName),
    /// By one of these, each with its share: which one, the port that it comes from would tell.
    OneOf(BTreeMap<UplinkName, f64>),
    /// Nowhere: its rule lets no usable uplink carry it.
    Dropped,
    /// Where the kernel's routes send it, by no choice of ours.
    Routed,
}

/// What decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decider {
    /// The programs' flow table.
    FlowTable,
    /// The connection's mark.
    Conntrack,
    /// The kernel's routes.
    Routes,
    /// A rule.
    Rule,
    /// The pool of all flows that no rule names.
    Pool,
    /// What is remembered of its source, or of its source and destination.
    Memory,
    /// The address that its socket, one of the host's own, is bound to.
    Bound,
}

/// The uplink that a source, or a source and a destination, was given in a pool.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remembered {
    /// The uplink.
    pub uplink: UplinkName,
    /// For how many seconds more, if no new flow begins.
    pub seconds_left: f64,
}

/// What connection tracking holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackedAs {
    /// The uplink whose mark the connection has; null where it has none's.
    pub uplink: Option<UplinkName>,
    /// The connection's whole mark.
    pub mark: u32,
    /// How far it has come: `opening`, `established` or `closing`.
    pub phase: crate::flows::Phase,
    /// Where its answers go: the address to which it is translated.
    pub translated_to: IpAddr,
}

/// What the kernel says where a packet goes that nobody marked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteAnswer {
    /// The interface that it leaves by.
    pub interface: Option<InterfaceName>,
    /// It is an uplink's, so that we choose.
    pub is_uplink: bool,
    /// Why there is no answer.
    pub problem: Option<String>,
}

/// What is chosen for a new flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Choice {
    /// The rule that it matches; null where none does.
    pub rule: Option<MatchedRule>,
    /// The uplinks that it is spread over.
    pub pool: ChosenPool,
    /// Its slot in the pool's table; null where the port that it comes from would have to be known,
    /// and where the pool is empty.
    pub slot: Option<u16>,
    /// Where it goes.
    pub fate: Fate,
}

/// A rule that is matched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MatchedRule {
    /// Its name.
    pub name: String,
    /// Its position, from 1.
    pub position: usize,
    /// The line in the configuration at which it begins.
    pub line: u64,
    /// Its uplinks, as the configuration writes them.
    pub via: String,
    /// One of its uplinks is usable.
    pub usable: bool,
}

/// The pool of a flow.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChosenPool {
    /// It is the pool of a rule; otherwise that of all flows.
    pub of_rule: bool,
    /// Why its members are: `up`, `degraded`, `unproven`, `last_resort` or `nothing`.
    pub tier: String,
    /// The priority of its members; null for a rule's.
    pub priority: Option<u32>,
    /// By what its members were chosen: `weight`, `least_latency` or, with its share, `overflow 80%`.
    pub strategy: String,
    /// Its members with their weights.
    pub members: BTreeMap<UplinkName, u16>,
    /// Uplinks that are passed over since they are full; where all are, all of them, and the members
    /// are chosen by weight.
    #[serde(default)]
    pub full: BTreeSet<UplinkName>,
    /// What goes together: `flow`, `pair` or `source`, or with the time for which it is remembered
    /// `{source: 10m}`.
    pub affinity: String,
}
