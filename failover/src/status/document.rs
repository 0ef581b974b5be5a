//! The status document. Fields may be added, never renamed.

use std::net::IpAddr;
use std::time::Duration;

use failover_common::Connections;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::by_hand::ByHand;
use crate::family::Family;
use crate::fastpath::standing::FastPathStatus;
use crate::interface::InterfaceName;
use crate::load::Capacity;
use crate::network::Traffic;
use crate::policy::SetName;
use crate::uplink::{UplinkId, UplinkName};

/// Everything that `failover status --json` prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusDocument {
    /// `ebpf` or `classic`.
    pub mode: String,
    /// When the daemon began.
    pub since: Timestamp,
    /// What keeps the kernel from being in the wanted state, if anything does.
    pub problem: Option<String>,
    /// How full the flow table is; null in classic mode, and where it could not be read.
    pub flow_table: Option<FlowTableStatus>,
    /// How the fast path stands.
    #[serde(default)]
    pub fastpath: FastPathStatus,
    /// The uplinks, by ascending id.
    pub uplinks: Vec<UplinkStatus>,
    /// What is wrong with the files of sets: these are as they were when their files were good.
    #[serde(default)]
    pub broken_sets: Vec<BrokenSet>,
    /// How the channels of notifications fare.
    #[serde(default)]
    pub notify: Vec<ChannelStatus>,
}

/// A channel of notifications.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelStatus {
    /// Its name.
    pub name: String,
    /// `mail`, `mqtt`, `webhook` or `program`.
    pub kind: String,
    /// How many happenings wait to be told.
    pub waiting: u64,
    /// When something was delivered last; null where nothing was since the daemon began.
    pub last_delivery: Option<Timestamp>,
    /// Why the last attempt failed; null where it did not.
    pub problem: Option<String>,
}

/// A set whose file is broken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BrokenSet {
    /// Its name.
    pub name: SetName,
    /// What is wrong with the file.
    pub problem: String,
}

/// The flow table of the eBPF data path. What leaves it stays on its uplink all the same: connection
/// tracking knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FlowTableStatus {
    /// How many entries fit. The kernel begins to evict a little earlier, since each processor keeps
    /// some free ones.
    pub capacity: u64,
    /// Entries that are there.
    pub entries: u64,
    /// Those of them whose flows are alive.
    pub live: u64,
    /// Entries that were ever made in this table.
    pub entered: u64,
    /// Entries that were made and are gone: those that were used least recently, so that new ones
    /// fit. What somebody removes by hand counts too, since the kernel tells neither from the other;
    /// the daemon removes none. An entry that was made by hand hides an eviction, and a flow whose
    /// first packets are on two processors at once may count as entered twice.
    pub evicted: u64,
    /// Packets of flows that were not entered, since too many others waited for a first answer: they
    /// are on their uplink all the same, and entered when an answer comes.
    #[serde(default)]
    pub held_off: u64,
}

impl FlowTableStatus {
    /// What follows from counting. `entered` is to be read first: what is entered while the entries
    /// are counted is not to look like an eviction.
    #[must_use]
    pub const fn counted(capacity: u64, entered: u64, entries: u64, live: u64) -> Self {
        Self {
            capacity,
            entries,
            live,
            entered,
            evicted: entered.saturating_sub(entries),
            held_off: 0,
        }
    }
}

/// One uplink.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UplinkStatus {
    /// Its name.
    pub name: UplinkName,
    /// Its id.
    pub id: UplinkId,
    /// Its interface.
    pub interface: InterfaceName,
    /// What people call it; null where the configuration does not say.
    pub description: Option<String>,
    /// Share of new flows within its priority.
    pub weight: u16,
    /// Lower is preferred.
    pub priority: u32,
    /// The better of its families' states.
    pub state: State,
    /// Whether, in one family or both, old flows may finish while new ones go elsewhere.
    pub draining: bool,
    /// What somebody has done about it by hand; null where nobody has.
    #[serde(default)]
    pub by_hand: Option<ByHand>,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// Why it is in this state.
    pub reason: String,
    /// How it stands in IPv4.
    pub ipv4: FamilyStatus,
    /// How it stands in IPv6.
    pub ipv6: FamilyStatus,
    /// Live connection tracking entries; null where they could not be counted.
    pub flows: Option<u64>,
    /// What its probes took today (UTC), in bytes from the IP header on, out and in; null where it could
    /// not be read.
    #[serde(default)]
    pub probe_bytes_today: Option<u64>,
    /// What they may take in a day, in bytes; null where it is not limited.
    #[serde(default)]
    pub probe_budget_bytes: Option<u64>,
    /// What it can carry, in bits per second; null where the configuration does not say, and where no
    /// strategy wants to know.
    #[serde(default)]
    pub capacity: Option<Capacity>,
    /// What its interface receives, in bits per second over the last seconds; null where that is not
    /// measured, which it is where a strategy goes by it.
    #[serde(default)]
    pub rx_bits_per_s: Option<u64>,
    /// What its interface sends; as `rx_bits_per_s`.
    #[serde(default)]
    pub tx_bits_per_s: Option<u64>,
    /// Whether it is full by a strategy, so that new flows go elsewhere; null where no strategy goes by
    /// it.
    #[serde(default)]
    pub full: Option<bool>,
    /// Bytes received by its interface.
    pub rx_bytes: u64,
    /// Bytes sent by its interface.
    pub tx_bytes: u64,
    /// Packets received by its interface.
    pub rx_packets: u64,
    /// Packets sent by its interface.
    pub tx_packets: u64,
}

impl StatusDocument {
    /// An uplink by its name.
    #[must_use]
    pub fn uplink(&self, name: &str) -> Option<&UplinkStatus> {
        let mut uplinks = self.uplinks.iter();
        uplinks.find(|uplink| uplink.name.as_str() == name)
    }
}

impl UplinkStatus {
    /// How it stands in a family.
    #[must_use]
    pub const fn family(&self, family: Family) -> &FamilyStatus {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    /// Takes in the counters of its interface.
    pub const fn count(&mut self, traffic: &Traffic) {
        self.rx_bytes = traffic.rx_bytes;
        self.tx_bytes = traffic.tx_bytes;
        self.rx_packets = traffic.rx_packets;
        self.tx_packets = traffic.tx_packets;
    }
}

/// One uplink in one family.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FamilyStatus {
    /// Its state.
    pub state: State,
    /// Its next hop.
    pub gateway: Option<IpAddr>,
    /// Its source address.
    pub source: Option<IpAddr>,
    /// The fraction of new flows that it gets now, 0 to 1.
    pub share: f64,
    /// Smoothed round-trip time of probes in milliseconds.
    pub rtt_ms: Option<f64>,
    /// The mean change of the round-trip time from one answer to the next, in milliseconds.
    pub jitter_ms: Option<f64>,
    /// The fraction of probes lost, 0 to 1.
    pub loss: Option<f64>,
    /// Why it is in this state.
    pub reason: String,
    /// For how many seconds more it is held back if it goes on answering, since it failed again and
    /// again; null when it is not.
    pub held_back_s: Option<u64>,
    /// Targets without which it is judged, since their silence is their own fault.
    #[serde(default)]
    pub targets_aside: Vec<String>,
    /// Until when old flows may finish while new ones go elsewhere; null where they are not to end, or
    /// may take as long as they like.
    pub draining_until: Option<Timestamp>,
    /// How users' TCP connections through it fare; null in classic mode.
    #[serde(default)]
    pub connections: Option<ConnectionsStatus>,
}

/// How users' TCP connections through an uplink fare, since the maps of the programs were made: a
/// daemon that is started again goes on counting.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionsStatus {
    /// Connections that users began.
    pub opened: u64,
    /// Of these, those that were accepted.
    pub accepted: u64,
    /// Packets that users sent again.
    pub repeated: u64,
    /// Accepted connections of which it is known how long that took.
    pub timed: u64,
    /// How long it took from the first packet to its answer, in the mean of those, in milliseconds.
    pub handshake_ms: Option<f64>,
}

impl From<Connections> for ConnectionsStatus {
    fn from(counted: Connections) -> Self {
        let Connections {
            opened,
            accepted,
            repeated,
            timed,
            handshake_ns,
        } = counted;
        let mean = handshake_ns.checked_div(timed).map(Duration::from_nanos);
        Self {
            opened,
            accepted,
            repeated,
            timed,
            // Tenths: each single time is as coarse as a timer tick.
            handshake_ms: mean.map(|mean| (mean.as_secs_f64() * 10_000.0).round() / 10.0),
        }
    }
}

/// The state of an uplink, or of one of its families, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It answers.
    Up,
    /// It answers, badly.
    Degraded,
    /// No verdict yet.
    Unknown,
    /// It does not answer, or cannot carry packets.
    Down,
    /// Switched off by hand.
    Disabled,
    /// The family is not spoken.
    Absent,
}

impl State {
    /// The word of the document.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Unknown => "unknown",
            Self::Down => "down",
            Self::Disabled => "disabled",
            Self::Absent => "absent",
        }
    }
}

/// A share as it is told: the table has 1021 slots, so more than three digits mean nothing.
#[must_use]
pub fn round_share(share: f64) -> f64 {
    (share * 1000.0).round() / 1000.0
}
