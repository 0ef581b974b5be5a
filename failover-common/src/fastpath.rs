//! The fast path: established flows whose packets the programs translate and send out themselves.
//!
//! The daemon alone decides which flows these are. It writes a [`Pair`] of directions, and only then
//! an [`OffloadKey`] for each of them that leads there by an [`Offloaded`]. A pair that is given up
//! loses its id first; it is written again only after every program that may still look at it has
//! ended. So a program that found a pair with the id that it was told has all of it before its eyes,
//! and nothing of another one.

#[cfg(feature = "user")]
use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

use crate::{Family, FlowKey};

/// From which side a packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(u8)]
pub enum Side {
    /// From users.
    Users = 1,
    /// From a provider.
    Provider = 2,
}

/// Packets of one direction of a flow, by their addresses and ports as they come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C, align(8))]
pub struct OffloadKey {
    /// Where they come from; an IPv4 address stands in the first four bytes, the others are zero.
    pub source: [u8; 16],
    /// Where they go, likewise.
    pub destination: [u8; 16],
    /// The port that they come from.
    pub source_port: u16,
    /// The port that they go to.
    pub destination_port: u16,
    /// The IP protocol number: TCP's or UDP's.
    pub protocol: u8,
    /// The family of both addresses.
    pub family: Family,
    /// The side that they come from.
    pub side: Side,
    /// Zero.
    pub reserved: u8,
}

impl OffloadKey {
    /// The packets of a flow that users send.
    #[must_use]
    #[inline(always)]
    pub const fn from_users(flow: &FlowKey) -> Self {
        Self {
            source: flow.inside,
            destination: flow.outside,
            source_port: flow.inside_port,
            destination_port: flow.outside_port,
            protocol: flow.protocol,
            family: flow.family,
            side: Side::Users,
            reserved: 0,
        }
    }
}

/// What leads to a pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
#[repr(C, align(8))]
pub struct Offloaded {
    /// The index of the pair.
    pub slot: u32,
    /// The id that the pair has as long as it is this flow's. 0: the flow is not for the fast path, and
    /// need not be offered for the moment.
    pub id: u32,
}

/// What becomes of the packets of one direction. 64 bytes: a cache line that nobody writes at packet
/// rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
#[repr(C, align(8))]
pub struct Direction {
    /// Whose it is, for as long as it is. 0: nobody's.
    pub id: u32,
    /// The index of the interface that the packets come in by; what comes in by another one goes to
    /// the stack.
    pub ingress: u32,
    /// The index of the [`NextHop`].
    pub next_hop: u32,
    /// The generation of the uplink at which the flow was offloaded.
    pub generation: u32,
    /// The source that the packets are given: the bytes of an [`OffloadKey`]'s as words in memory.
    pub source: [u64; 2],
    /// The destination that they are given, likewise.
    pub destination: [u64; 2],
    /// The port that they are given to come from.
    pub source_port: u16,
    /// The port that they are given to go to.
    pub destination_port: u16,
    /// What is to be added to a checksum over the addresses, in one's complement (RFC 1624): the new
    /// words minus the old ones, each as it stands in memory.
    pub address_sum: u16,
    /// Likewise for the ports.
    pub port_sum: u16,
    /// What is translated: a sum of [`change`].
    pub changes: u8,
    /// The id of the uplink.
    pub uplink: u8,
    /// Not zero: a program saw a packet that ends the flow, and both directions are the stack's from
    /// then on.
    pub left: u8,
    /// Zero.
    pub reserved: u8,
    /// Zero.
    pub reserved_too: u32,
}

/// What is translated.
pub mod change {
    /// The source address or its port.
    pub const SOURCE: u8 = 1;
    /// The destination address or its port.
    pub const DESTINATION: u8 = 2;
}

/// What the programs write of a pair: a cache line of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
#[repr(C, align(8))]
pub struct Moved {
    /// When a packet of users last took the fast path, in nanoseconds of `CLOCK_MONOTONIC`, refreshed
    /// once a second.
    pub out_seen_ns: u64,
    /// When one of a provider did.
    pub back_seen_ns: u64,
    /// Packets of a provider that took it, segments of an offloaded packet counted each. Those of users
    /// are counted with their flow.
    pub back_packets: u64,
    /// Bytes of these packets.
    pub back_bytes: u64,
    /// Zero.
    pub reserved: [u64; 4],
}

/// Both directions of an offloaded flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
#[repr(C, align(8))]
pub struct Pair {
    /// From users.
    pub out: Direction,
    /// To users.
    pub back: Direction,
    /// What moved.
    pub moved: Moved,
}

const _: () = assert!(size_of::<Direction>() == 64 && size_of::<Pair>() == 192);

/// Where packets are sent: an interface, and who is asked there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
#[repr(C, align(8))]
pub struct NextHop {
    /// The index of the interface. 0: nobody knows where it is; its packets go to the stack.
    pub interface: u32,
    /// The longest packet that fits, from the IP header on, in bytes.
    pub mtu: u32,
    /// What a frame begins with: its first eight bytes, as they stand in memory. These are the
    /// destination, and the first two bytes of the source.
    pub start: u64,
    /// The others of the source, likewise.
    pub middle: u32,
    /// The type of what is in the frame, likewise.
    pub kind: u16,
    /// Zero.
    pub reserved: u16,
    /// Zero.
    pub reserved_too: u64,
}

const _: () = assert!(size_of::<NextHop>() == 32);

#[cfg(feature = "user")]
impl NextHop {
    /// Packets of a family that go out by an Ethernet interface, `from` its address `to` another one.
    #[must_use]
    pub fn ethernet(interface: u32, mtu: u32, family: Family, to: [u8; 6], from: [u8; 6]) -> Self {
        let kind: u16 = match family {
            Family::Ipv4 => 0x0800,
            Family::Ipv6 => 0x86dd,
        };
        let [a, b, c, d, e, f] = to;
        let [g, h, rest @ ..] = from;
        Self {
            interface,
            mtu,
            start: u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
            middle: u32::from_ne_bytes(rest),
            kind: kind.to_be(),
            ..Self::default()
        }
    }

    /// Where frames go to.
    #[must_use]
    pub const fn destination(&self) -> [u8; 6] {
        let [a, b, c, d, e, f, _, _] = self.start.to_ne_bytes();
        [a, b, c, d, e, f]
    }
}

/// What says that the daemon is there. A daemon that ends without a word renews nothing, and all flows
/// are the stack's again before connection tracking forgets any of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
#[repr(C, align(8))]
pub struct Lease {
    /// Until when packets may take the fast path, in nanoseconds of `CLOCK_MONOTONIC`; 0 while no flow
    /// is on it.
    pub packets_until_ns: u64,
    /// Until when flows are offered for it.
    pub offers_until_ns: u64,
    /// The last id that was given to a pair.
    pub last_id: u32,
    /// Zero.
    pub reserved: u32,
}

/// A flow that could take the fast path, as the programs offer it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C, align(8))]
pub struct Offer {
    /// The flow.
    pub flow: FlowKey,
    /// When it began, in nanoseconds of `CLOCK_MONOTONIC`.
    pub created_ns: u64,
    /// The index of the interface by which users' packets come in.
    pub ingress: u32,
    /// The generation of its uplink.
    pub generation: u32,
    /// The id of its uplink.
    pub uplink: u8,
    /// Zero.
    pub reserved: [u8; 7],
}
