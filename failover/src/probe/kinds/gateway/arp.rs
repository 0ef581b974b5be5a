//! An ARP request for an IPv4 gateway (RFC 826), and a filter for its reply.

use std::io;
use std::net::Ipv4Addr;

use socket2::{Domain, SockFilter, Socket, Type};

use super::Request;
use crate::probe::way::Way;
use crate::sys::packet_address;

/// The protocol number of Ethernet (`include/uapi/linux/if_ether.h`).
const ETH_P_ARP: u16 = 0x0806;

const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const LOAD_HALF: u16 = 0x28; // BPF_LD | BPF_H | BPF_ABS
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K

pub(super) fn request(
    way: &Way,
    mac: [u8; 6],
    source: Ipv4Addr,
    gateway: Ipv4Addr,
) -> io::Result<Request> {
    // Without a protocol it is given no packets before the filter stands.
    let socket = Socket::new(Domain::PACKET, Type::DGRAM.nonblocking(), None)?;
    socket.attach_filter(&replies(source, gateway))?;
    socket.set_mark(way.mark.0)?;
    socket.bind(&packet_address(way.index.0, ETH_P_ARP, None))?;
    Ok(Request {
        socket,
        packet: packet(mac, source, gateway),
        to: packet_address(way.index.0, ETH_P_ARP, Some([0xff; 6])),
    })
}

/// Hardware Ethernet, protocol IPv4, their lengths, the operation "request".
const HEAD: [u8; 8] = [0, 1, 8, 0, 6, 4, 0, 1];

fn packet(mac: [u8; 6], source: Ipv4Addr, gateway: Ipv4Addr) -> Vec<u8> {
    let mut packet = HEAD.to_vec();
    packet.extend_from_slice(&mac);
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&[0; 6]);
    packet.extend_from_slice(&gateway.octets());
    packet
}

/// Replies of the gateway to us. The packet begins with the ARP header.
fn replies(source: Ipv4Addr, gateway: Ipv4Addr) -> Vec<SockFilter> {
    const REPLY: u32 = 2;
    vec![
        SockFilter::new(LOAD_HALF, 0, 0, 6),
        SockFilter::new(IF_EQUAL, 0, 5, REPLY),
        SockFilter::new(LOAD_WORD, 0, 0, 14),
        SockFilter::new(IF_EQUAL, 0, 3, gateway.to_bits()),
        SockFilter::new(LOAD_WORD, 0, 0, 24),
        SockFilter::new(IF_EQUAL, 0, 1, source.to_bits()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}
