//! What is compared: ways to forward a packet.

use std::fmt;

use clap::ValueEnum;
use failover::family::Family;
use serde::Serialize;

/// A gateway's way to forward packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Variant {
    /// Frames are dropped where the gateway would take them: what is taken off all others.
    #[value(skip)]
    Generator,
    /// Routing alone, by one uplink.
    Plain,
    /// One uplink and its translation.
    Masquerade,
    /// Three uplinks by routing alone, and translation.
    Multipath,
    /// Three uplinks by the connection mark, with nftables.
    NftablesConnmark,
    /// The rules of `fault_tolerant_router`.
    FaultTolerantRouter,
    /// Rules as mwan3 makes them.
    Mwan3,
    /// failover in classic mode.
    Classic,
    /// failover in eBPF mode, without the fast path.
    Ebpf,
    /// failover in eBPF mode, with the fast path.
    FastPath,
    /// The least that a TC program must do to steer: the limit without a fast path.
    Marking,
    /// The least that a TC program must do to forward: the limit.
    Minimal,
}

/// How many uplinks there are where somebody chooses among several.
pub const USUAL_UPLINKS: u8 = 3;

impl Variant {
    /// All, in the order in which they are shown and take turns.
    pub const ALL: [Self; 12] = [
        Self::Generator,
        Self::Plain,
        Self::Masquerade,
        Self::Multipath,
        Self::NftablesConnmark,
        Self::FaultTolerantRouter,
        Self::Mwan3,
        Self::Classic,
        Self::Ebpf,
        Self::FastPath,
        Self::Marking,
        Self::Minimal,
    ];

    /// How many uplinks its gateway has, if failover's variants have so many.
    pub(super) const fn uplinks(self, ours: u8) -> u8 {
        match self {
            Self::Generator | Self::Plain | Self::Masquerade => 1,
            _ if self.is_ours() => ours,
            _ => USUAL_UPLINKS,
        }
    }

    /// Whether it is there for a family.
    #[must_use]
    pub fn speaks(self, family: Family) -> bool {
        self != Self::FaultTolerantRouter || family == Family::Ipv4
    }

    /// Whether its flows are known to connection tracking.
    pub(super) const fn tracks(self) -> bool {
        !matches!(self, Self::Generator | Self::Plain | Self::Minimal)
    }

    /// Whether it is what others can come near to, and no gateway that anybody would use.
    pub(super) const fn is_limit(self) -> bool {
        matches!(self, Self::Marking | Self::Minimal)
    }

    /// Whether the daemon runs in it.
    pub(super) const fn is_ours(self) -> bool {
        matches!(self, Self::Classic | Self::Ebpf | Self::FastPath)
    }

    /// Whether any new flow and any packet that comes back is forwarded, and not only what the
    /// benchmark prepares.
    pub(super) const fn is_whole(self) -> bool {
        !matches!(self, Self::Generator | Self::Minimal)
    }
}

impl fmt::Display for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Generator => "generator alone",
            Self::Plain => "plain forwarding",
            Self::Masquerade => "masquerade, 1 uplink",
            Self::Multipath => "multipath + masquerade",
            Self::NftablesConnmark => "nftables connmark",
            Self::FaultTolerantRouter => "fault_tolerant_router",
            Self::Mwan3 => "mwan3-like",
            Self::Classic => "failover, classic",
            Self::Ebpf => "failover, eBPF",
            Self::FastPath => "failover, fast path",
            Self::Marking => "marking program (limit)",
            Self::Minimal => "minimal program (limit)",
        })
    }
}
