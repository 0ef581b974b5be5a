//! The packets that are measured with.

use std::io;
use std::net::IpAddr;

use etherparse::PacketBuilder;

use crate::error::LabError;

/// Ethernet, and behind an IP header the ports: where a word lies that can be counted up.
pub(super) const ETHERNET: i16 = 14;
pub(super) const IPV4: i16 = 20;
pub(super) const IPV6: i16 = 40;

/// The hardware address of who sends.
pub(super) const SENDER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x09];
/// As short as a frame can be on the wire, or a bit longer for IPv6.
const PAYLOAD: [u8; 18] = [0; 18];

/// The hops that a packet usually has.
const HOPS: u8 = 64;

/// A UDP datagram in a frame to `mac`.
pub(super) fn datagram(
    mac: [u8; 6],
    from: IpAddr,
    to: IpAddr,
    ports: (u16, u16),
) -> Result<Vec<u8>, LabError> {
    datagram_of_hops(HOPS, mac, from, to, ports)
}

/// One with so many hops left.
pub(super) fn datagram_of_hops(
    hops: u8,
    mac: [u8; 6],
    from: IpAddr,
    to: IpAddr,
    ports: (u16, u16),
) -> Result<Vec<u8>, LabError> {
    let ethernet = PacketBuilder::ethernet2(SENDER, mac);
    let ip = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => ethernet.ipv4(from.octets(), to.octets(), hops),
        (IpAddr::V6(from), IpAddr::V6(to)) => ethernet.ipv6(from.octets(), to.octets(), hops),
        _ => {
            return Err(LabError::Layout {
                reason: format!("no packet goes from {from} to {to}"),
            });
        }
    };
    let mut frame = Vec::new();
    ip.udp(ports.0, ports.1)
        .write(&mut frame, &PAYLOAD)
        .map_err(|error| LabError::io("write a packet")(io::Error::other(error)))?;
    Ok(frame)
}

/// An ARP request in a frame to `mac`.
pub(super) fn arp(mac: [u8; 6]) -> Vec<u8> {
    let kind = [0x08, 0x06];
    [&mac[..], &SENDER, &kind, &[0; 46]].concat()
}
