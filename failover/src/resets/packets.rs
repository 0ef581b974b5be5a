//! Packets that make a client speak which only listens.
//!
//! The client is sent bare acknowledgements that seem to come from its server, with numbers that it
//! does not expect. It answers with what it does expect (RFC 9293, 3.10.7.4), and that answer, which
//! carries the exact numbers, is met by a reset. Nothing need be known of the connection but its
//! addresses and ports. Of two numbers that lie half of the number space apart at least one is
//! outside any window, as sequence and as acknowledgement number; hence four packets.

use std::net::{IpAddr, SocketAddr};

use etherparse::PacketBuilder;

use crate::flows::LostConnection;

/// Numbers of which at least one is outside any window.
const NUMBERS: [u32; 2] = [0, 1 << 31];

/// What a host that is one hop away sees of others.
const TTL: u8 = 64;

/// The window, should a client believe the packet: neither shut nor worth anything.
const WINDOW: u16 = 1024;

/// The packets for one connection, from the IP header on.
pub(super) fn packets(lost: &LostConnection) -> Vec<Vec<u8>> {
    let LostConnection { inside, outside } = lost;
    NUMBERS
        .into_iter()
        .flat_map(|sequence| NUMBERS.map(|acknowledged| (sequence, acknowledged)))
        .filter_map(|(sequence, acknowledged)| packet(*outside, *inside, sequence, acknowledged))
        .collect()
}

/// `None` if the ends are of different families, or if there is no room, which there is.
fn packet(from: SocketAddr, to: SocketAddr, sequence: u32, acknowledged: u32) -> Option<Vec<u8>> {
    let network = match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), TTL),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), TTL),
        _ => return None,
    };
    let segment = network
        .tcp(from.port(), to.port(), sequence, WINDOW)
        .ack(acknowledged);
    let mut bytes = Vec::with_capacity(segment.size(0));
    segment.write(&mut bytes, &[]).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    #[test]
    fn it_seems_to_come_from_the_server_and_is_a_bare_acknowledgement() {
        for (inside, outside) in [
            ("198.18.0.10:4000", "203.0.113.1:443"),
            ("[fd00:18::10]:4000", "[fd00:203::1]:443"),
        ] {
            let lost = LostConnection {
                inside: inside.parse().unwrap(),
                outside: outside.parse().unwrap(),
            };
            let mut numbers = Vec::new();
            for packet in packets(&lost) {
                let sliced = SlicedPacket::from_ip(&packet).unwrap();
                let (from, to): (IpAddr, IpAddr) = match sliced.net.unwrap() {
                    NetSlice::Ipv4(ip) => (
                        ip.header().source_addr().into(),
                        ip.header().destination_addr().into(),
                    ),
                    NetSlice::Ipv6(ip) => (
                        ip.header().source_addr().into(),
                        ip.header().destination_addr().into(),
                    ),
                    NetSlice::Arp(_) => panic!("not IP"),
                };
                let Some(TransportSlice::Tcp(tcp)) = sliced.transport else {
                    panic!("not TCP");
                };
                assert_eq!(SocketAddr::new(from, tcp.source_port()), lost.outside);
                assert_eq!(SocketAddr::new(to, tcp.destination_port()), lost.inside);
                assert!(tcp.ack() && !tcp.syn() && !tcp.rst() && !tcp.fin() && !tcp.psh());
                assert!(tcp.options().is_empty() && tcp.payload().is_empty());
                numbers.push((tcp.sequence_number(), tcp.acknowledgment_number()));
            }
            let half = 1 << 31;
            assert_eq!(numbers, [(0, 0), (0, half), (half, 0), (half, half)]);
        }
    }
}
