//! The flow table: one entry per flow, keyed as its packets look on the downlink's side.

#[cfg(feature = "user")]
use bytemuck::{CheckedBitPattern, NoUninit};

/// An address family, by its IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    Ipv4 = 4,
    /// IPv6.
    Ipv6 = 6,
}

/// What makes a flow: addresses and ports as packets carry them on a downlink, where sources are not
/// translated yet and port forwards are resolved already. Aligned, so that the programs write and
/// hash addresses by words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C, align(8))]
pub struct FlowKey {
    /// The address of the host behind the downlink; an IPv4 address stands in the first four bytes,
    /// the others are zero.
    pub inside: [u8; 16],
    /// The address of the host beyond the uplink, likewise.
    pub outside: [u8; 16],
    /// The port of the inside host; for an ICMP echo its identifier; 0 where the protocol has none.
    pub inside_port: u16,
    /// The port of the outside host; 0 for ICMP and where the protocol has none.
    pub outside_port: u16,
    /// The IP protocol number (IANA), for IPv6 that behind the extension headers.
    pub protocol: u8,
    /// The family of both addresses.
    pub family: Family,
    /// Zero.
    pub reserved: [u8; 2],
}

/// Why a flow is on its uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(u8)]
pub enum Reason {
    /// Its hash chose a slot of the selection.
    Hash = 1,
    /// A rule chose.
    Rule = 2,
    /// It came in by this uplink.
    Inbound = 3,
    /// Its packets came back by this uplink: it is older than its entry, or connection tracking knew
    /// better than the selection.
    Restored = 4,
}

/// How far a flow has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(u8)]
pub enum Phase {
    /// Packets were seen in one direction only.
    Opening = 1,
    /// Packets were seen in both directions.
    Established = 2,
    /// A TCP FIN or RST was seen.
    Closing = 3,
}

/// A flow, in three parts: what both directions read and nobody writes at packet rate, what is written
/// for packets from inside, and what is written for packets from outside. In the kernel's table, where
/// 88 bytes of its own and of the key stand before a value, and entries follow each other from the
/// beginning of a page, each of the latter two has a cache line of 64 bytes to itself (`struct
/// htab_elem`, kernel/bpf/hashtab.c): the processors of both directions do not disturb each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct Flow {
    /// When the entry was made, in nanoseconds of `CLOCK_MONOTONIC`, as coarse as a timer tick.
    pub created_ns: u64,
    /// When a packet was last seen, likewise; refreshed once a second.
    pub seen_ns: u64,
    /// The generation of the uplink when it was given to the flow. When the uplink has another one
    /// now, the flow's next packet is given an uplink anew.
    pub generation: u32,
    /// The id of the uplink.
    pub uplink: u8,
    /// Why this uplink.
    pub reason: Reason,
    /// How far the flow has come.
    pub phase: Phase,
    /// Packets came back by this uplink: connection tracking need not be asked any more.
    pub confirmed: bool,
    /// Zero.
    pub reserved: [u64; 2],

    /// Packets from inside to outside, segments of an offloaded packet counted each; those that took
    /// the fast path every few seconds.
    pub out_packets: u64,
    /// Bytes of these packets, link-layer headers included where the interface has them.
    pub out_bytes: u64,
    /// When the flow was last offered to the daemon for the fast path, as `seen_ns`.
    pub offered_ns: u64,
    /// For TCP, the sequence number that follows all that was seen from inside (RFC 9293's SND.NXT);
    /// what ends at or before it is sent again.
    pub out_next: u32,
    /// Whether that is known.
    pub sequenced: bool,
    /// After how many packets from inside it is next looked whether the flow takes the fast path.
    pub until_offer: u8,
    /// It counts among those that wait for their first answer ([`Guard`](crate::Guard)).
    pub waits: bool,
    /// Zero.
    pub reserved_out: u8,
    /// Zero.
    pub spare_out: [u64; 4],

    /// Packets from outside to inside.
    pub in_packets: u64,
    /// Bytes of these packets.
    pub in_bytes: u64,
    /// Zero.
    pub spare_in: [u64; 6],
}

const _: () = assert!(size_of::<Flow>() == 40 + 64 + 64);

/// When flows are offered for the fast path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offering {
    /// After how many packets from inside, the first one not counted: most flows end before.
    pub first: u8,
    /// After how many more it is looked again.
    pub next: u8,
    /// How long a flow is not offered again, in nanoseconds.
    pub again_ns: u64,
}

impl Offering {
    /// As it is best.
    pub const USUAL: Self = Self {
        first: 16,
        next: 16,
        again_ns: 1_000_000_000,
    };
    /// As soon as possible: for tests, whose flows have few packets.
    pub const EARLY: Self = Self {
        first: 1,
        next: 1,
        again_ns: 50_000_000,
    };
}

impl Flow {
    /// Stands in [`Flow::offered_ns`] of a flow that is never offered: its packets come in by an interface
    /// without Ethernet header.
    pub const WITHOUT_ETHERNET: u64 = 1;
}

#[cfg(feature = "user")]
impl Flow {
    /// A flow that begins now, on no uplink yet.
    #[must_use]
    pub const fn begun(now_ns: u64) -> Self {
        Self {
            created_ns: now_ns,
            seen_ns: now_ns,
            generation: 0,
            uplink: 0,
            reason: Reason::Hash,
            phase: Phase::Opening,
            confirmed: false,
            reserved: [0; 2],
            out_packets: 0,
            out_bytes: 0,
            offered_ns: 0,
            out_next: 0,
            sequenced: false,
            until_offer: Offering::USUAL.first,
            waits: false,
            reserved_out: 0,
            spare_out: [0; 4],
            in_packets: 0,
            in_bytes: 0,
            spare_in: [0; 6],
        }
    }
}
