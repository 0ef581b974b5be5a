//! A flow as it is told. Fields may be added, never renamed.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::family::Family;
use crate::fastpath::standing::{self, Standing};
use crate::flows::Protocol;
use crate::uplink::{UplinkId, UplinkName};

/// What is said of flows where there is no fast path.
pub(super) const NO_FAST_PATH: &str = standing::Why::Off.word();

/// One element of what `failover flows --json` prints. Addresses and ports are those of packets on
/// the downlink's side: sources are not translated yet, port forwards are resolved already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowEntry {
    /// What it speaks.
    pub protocol: Protocol,
    /// The family of both addresses.
    pub family: Family,
    /// The address of the host behind the downlink, or of the router itself.
    pub inside: IpAddr,
    /// Its port, or the identifier of an ICMP echo; null where the protocol has neither.
    pub inside_port: Option<u16>,
    /// The address of the host beyond the uplink.
    pub outside: IpAddr,
    /// Its port; null for ICMP and where the protocol has none.
    pub outside_port: Option<u16>,
    /// The name of the uplink.
    pub uplink: UplinkName,
    /// The id of the uplink.
    pub uplink_id: UplinkId,
    /// Why this uplink.
    pub why: Why,
    /// How far the flow has come.
    pub phase: Phase,
    /// Packets came back by this uplink.
    pub confirmed: bool,
    /// Milliseconds since its first packet; null where the kernel does not note it.
    pub age_ms: Option<u64>,
    /// Milliseconds since its last packet; null where that cannot be told.
    pub idle_ms: Option<u64>,
    /// Packets from inside to outside; null where the kernel does not count them.
    pub out_packets: Option<u64>,
    /// Their bytes. In eBPF mode with the link-layer header where the interface has one, in classic
    /// mode without.
    pub out_bytes: Option<u64>,
    /// Packets from outside to inside.
    pub in_packets: Option<u64>,
    /// Their bytes, likewise.
    pub in_bytes: Option<u64>,
    /// Its packets take the fast path.
    pub offloaded: bool,
    /// Why they do not ([`standing::Why::word`]); null where they do.
    pub fastpath: Option<Cow<'static, str>>,
    /// What is in the way, where that word leaves it open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fastpath_detail: Option<String>,
}

impl FlowEntry {
    /// The same flow, which stands so to the fast path now, in nanoseconds of `CLOCK_MONOTONIC`.
    #[must_use]
    pub fn standing(self, standing: &Standing, now_ns: u64) -> Self {
        match standing {
            Standing::Offloaded(more) => {
                let idle_ms = now_ns.saturating_sub(more.seen_ns) / 1_000_000;
                let sum = |seen: Option<u64>, more: u64| Some(seen?.saturating_add(more));
                Self {
                    idle_ms: self.idle_ms.map(|known| known.min(idle_ms)),
                    out_packets: sum(self.out_packets, more.out.packets),
                    out_bytes: sum(self.out_bytes, more.out.bytes),
                    in_packets: sum(self.in_packets, more.back.packets),
                    in_bytes: sum(self.in_bytes, more.back.bytes),
                    offloaded: true,
                    fastpath: None,
                    fastpath_detail: None,
                    ..self
                }
            }
            Standing::Stack(why) => Self {
                offloaded: false,
                fastpath: Some(Cow::Borrowed(why.word())),
                fastpath_detail: why.detail().map(str::to_owned),
                ..self
            },
        }
    }

    /// Where its packets go, in a word or two.
    #[must_use]
    pub fn path(&self) -> Cow<'_, str> {
        match &self.fastpath {
            _ if self.offloaded => Cow::Borrowed("fast"),
            Some(word) if word.contains('_') => Cow::Owned(word.replace('_', " ")),
            Some(word) => Cow::Borrowed(word),
            None => Cow::Borrowed(NO_FAST_PATH),
        }
    }

    /// Whether there is a fast path that it could take.
    #[must_use]
    pub fn has_fast_path(&self) -> bool {
        self.offloaded || self.path() != NO_FAST_PATH
    }

    /// Bytes of both directions; `None` where they are not counted.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        Some(self.out_bytes?.saturating_add(self.in_bytes?))
    }
}

/// Why a flow is on its uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Why {
    /// Its hash chose a slot of the selection.
    Hash,
    /// A rule chose.
    Rule,
    /// It came in by this uplink.
    Inbound,
    /// Its packets came back by this uplink: it is older than its entry in the flow table.
    Restored,
}

impl Why {
    /// The word of the document.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hash => "hash",
            Self::Rule => "rule",
            Self::Inbound => "inbound",
            Self::Restored => "restored",
        }
    }
}

impl From<failover_common::Reason> for Why {
    fn from(reason: failover_common::Reason) -> Self {
        match reason {
            failover_common::Reason::Hash => Self::Hash,
            failover_common::Reason::Rule => Self::Rule,
            failover_common::Reason::Inbound => Self::Inbound,
            failover_common::Reason::Restored => Self::Restored,
        }
    }
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Packets were seen in one direction only.
    Opening,
    /// Packets were seen in both directions.
    Established,
    /// Its end was seen: a TCP FIN or RST.
    Closing,
}

impl Phase {
    /// The word of the document.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Opening => "opening",
            Self::Established => "established",
            Self::Closing => "closing",
        }
    }
}

impl From<failover_common::Phase> for Phase {
    fn from(phase: failover_common::Phase) -> Self {
        match phase {
            failover_common::Phase::Opening => Self::Opening,
            failover_common::Phase::Established => Self::Established,
            failover_common::Phase::Closing => Self::Closing,
        }
    }
}
