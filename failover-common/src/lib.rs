//! What the eBPF programs and the daemon share: the layout of the maps, and the few decisions that
//! both must make alike.
//!
//! Everything that is stored in a map is `repr(C)` without padding, so that every byte that crosses
//! the border between kernel and daemon is initialised. The daemon checks what it reads: an enum or
//! a `bool` of a foreign writer (`bpftool map update`) may hold anything.
#![no_std]

pub mod counters;
#[cfg(feature = "user")]
pub mod family;
pub mod fastpath;
pub mod flow;
pub mod gateway;
pub mod guard;
pub mod interface;
pub mod lifetime;
pub mod rules;
pub mod selection;
pub mod traffic;
pub mod uplink;

pub use counters::{Counters, Totals, UplinkCounters};
#[cfg(feature = "user")]
pub use fastpath::Pair;
pub use fastpath::{Direction, KeyWords, Lease, NextHop, Offer, OffloadKey, Side};
pub use flow::{Family, Flow, FlowKey, Phase, Reason};
pub use gateway::{Gateway, GatewayKey};
pub use guard::Guard;
pub use interface::{Interface, Role};
pub use selection::{Affinity, Remembered, RememberedKey, SLOTS, Selection, SelectionKey};
pub use traffic::{Connections, Liveness, Told, TrafficNews, UplinkConnections, UplinkLiveness};
pub use uplink::{Uplink, UplinkFamily, UplinkState};

/// The version of the layout of all maps. It goes up with every change that makes a pinned map of an
/// older daemon unreadable; aya itself takes a pinned map of another type or size in silence.
pub const LAYOUT_VERSION: u32 = 7;

/// The names of the maps, in the object and as files where they are pinned.
pub mod maps {
    /// [`FlowKey`](crate::FlowKey) to [`Flow`](crate::Flow), least recently used ones leave first.
    pub const FLOWS: &str = "flows";
    /// An uplink's id (`u32`) to [`Uplink`](crate::Uplink).
    pub const UPLINKS: &str = "uplinks";
    /// [`SelectionKey`](crate::SelectionKey) to [`Selection`](crate::Selection).
    pub const SELECTION: &str = "selection";
    /// [`RememberedKey`](crate::RememberedKey) to [`Remembered`](crate::Remembered), least recently used
    /// ones leave first.
    pub const REMEMBERED: &str = "remembered";
    /// An interface's index (`u32`) to [`Interface`](crate::Interface).
    pub const INTERFACES: &str = "interfaces";
    /// [`GatewayKey`](crate::GatewayKey) to [`Gateway`](crate::Gateway).
    pub const GATEWAYS: &str = "gateways";
    /// An uplink's id (`u32`) to [`UplinkCounters`](crate::UplinkCounters), per CPU.
    pub const COUNTERS: &str = "counters";
    /// 0 to [`Totals`](crate::Totals), per CPU.
    pub const TOTALS: &str = "totals";
    /// An uplink's id (`u32`) to [`UplinkLiveness`](crate::UplinkLiveness).
    pub const LIVENESS: &str = "liveness";
    /// An uplink's id (`u32`) to [`UplinkConnections`](crate::UplinkConnections), per CPU.
    pub const CONNECTIONS: &str = "connections";
    /// A ring of [`TrafficNews`](crate::TrafficNews). Not pinned: each daemon has its own.
    pub const TRAFFIC_NEWS: &str = "traffic_news";
    /// A table of [`Direction`](crate::Direction) by [`KeyWords`](crate::KeyWords::homes), which the
    /// daemon has in its memory too.
    pub const OFFLOAD: &str = "offload";
    /// [`FlowKey`](crate::FlowKey) of flows that are not for the fast path and need not be offered for
    /// the moment, to nothing.
    pub const REFUSED: &str = "refused";
    /// Slots of [`NextHop`](crate::NextHop), likewise.
    pub const NEXT_HOPS: &str = "next_hops";
    /// 0 to [`Lease`](crate::Lease), likewise.
    pub const LEASE: &str = "lease";
    /// 0 to [`Guard`](crate::Guard).
    pub const GUARD: &str = "guard";
    /// A ring of [`Offer`](crate::Offer). Not pinned: each daemon has its own.
    pub const OFFERS: &str = "offers";
    /// Ids go from 1 to 127.
    pub const UPLINK_CAPACITY: u32 = 127;
    /// Two families in the pool of all flows, and in one for each rule of both generations.
    pub const SELECTION_CAPACITY: u32 = 2 + 2 * 2 * super::rules::MOST_RULES as u32;
    /// The [`RuleSet`](crate::rules::RuleSet) that decides, under key 0.
    pub const RULE_SET: &str = "rule_set";
    /// A generation of rules to an array of [`Block`](crate::rules::Block).
    pub const CONDITIONS: &str = "conditions";
    /// A rule of a generation ([`action_index`](crate::rules::action_index)) to
    /// [`Action`](crate::rules::Action).
    pub const RULE_ACTIONS: &str = "rule_actions";
    /// One for each rule of each generation.
    pub const ACTION_CAPACITY: u32 = super::rules::GENERATIONS * super::rules::MOST_RULES as u32;
    /// Downlinks and uplinks together.
    pub const INTERFACE_CAPACITY: u32 = 1024;
    /// One gateway for each uplink and family.
    pub const GATEWAY_CAPACITY: u32 = 2 * UPLINK_CAPACITY;
    /// How many sources or pairs are remembered beside a flow table of so many entries: a quarter.
    #[must_use]
    pub const fn remembered_capacity(flows: u32) -> u32 {
        flows.div_ceil(4)
    }
    /// How many flows can take the fast path beside a flow table of so many entries: a quarter of them.
    #[must_use]
    pub const fn offload_capacity(flows: u32) -> u32 {
        flows.div_ceil(4)
    }
    /// How many places there are for the directions of so many flows: a power of two, of which no more
    /// than half are ever taken.
    #[must_use]
    pub const fn place_count(flows: u32) -> u32 {
        flows.saturating_mul(4).next_power_of_two()
    }
    /// How many flows may have directions in so many places.
    #[must_use]
    pub const fn place_capacity(places: u32) -> u32 {
        places / 4
    }
    /// How many flows are remembered that are not for the fast path.
    pub const REFUSED_CAPACITY: u32 = 65_536;
    /// How many new flows may wait for their first answer in a flow table of so many entries: a
    /// quarter.
    #[must_use]
    pub const fn unanswered_capacity(flows: u32) -> u32 {
        flows.div_ceil(4)
    }
    /// Neighbours that offloaded flows may have: behind a downlink may be thousands.
    pub const NEXT_HOP_CAPACITY: u32 = 16_384;
    /// The length of the ring of offers, in bytes: ten thousand offers and more.
    pub const OFFERS_CAPACITY: u32 = 1_048_576;
    /// The length of the ring in bytes: a power of two, and a multiple of a page of any processor.
    pub const TRAFFIC_NEWS_CAPACITY: u32 = 65_536;
    /// All that are pinned.
    pub const ALL: [&str; 18] = [
        FLOWS,
        UPLINKS,
        SELECTION,
        REMEMBERED,
        INTERFACES,
        GATEWAYS,
        COUNTERS,
        TOTALS,
        LIVENESS,
        CONNECTIONS,
        RULE_SET,
        CONDITIONS,
        RULE_ACTIONS,
        OFFLOAD,
        REFUSED,
        NEXT_HOPS,
        LEASE,
        GUARD,
    ];
}

/// The names of values that are fixed when the programs are loaded.
pub mod globals {
    /// Our bits of packet marks, `u32`.
    pub const MARK_MASK: &str = "MARK_MASK";
    /// How far an uplink's id is shifted into the mark, in bits, `u32`.
    pub const MARK_SHIFT: &str = "MARK_SHIFT";
    /// The bit of a mark that says "ask the connection first" on forwarded packets, `u32`.
    pub const MARK_ASK: &str = "MARK_ASK";
    /// How many new flows may wait for their first answer, `u32`.
    pub const UNANSWERED: &str = "UNANSWERED";
    /// How many places the fast path has for directions, less one, `u32`.
    pub const PLACE_MASK: &str = "PLACE_MASK";
    /// [`Offering::first`](crate::flow::Offering::first), `u8`.
    pub const FIRST_OFFER: &str = "FIRST_OFFER";
    /// [`Offering::next`](crate::flow::Offering::next), `u8`.
    pub const NEXT_OFFER: &str = "NEXT_OFFER";
    /// [`Offering::again_ns`](crate::flow::Offering::again_ns), `u64`.
    pub const OFFER_AGAIN_NS: &str = "OFFER_AGAIN_NS";
}
