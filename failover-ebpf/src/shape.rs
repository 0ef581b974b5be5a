//! What the fast path needs to know of a packet beside its flow, in one word: it fits a register, and
//! takes no room on the stack.

use failover_common::Family;
use failover_common::lifetime::protocol::TCP;

use crate::headers::Tuple;
use crate::packet::{ETHERNET_HEADER, Packet};

/// The lengths of the headers, in bytes, without options.
pub(crate) const IPV4_HEADER: usize = 20;
pub(crate) const IPV6_HEADER: usize = 40;
const TCP_HEADER: u32 = 20;
const UDP_HEADER: u32 = 8;

/// Above the size in the word.
const IPV6: u64 = 1 << 32;
const IS_TCP: u64 = 1 << 33;
const ENDS: u64 = 1 << 34;
const PLAIN: u64 = 1 << 35;
const ASKS: u64 = 1 << 36;

/// What a packet looks like.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Shape(u64);

impl Shape {
    /// It is of no flow: that of one has a size.
    pub(crate) const NONE: Self = Self(0);

    #[inline(always)]
    pub(crate) const fn is_none(self) -> bool {
        self.0 == 0
    }

    #[inline(always)]
    pub(crate) fn of<const HEADER: usize>(packet: &Packet<'_, HEADER>, tuple: &Tuple) -> Self {
        let (internet, family) = match tuple.family {
            Family::Ipv4 => (IPV4_HEADER, 0),
            Family::Ipv6 => (IPV6_HEADER, IPV6),
        };
        let is_tcp = tuple.protocol == TCP;
        let (upper, protocol) = if is_tcp {
            (tuple.tcp.header(), IS_TCP)
        } else {
            (UDP_HEADER, 0)
        };
        let headers = internet as u32 + upper;
        let segment = packet.gso_size();
        // One that is shorter than it says, or than its headers are, is broken, and the stack's to judge.
        let is_whole = u64::from(tuple.length) + ETHERNET_HEADER as u64 <= packet.length()
            && headers <= tuple.length
            && (!is_tcp || upper >= TCP_HEADER);
        let size = if segment != 0 {
            headers + segment
        } else if is_whole {
            tuple.length
        } else {
            u32::MAX
        };
        let ends = if tuple.tcp.is_for_the_stack() {
            ENDS
        } else {
            0
        };
        let plain = if tuple.plain && tuple.hops > 1 && packet.is_untagged() {
            PLAIN
        } else {
            0
        };
        let asks = if tuple.tcp.has_data() || !is_tcp {
            ASKS
        } else {
            0
        };
        Self(u64::from(size) | family | protocol | ends | plain | asks)
    }

    /// The length of the packet, or of the longest segment that it is cut into, from the IP header on,
    /// in bytes.
    #[inline(always)]
    pub(crate) const fn size(self) -> u32 {
        self.0 as u32
    }

    #[inline(always)]
    pub(crate) const fn family(self) -> Family {
        if self.0 & IPV6 == 0 {
            Family::Ipv4
        } else {
            Family::Ipv6
        }
    }

    /// It is one of TCP; otherwise of UDP.
    #[inline(always)]
    pub(crate) const fn is_tcp(self) -> bool {
        self.0 & IS_TCP != 0
    }

    /// It wants an answer, where it is one of an established flow.
    #[inline(always)]
    pub(crate) const fn asks(self) -> bool {
        self.0 & ASKS != 0
    }

    /// It begins or ends a connection.
    #[inline(always)]
    pub(crate) const fn ends(self) -> bool {
        self.0 & ENDS != 0
    }

    /// Nothing about its headers is the stack's to look at.
    #[inline(always)]
    pub(crate) const fn is_plain(self) -> bool {
        self.0 & PLAIN != 0
    }
}
