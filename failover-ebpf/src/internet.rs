//! IPv4 and IPv6 on the fast path: their headers are read where they are plain, and rewritten.

use failover_common::{Direction, Family};

use crate::address::Address;
use crate::headers::{FRAGMENT_OFFSET, MORE_FRAGMENTS};
use crate::packet::{ETHERNET_HEADER, Packet, Word as _, load_filled};

/// What a header without options says, of a whole packet that another router may pass on.
pub(crate) struct Header {
    /// What follows it.
    pub(crate) protocol: u8,
    /// The length of the packet from here on, in bytes; 0 where it does not say.
    pub(crate) length: u32,
    pub(crate) source: Address,
    pub(crate) destination: Address,
}

/// A version of the internet protocol.
pub(crate) trait Internet {
    const FAMILY: Family;
    /// The length of its header, in bytes.
    const LENGTH: usize;
    /// Where in a frame the header of the next protocol begins.
    const UPPER: usize = ETHERNET_HEADER + Self::LENGTH;

    /// What the header of a frame says; `None` where it says itself that it is not plain.
    ///
    /// # Safety
    /// The frame must have [`Self::UPPER`] bytes in one piece, as for
    /// [`Word::load`](crate::packet::Word::load).
    unsafe fn read(frame: usize) -> Option<Header>;

    /// Gives the header the addresses of a direction and one hop less.
    ///
    /// # Safety
    /// As for reading, and as for [`Word::store`](crate::packet::Word::store).
    unsafe fn rewrite(frame: usize, way: &Direction);

    /// Tells the kernel what was rewritten, where hardware has summed up the packet.
    fn sum<const HEADER: usize>(packet: &Packet<'_, HEADER>, way: &Direction);
}

/// Version 4 (RFC 791, section 3.1).
pub(crate) struct Ipv4;

/// Where its fields stand in a frame.
mod ipv4 {
    use super::ETHERNET_HEADER;

    pub(super) const FIRST: usize = ETHERNET_HEADER;
    pub(super) const FRAGMENT: usize = ETHERNET_HEADER + 4;
    pub(super) const HOPS: usize = ETHERNET_HEADER + 8;
    pub(super) const SOURCE: usize = ETHERNET_HEADER + 12;
    pub(super) const DESTINATION: usize = ETHERNET_HEADER + 16;
    /// The version, and a header of five words.
    pub(super) const PLAIN: u8 = 0x45;
    /// One hop less, as a difference in one's complement of the word that holds the hops and the protocol.
    pub(super) const ONE_HOP: u16 = !1;
}

impl Internet for Ipv4 {
    const FAMILY: Family = Family::Ipv4;
    const LENGTH: usize = 20;

    #[inline(always)]
    unsafe fn read(frame: usize) -> Option<Header> {
        // SAFETY: by the caller's promise.
        let [first, fragment, third] = unsafe {
            [
                u32::load::<{ ipv4::FIRST }>(frame),
                u32::load::<{ ipv4::FRAGMENT }>(frame),
                u32::load::<{ ipv4::HOPS }>(frame),
            ]
        };
        // SAFETY: likewise.
        let [source, destination] = unsafe {
            [
                load_filled::<{ ipv4::SOURCE }>(frame),
                load_filled::<{ ipv4::DESTINATION }>(frame),
            ]
        };
        let [plain, _, high, low] = first.to_ne_bytes();
        let [hops, protocol, _, _] = third.to_ne_bytes();
        if plain != ipv4::PLAIN || fragment & (FRAGMENT_OFFSET | MORE_FRAGMENTS) != 0 || hops <= 1 {
            return None;
        }
        Some(Header {
            protocol,
            length: u32::from(u16::from_be_bytes([high, low])),
            source: Address::new([source, 0]),
            destination: Address::new([destination, 0]),
        })
    }

    #[inline(always)]
    unsafe fn rewrite(frame: usize, way: &Direction) {
        let ([source, _], [destination, _]) = (way.source, way.destination);
        // SAFETY: by the caller's promise.
        unsafe {
            let third = u32::load::<{ ipv4::HOPS }>(frame);
            let [hops, protocol, high, low] = third.to_ne_bytes();
            let sum = plus(!u16::from_ne_bytes([high, low]), way.address_sum);
            let [high, low] = (!plus(sum, ipv4::ONE_HOP)).to_ne_bytes();
            let third = u32::from_ne_bytes([hops.wrapping_sub(1), protocol, high, low]);
            third.store::<{ ipv4::HOPS }>(frame);
            (source as u32).store::<{ ipv4::SOURCE }>(frame);
            (destination as u32).store::<{ ipv4::DESTINATION }>(frame);
        }
    }

    /// Its own checksum makes up for all that changes in the header.
    #[inline(always)]
    fn sum<const HEADER: usize>(_packet: &Packet<'_, HEADER>, _way: &Direction) {}
}

/// Version 6 (RFC 8200, section 3).
pub(crate) struct Ipv6;

/// Where its fields stand in a frame.
mod ipv6 {
    use super::ETHERNET_HEADER;

    pub(super) const FIRST: usize = ETHERNET_HEADER;
    pub(super) const HOPS: usize = ETHERNET_HEADER + 7;
    pub(super) const SOURCE: usize = ETHERNET_HEADER + 8;
    pub(super) const SOURCE_LOW: usize = ETHERNET_HEADER + 16;
    pub(super) const DESTINATION: usize = ETHERNET_HEADER + 24;
    pub(super) const DESTINATION_LOW: usize = ETHERNET_HEADER + 32;
    pub(super) const VERSION: u8 = 6;
    /// One hop less, as a difference in one's complement of the word that holds the next header and the
    /// hops.
    pub(super) const ONE_HOP: u16 = !0x0100;
}

impl Internet for Ipv6 {
    const FAMILY: Family = Family::Ipv6;
    const LENGTH: usize = 40;

    #[inline(always)]
    unsafe fn read(frame: usize) -> Option<Header> {
        // SAFETY: by the caller's promise.
        let [first, source, source_low, destination, destination_low] = unsafe {
            [
                u64::load::<{ ipv6::FIRST }>(frame),
                u64::load::<{ ipv6::SOURCE }>(frame),
                u64::load::<{ ipv6::SOURCE_LOW }>(frame),
                u64::load::<{ ipv6::DESTINATION }>(frame),
                u64::load::<{ ipv6::DESTINATION_LOW }>(frame),
            ]
        };
        let [version, _, _, _, high, low, protocol, hops] = first.to_ne_bytes();
        if version >> 4 != ipv6::VERSION || hops <= 1 {
            return None;
        }
        let behind = u32::from(u16::from_be_bytes([high, low]));
        let length = if behind == 0 {
            0
        } else {
            behind + Self::LENGTH as u32
        };
        Some(Header {
            protocol,
            length,
            source: Address::new([source, source_low]),
            destination: Address::new([destination, destination_low]),
        })
    }

    #[inline(always)]
    unsafe fn rewrite(frame: usize, way: &Direction) {
        let [source, source_low] = way.source;
        let [destination, destination_low] = way.destination;
        // SAFETY: by the caller's promise.
        unsafe {
            let hops = u8::load::<{ ipv6::HOPS }>(frame).wrapping_sub(1);
            hops.store::<{ ipv6::HOPS }>(frame);
            source.store::<{ ipv6::SOURCE }>(frame);
            source_low.store::<{ ipv6::SOURCE_LOW }>(frame);
            destination.store::<{ ipv6::DESTINATION }>(frame);
            destination_low.store::<{ ipv6::DESTINATION_LOW }>(frame);
        }
    }

    /// Nothing in the header makes up for what changes there, and the helper that changes the checksum of
    /// TCP or UDP does as if there were.
    #[inline(always)]
    fn sum<const HEADER: usize>(packet: &Packet<'_, HEADER>, way: &Direction) {
        packet.tell_change(plus(way.address_sum, ipv6::ONE_HOP));
    }
}

/// Adds in one's complement.
#[inline(always)]
const fn plus(a: u16, b: u16) -> u16 {
    let sum = a as u32 + b as u32;
    ((sum & 0xffff) + (sum >> 16)) as u16
}
