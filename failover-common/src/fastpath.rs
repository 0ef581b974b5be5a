//! The fast path: established flows whose packets the programs translate and send out themselves.
//!
//! The daemon alone decides which flows these are. It writes a [`Direction`] for each way of a flow, in a
//! table where the key of its packets leads to, its id last. One that is given up loses its id first;
//! its place is written again only after every program that may still look at it has ended. So a program
//! that finds a direction with an id and with the key of its packet has all of it before its eyes, and
//! nothing of another one.

#[cfg(feature = "user")]
use bytemuck::{CheckedBitPattern, NoUninit, Pod, Zeroable};

use crate::{Family, FlowKey};

/// From which side a packet comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(u8)]
pub enum Side {
    /// From users: their key is that of the flow, byte by byte.
    Users = 0,
    /// From a provider.
    Provider = 1,
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

    /// The same as words in memory, in which it is compared.
    #[cfg(feature = "user")]
    #[must_use]
    pub fn words(&self) -> KeyWords {
        KeyWords(bytemuck::cast(*self))
    }
}

/// An [`OffloadKey`] as words, as they stand in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub struct KeyWords(pub [u64; 5]);

impl KeyWords {
    /// Where its direction may be in the table: the numbers of two places, of which as many of the low
    /// bits count as there are places.
    #[must_use]
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
    pub const fn homes(&self) -> (u32, u32) {
        let [a, b, c, d, e] = self.0;
        // Of IPv4 `b` and `d` are zero; of IPv6 each goes with the half of the other address that tells
        // least of it.
        let (one, two) = (a ^ d, c ^ b);
        // Odd numbers without a pattern: the fractional parts of square roots of primes. Products that do
        // not wait for each other, of words whose last bytes, which differ most, are among the low bits,
        // too: a product has nothing of a bit below it.
        let mixed = (one ^ one >> 32)
            .wrapping_mul(0x6a09_e667_f3bc_c909)
            .wrapping_add((two ^ two >> 32).wrapping_mul(0xbb67_ae85_84ca_a73b))
            .wrapping_add(e.wrapping_mul(0x3c6e_f372_fe94_f82b));
        let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xa54f_f53a_5f1d_36f1);
        let mixed = mixed ^ mixed >> 29;
        (mixed as u32, (mixed >> 32) as u32)
    }

    /// The places where it is looked for, one after the other: the first one, its neighbours, and the
    /// other one with its own. Nobody can gain by having many flows lead to the same ones: those for which
    /// there is no room stay with the stack.
    #[must_use]
    #[inline(always)]
    pub const fn place(home: u32, other: u32, nth: u32) -> u32 {
        if nth < TRIES / 2 {
            home.wrapping_add(nth)
        } else {
            other.wrapping_add(nth - TRIES / 2)
        }
    }
}

/// In how many places a direction is looked for, half of them at each of both.
pub const TRIES: u32 = 8;

/// What becomes of the packets of one direction: a cache line that nobody writes at packet rate, and one
/// that is written for packets of this direction alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(Pod, Zeroable))]
#[repr(C, align(8))]
pub struct Direction {
    /// Which packets these are: an [`OffloadKey`] as words.
    pub key: [u64; 5],
    /// Whose it is, for as long as it is. 0: nobody's.
    pub id: u32,
    /// The index of the interface that the packets come in by; what comes in by another one goes to
    /// the stack.
    pub ingress: u32,
    /// The index of the [`NextHop`].
    pub next_hop: u32,
    /// The generation of the uplink at which the flow was offloaded.
    pub generation: u32,
    /// The id of the uplink.
    pub uplink: u8,
    /// Not zero: a program saw a packet that ends the flow, and both directions are the stack's from
    /// then on.
    pub left: u8,
    /// How many directions are elsewhere whose key leads to this place first, whoever has it.
    pub displaced: u8,
    /// For TCP, not zero: `next` is known.
    pub sequenced: u8,
    /// The place of the flow's other direction.
    pub other: u32,

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
    /// Packets that took the fast path, segments of an offloaded packet counted each, and are not counted
    /// with their flow yet. They are every few seconds.
    pub packets: u64,
    /// Bytes of these packets.
    pub bytes: u64,
    /// When a packet last took it, in units of 2^[`SEEN_SHIFT`] nanoseconds of `CLOCK_MONOTONIC`.
    pub seen: u32,
    /// For TCP from users, as [`Flow::out_next`](crate::Flow::out_next).
    pub next: u32,
}

/// How far nanoseconds are shifted to be a [`Direction::seen`]: it goes up about once a second.
pub const SEEN_SHIFT: u32 = 30;
/// How far that is shifted again to go up as often as flows are told what moved: each 4.3 seconds.
pub const SETTLE_SHIFT: u32 = 2;

/// Both directions of an offloaded flow.
#[cfg(feature = "user")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pair {
    /// From users.
    pub out: Direction,
    /// To users.
    pub back: Direction,
}

const _: () = assert!(size_of::<Direction>() == 128);
const _: () = assert!(core::mem::offset_of!(Direction, source) == 64);
const _: () = assert!(size_of::<OffloadKey>() == size_of::<KeyWords>());
const _: () = assert!(size_of::<FlowKey>() == size_of::<KeyWords>());
const _: () = assert!(align_of::<FlowKey>() == align_of::<KeyWords>());
const _: () = assert!(core::mem::offset_of!(OffloadKey, side) == 38);

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

    /// Whom frames come from.
    #[must_use]
    pub const fn source(&self) -> [u8; 6] {
        let [_, _, _, _, _, _, a, b] = self.start.to_ne_bytes();
        let [c, d, e, f] = self.middle.to_ne_bytes();
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
