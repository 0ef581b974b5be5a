//! A packet as nearly all of the fast path are: IP without options or extension headers, whole, with a hop
//! left, and TCP or UDP behind it that neither begins nor ends a connection. It is read with no more
//! questions than that takes; what is not so [`headers`](crate::headers) reads, for the stack.

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{KeyWords, Side};

use crate::internet::Internet;
use crate::packet::{ETHERNET_HEADER, Packet, Word as _};
use crate::segment::{FOR_THE_STACK, header_length};

/// The lengths of the headers, in bytes, without options.
const TCP_HEADER: usize = 20;
pub(crate) const UDP_HEADER: usize = 8;

/// Where fields stand in a TCP header (RFC 9293, section 3.1).
const SEQUENCE: usize = 4;
const OFFSET_AND_FLAGS: usize = 12;

/// What the fast path needs to know of a packet.
pub(crate) struct Plain {
    /// Its direction, as [`failover_common::OffloadKey`] has it in memory.
    pub(crate) key: KeyWords,
    pub(crate) is_tcp: bool,
    /// The length of the packet, or of the longest segment that it is cut into, from the IP header on, in
    /// bytes.
    pub(crate) size: u32,
    /// Of TCP, the sequence number that follows its data, if it has any.
    pub(crate) next: Option<u32>,
}

impl Plain {
    /// It wants an answer, where it is one of an established flow.
    #[inline(always)]
    pub(crate) const fn asks(&self) -> bool {
        !self.is_tcp || self.next.is_some()
    }
}

/// Reads a packet from one side; `None` where it is not plain.
#[inline(always)]
pub(crate) fn read<const HEADER: usize, I: Internet>(
    packet: &Packet<'_, HEADER>,
    side: Side,
) -> Option<Plain> {
    if !packet.is_untagged() {
        return None;
    }
    let frame = packet.pulled(I::UPPER + UDP_HEADER)?;
    // SAFETY: it has so many bytes.
    let (header, ports) = unsafe { (I::read(frame)?, u32::load::<0>(frame + I::UPPER)) };
    let is_tcp = header.protocol == TCP;
    let (upper, sequence) = if is_tcp {
        let frame = packet.pulled(I::UPPER + TCP_HEADER)?;
        let segment = frame + I::UPPER;
        // SAFETY: the frame has so many bytes.
        let (sequence, word) = unsafe {
            (
                u32::load::<SEQUENCE>(segment),
                u16::load::<OFFSET_AND_FLAGS>(segment),
            )
        };
        let [offset, flags] = word.to_ne_bytes();
        let length = header_length(offset);
        if length < TCP_HEADER || flags & FOR_THE_STACK != 0 {
            return None;
        }
        (length, u32::from_be(sequence))
    } else if header.protocol == UDP {
        (UDP_HEADER, 0)
    } else {
        return None;
    };
    let headers = (I::LENGTH + upper) as u32;
    let segment = packet.gso_size();
    let length = header.length;
    let behind = packet.length() as u32 - ETHERNET_HEADER as u32;
    // One that is shorter than it says, or than its headers are, is broken. An offloaded packet of more
    // than 64 kB does not say how long it is; its segments will.
    if segment == 0 && (length > behind || headers > length) {
        return None;
    }
    let size = if segment == 0 {
        length
    } else {
        headers + segment
    };
    let end = if length == 0 { behind } else { length };
    let next = (is_tcp && end > headers).then(|| sequence.wrapping_add(end - headers));
    let [a, b] = header.source.words();
    let [c, d] = header.destination.words();
    let rest = u64::from(u32::from_be(ports).rotate_right(16))
        | u64::from(header.protocol) << 32
        | (I::FAMILY as u64) << 40
        | (side as u64) << 48;
    Some(Plain {
        key: KeyWords([a, b, c, d, rest]),
        is_tcp,
        size,
        next,
    })
}
