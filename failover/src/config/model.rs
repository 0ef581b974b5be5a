//! What the configuration means, with every default filled in.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::Ipv6Net;
use serde::{Deserialize, Serialize};

use super::rule::RuleConfig;
use super::target::Target;
use crate::family::Family;
use crate::interface::InterfaceName;
use crate::load::Capacity;
use crate::mark::MarkMask;
use crate::notify::settings::Channels;
use crate::policy::{SetName, SetSource};
use crate::select::Strategies;
use crate::uplink::{UplinkId, UplinkName};

/// The whole configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The uplinks; at least one, at most as many as the mark mask can tell apart.
    pub uplinks: BTreeMap<UplinkName, UplinkConfig>,
    /// The interfaces behind which users are; may be empty.
    pub downlinks: BTreeSet<InterfaceName>,
    /// Sets of addresses that rules name.
    pub sets: BTreeMap<SetName, SetSource>,
    /// Which uplinks new flows may use, where not all; the first that a flow matches decides.
    pub rules: Vec<RuleConfig>,
    /// Where new flows are given their uplink.
    pub mode: ModeSetting,
    /// By what new flows are given to the uplinks of each priority.
    pub strategies: Strategies,
    /// What makes flows go together.
    pub affinity: Affinity,
    /// Whether TCP segments are kept as small as the uplinks that they pass.
    pub mss: Mss,
    /// Whether established flows may bypass routing and netfilter, in eBPF mode.
    pub fast_path: FastPathSetting,
    /// Entries of the flow table in eBPF mode, 1024 to 16777216.
    pub flow_capacity: u32,
    /// Who is told what happens.
    pub notify: Channels,
    /// Which bits of marks are ours.
    pub marks: MarkMask,
    /// The number of the table of the healthy set; an uplink's table is this plus its id.
    pub base_table: u32,
    /// The first preference of our `ip rule`s.
    pub rule_priority: u32,
    /// The control socket.
    pub control: PathBuf,
    /// Where ids, last states and remembered sysctls are kept.
    pub state_dir: PathBuf,
    /// Where maps and links are pinned.
    pub bpffs: PathBuf,
    /// Where the log goes.
    pub log: LogTo,
    /// Where keepalived is told how the uplinks stand.
    pub track_file: Option<PathBuf>,
}

/// Where the log goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LogTo {
    /// To the journal if standard error goes there, else to standard error.
    #[default]
    Auto,
    /// To standard error.
    Stderr,
    /// To the journal of systemd, with fields.
    Journal,
    /// To a file.
    File(LogFile),
}

/// A log file that is rotated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFile {
    /// The file.
    pub path: PathBuf,
    /// How large it may become, in bytes.
    pub size: u64,
    /// How many full ones are kept besides.
    pub keep: u32,
}

impl Config {
    /// The ids that the file gives, by name; `None` where it leaves that to us.
    #[must_use]
    pub fn given_ids(&self) -> BTreeMap<UplinkName, Option<UplinkId>> {
        self.uplinks
            .iter()
            .map(|(name, uplink)| (name.clone(), uplink.id))
            .collect()
    }

    /// Whether an uplink's gateways can be learnt where the file gives none: not on an interface
    /// that several uplinks share, since nothing tells whose a learnt gateway is. A family whose
    /// gateway is neither given nor learnt is absent there.
    #[must_use]
    pub fn learns_gateways(&self, uplink: &UplinkConfig) -> bool {
        self.uplinks
            .values()
            .filter(|other| other.interface == uplink.interface)
            .count()
            < 2
    }

    /// The interfaces that do not tell whose a packet is: those that several uplinks share, and those
    /// that are a downlink too. There, hardware addresses of gateways tell it.
    #[must_use]
    pub fn mixed_interfaces(&self) -> BTreeSet<InterfaceName> {
        self.uplinks
            .values()
            .filter(|uplink| {
                !self.learns_gateways(uplink) || self.downlinks.contains(&uplink.interface)
            })
            .map(|uplink| uplink.interface.clone())
            .collect()
    }
}

/// One uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkConfig {
    /// Its interface, which may not exist yet.
    pub interface: InterfaceName,
    /// Its id, where the file gives one.
    pub id: Option<UplinkId>,
    /// The IPv4 gateway; `None` is learnt.
    pub gateway: Option<Ipv4Addr>,
    /// The IPv6 gateway; `None` is learnt.
    pub gateway6: Option<Ipv6Addr>,
    /// The IPv4 source; `None` is the interface's own primary address.
    pub source: Option<Ipv4Addr>,
    /// The IPv6 source; `None` is the interface's own.
    pub source6: Option<Ipv6Addr>,
    /// The IPv4 address that moves between this router and another one, and to which flows are
    /// translated.
    pub virtual4: Option<Ipv4Addr>,
    /// The same for IPv6.
    pub virtual6: Option<Ipv6Addr>,
    /// Sources that are not translated on this uplink; `None` is the interface's own prefixes.
    pub prefixes6: Option<Vec<Ipv6Net>>,
    /// Share of new flows within the priority, 1 to 256 (the range of a multipath next hop's weight).
    pub weight: u16,
    /// Lower is preferred.
    pub priority: u32,
    /// Whether new outbound flows may choose it.
    pub new_flows: bool,
    /// Whether every byte is paid for: it is probed sparingly.
    pub metered: bool,
    /// What it can carry; without it, it is never full. The interface is its own where there is one.
    pub capacity: Option<Capacity>,
    /// Whether sources are translated.
    pub nat: Nat,
    /// What people call it.
    pub description: Option<String>,
    /// How it is probed.
    pub probe: ProbeConfig,
    /// What happens to its flows when it goes down.
    pub on_down: OnDown,
    /// What happens to its flows when a better uplink returns.
    pub on_up: OnUp,
}

impl UplinkConfig {
    /// The default of metered uplinks, in bytes: the default targets take 7.5 MB in a day of an uplink
    /// in use, at ten times the default interval. The rest is for doubts.
    const METERED: u64 = 10_000_000;

    /// The address of a family that moves between this router and another one.
    #[must_use]
    pub fn virtual_address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::Ipv4 => self.virtual4.map(IpAddr::V4),
            Family::Ipv6 => self.virtual6.map(IpAddr::V6),
        }
    }

    /// What its probes may take in a day, in bytes; `None`: whatever they take.
    #[must_use]
    pub const fn probe_budget(&self) -> Option<u64> {
        match (self.probe.budget, self.metered) {
            (Budget::Bytes(bytes), _) => Some(bytes),
            (Budget::Auto, true) => Some(Self::METERED),
            (Budget::Auto, false) | (Budget::None, _) => None,
        }
    }
}

/// Where new flows are given their uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModeSetting {
    /// eBPF where it works, else classic.
    Auto,
    /// eBPF or nothing.
    Ebpf,
    /// nftables and routes.
    Classic,
}

/// Whether sources are translated on an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nat {
    /// To the uplink's own address.
    Masquerade,
    /// Not at all, or by the user's own rules.
    None,
}

/// What makes flows go together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Affinity {
    /// Nothing: each flow on its own.
    #[default]
    Flow,
    /// The same source and destination. With a time, 1 s to 24 h: the uplink that they were given is
    /// remembered for so long after their last new flow.
    Pair(Option<Duration>),
    /// The same source, likewise.
    Source(Option<Duration>),
}

impl Affinity {
    /// For how long an uplink is remembered.
    #[must_use]
    pub const fn remembers(self) -> Option<Duration> {
        match self {
            Self::Flow => None,
            Self::Pair(time) | Self::Source(time) => time,
        }
    }
}

/// Whether TCP's maximum segment size is made to fit the uplinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mss {
    /// Where an uplink's MTU is smaller than that of other interfaces.
    Auto,
    /// Never.
    Off,
}

/// Whether flows may take the fast path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FastPathSetting {
    /// Those that can.
    #[default]
    Auto,
    /// None: routing and netfilter see each of their packets.
    Off,
}

/// What happens to the flows of an uplink that goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDown {
    /// They are forgotten, so that their next packet is a new flow elsewhere.
    Reset,
    /// Nothing.
    Keep,
}

/// What happens to the flows of an uplink when a better one returns. New flows go there at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUp {
    /// They stay where they are.
    Stay,
    /// They may finish within this time, 1 s to 24 h; those that are left then are treated as if the
    /// uplink went down.
    Drain(Duration),
    /// They are forgotten at once, so that their next packet is a new flow on the better uplink.
    Move,
}

/// How an uplink is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeConfig {
    /// Who is asked.
    pub targets: Vec<Target>,
    /// From one round to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Targets of a family that must answer for a round to count as good; where a family has fewer,
    /// all of them.
    pub required: u16,
    /// Bad rounds in a row until down.
    pub down_after: u16,
    /// Good rounds in a row until up again.
    pub up_after: u16,
    /// What is too bad to be preferred.
    pub quality: QualityLimits,
    /// For how long an uplink that fails again and again is held back at most when it answers again;
    /// zero: not at all.
    pub max_hold: Duration,
    /// Whether users' traffic is heeded beside probes.
    pub passive: Passive,
    /// What probes may take in a day.
    pub budget: Budget,
}

/// What the probes of an uplink may take in a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Budget {
    /// What is enough at the pace of metered uplinks, where every byte is paid for; whatever they
    /// take elsewhere.
    #[default]
    Auto,
    /// Whatever they take.
    None,
    /// So many bytes, 10 kB to 1000 GB.
    Bytes(u64),
}

/// Whether users' traffic is heeded beside probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passive {
    /// Where the programs see it.
    Auto,
    /// Nowhere.
    Off,
}

/// What is measured of answers, and what is too bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QualityLimits {
    /// Over which time, 1 s to 1 h.
    pub window: Duration,
    /// Probes without an answer.
    pub max_loss: Option<Band<Percent>>,
    /// The mean round-trip time.
    pub max_latency: Option<Band<Duration>>,
    /// The mean change of the round-trip time from one answer to the next.
    pub max_jitter: Option<Band<Duration>>,
}

impl QualityLimits {
    /// Whether anything is too bad.
    #[must_use]
    pub const fn has_limits(&self) -> bool {
        self.max_loss.is_some() || self.max_latency.is_some() || self.max_jitter.is_some()
    }
}

impl QualityLimits {
    /// Whether anything is limited.
    #[must_use]
    pub const fn any(&self) -> bool {
        self.max_loss.is_some() || self.max_latency.is_some() || self.max_jitter.is_some()
    }
}

/// A limit, and a lower one for what has exceeded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Band<T> {
    /// More than this is bad.
    pub above: T,
    /// What was bad is good again at this or less. Not more than `above`.
    pub back_at: T,
}

/// A share in tenths of a percent, 0 to 1000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Percent(u16);

impl Percent {
    /// 90 %.
    pub const NINE_TENTHS: Self = Self(900);

    /// A share from tenths of a percent; `None` above 1000.
    #[must_use]
    pub const fn from_tenths(tenths: u16) -> Option<Self> {
        if tenths <= 1000 {
            Some(Self(tenths))
        } else {
            None
        }
    }

    /// The same from 0.0 to 1.0.
    #[must_use]
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// Tenths of a percent.
    #[must_use]
    pub const fn tenths(self) -> u16 {
        self.0
    }
}
