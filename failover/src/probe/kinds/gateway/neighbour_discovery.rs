//! A neighbour solicitation for an IPv6 gateway (RFC 4861, sections 4.3 and 4.4), and a filter for its
//! advertisement.

use std::io;
use std::net::{IpAddr, Ipv6Addr};

use socket2::{Protocol, SockAddr, SockFilter, Type};

use super::Request;
use crate::family::Family;
use crate::probe::way::Way;

const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_SET: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
/// Offsets from here on are from the IP header (`SKF_NET_OFF` of `linux/filter.h`).
const IP_HEADER: u32 = (-0x0010_0000_i32).cast_unsigned();

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u32 = 136;
/// Only a neighbour's packet has it: every router takes one off.
const HOPS: u32 = 255;

pub(super) fn request(way: &Way, mac: [u8; 6], gateway: Ipv6Addr) -> io::Result<Request> {
    let socket = way.socket(Family::Ipv6, Type::RAW, Protocol::ICMPV6)?;
    socket.attach_filter(&advertisements(gateway))?;
    socket.set_multicast_hops_v6(HOPS)?;
    way.bind(&socket)?;
    let group = solicited_node(gateway);
    Ok(Request {
        socket,
        packet: packet(mac, gateway),
        to: SockAddr::from(way.scoped(IpAddr::V6(group), 0)),
    })
}

/// The group that every node with such an address is in (RFC 4291, section 2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    const GROUP: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00, 0);
    Ipv6Addr::from_bits(GROUP.to_bits() | address.to_bits() & 0xff_ffff)
}

/// The kernel puts in the checksum.
fn packet(mac: [u8; 6], gateway: Ipv6Addr) -> Vec<u8> {
    let mut packet = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    packet.extend_from_slice(&gateway.octets());
    // The option "source link-layer address", 8 bytes long.
    packet.extend_from_slice(&[1, 1]);
    packet.extend_from_slice(&mac);
    packet
}

/// Advertisements of the gateway that were asked for. The packet begins with the ICMPv6 header.
fn advertisements(gateway: Ipv6Addr) -> Vec<SockFilter> {
    const SOLICITED: u32 = 0x40;
    let [first, second, third, fourth] = words(gateway);
    let mut filter = vec![
        SockFilter::new(LOAD_BYTE, 0, 0, 0),
        SockFilter::new(IF_EQUAL, 0, 13, ADVERTISEMENT),
        SockFilter::new(LOAD_BYTE, 0, 0, IP_HEADER + 7),
        SockFilter::new(IF_EQUAL, 0, 11, HOPS),
        SockFilter::new(LOAD_BYTE, 0, 0, 4),
        SockFilter::new(IF_SET, 0, 9, SOLICITED),
    ];
    for (offset, word, out) in [
        (8, first, 7),
        (12, second, 5),
        (16, third, 3),
        (20, fourth, 1),
    ] {
        filter.push(SockFilter::new(LOAD_WORD, 0, 0, offset));
        filter.push(SockFilter::new(IF_EQUAL, 0, out, word));
    }
    filter.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    filter.push(SockFilter::new(RETURN, 0, 0, 0));
    filter
}

fn words(address: Ipv6Addr) -> [u32; 4] {
    let [a, b, c, d, e, f, g, h] = address.segments().map(u32::from);
    [a << 16 | b, c << 16 | d, e << 16 | f, g << 16 | h]
}
