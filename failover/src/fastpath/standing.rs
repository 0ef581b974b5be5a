//! How flows stand to the fast path, for those who ask.

use std::fmt;

use failover_common::{Counters, Flow, FlowKey};
use serde::{Deserialize, Serialize};

/// How a flow stands to the fast path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It takes it.
    Offloaded(Uncounted),
    /// Its packets pass routing and netfilter.
    Stack(Why),
}

/// What moved by the fast path and is not counted with the flow's own entry yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uncounted {
    /// From users.
    pub out: Counters,
    /// To users.
    pub back: Counters,
    /// When a packet last took it, in nanoseconds of `CLOCK_MONOTONIC`, up to a second ago; 0 for none.
    pub seen_ns: u64,
}

/// Why a flow does not take the fast path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// `fastpath: off`, or a mode without it.
    Off,
    /// A rule says `fastpath: off`.
    Rule,
    /// Neither TCP nor UDP.
    Protocol,
    /// It has not had enough packets, or was not answered long enough.
    Young,
    /// It ends.
    Ending,
    /// It was silent for a while.
    Idle,
    /// It is older than the daemon, and the kernel would not tell when its entry is deleted.
    Old,
    /// Connection tracking does not know it, or knows it on another uplink.
    Untracked,
    /// A connection tracking helper reads its packets.
    Helper,
    /// Connection tracking shifts its sequence numbers, or answered its handshake.
    Shifted,
    /// Connection tracking would forget it too soon.
    ShortLived,
    /// There are IPsec policies.
    Ipsec,
    /// One of its interfaces has no Ethernet header.
    NoEthernet,
    /// The kernel sends its packets by no single way.
    NoWay,
    /// The hardware address of the next hop is not known.
    NoNeighbour,
    /// Programs or filters of others are in the way: what and where.
    Filtered(String),
    /// There is no room.
    Full,
    /// It has not been looked at yet, or not long enough ago to be looked at again.
    Waiting,
    /// The fast path does not work just now: what is wrong.
    Broken(String),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Off => "off",
            Self::Rule => "a rule says so",
            Self::Protocol => "not TCP or UDP",
            Self::Young => "few packets so far",
            Self::Ending => "ending",
            Self::Idle => "silent",
            Self::Old => "older than the daemon",
            Self::Untracked => "not in connection tracking",
            Self::Helper => "a conntrack helper reads it",
            Self::Shifted => "its sequence numbers are shifted",
            Self::ShortLived => "its timeout is short",
            Self::Ipsec => "there are IPsec policies",
            Self::NoEthernet => "an interface without Ethernet header",
            Self::NoWay => "no single route",
            Self::NoNeighbour => "next hop unknown",
            Self::Full => "the fast path is full",
            Self::Waiting => "waiting",
            Self::Filtered(what) => return write!(f, "{what}"),
            Self::Broken(what) => return write!(f, "{what}"),
        })
    }
}

/// How the fast path stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FastPathStatus {
    /// Whether flows are taken.
    pub on: bool,
    /// Why not, where they are not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Flows that take it now.
    pub flows: u64,
    /// For how many there is room.
    pub capacity: u64,
    /// What the programs counted.
    #[serde(default)]
    pub counted: OfferCounts,
}

/// What the programs counted since their maps were made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfferCounts {
    /// How often a flow was offered to the daemon.
    pub offered: u64,
    /// How often there was no room for that; such a flow is offered again.
    pub unheard: u64,
    /// Packets of flows that take it which the stack had to see.
    pub returned: u64,
}

/// Who knows how flows stand, and can send all of them back to the stack. All of it may block for some
/// milliseconds.
pub trait FastPath: fmt::Debug + Send + Sync {
    /// How a flow of the flow table stands.
    fn standing(&self, key: &FlowKey, flow: &Flow) -> Standing;

    /// How the fast path stands.
    fn status(&self) -> FastPathStatus;

    /// Sends all flows back to the stack; returns how many took it.
    ///
    /// # Errors
    /// When that could not be done, what was in the way.
    fn flush(&self) -> Result<u64, String>;
}
