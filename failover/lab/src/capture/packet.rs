//! Reads the head of an IP packet: which flow it belongs to, and whether it opens it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What a flow speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or `ICMPv6` echo.
    Echo,
}

/// What tells one flow from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// What it speaks.
    pub protocol: FlowProtocol,
    /// Address and port of the sender; the port of an echo is its identifier.
    pub source: SocketAddr,
    /// Address and port of the receiver; 0 for an echo.
    pub destination: SocketAddr,
}

impl FlowKey {
    /// The flow of a packet that begins with its IP header; `None` for what is neither TCP, UDP nor
    /// an echo request, and for later fragments.
    #[must_use]
    pub fn of(packet: &[u8]) -> Option<Self> {
        parse(packet).map(|(key, _opening)| key)
    }
}

// Protocol numbers (IANA), ICMP types (RFC 792, RFC 4443) and TCP flags (RFC 9293).
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMPV6: u8 = 58;
const ECHO_REQUEST: u8 = 8;
const ECHO_REQUEST_V6: u8 = 128;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// The flow of a packet that begins with its IP header, and whether the packet opens a flow.
/// `None` for what is neither TCP, UDP nor an echo request, and for later fragments.
pub(super) fn parse(packet: &[u8]) -> Option<(FlowKey, bool)> {
    let (source, destination, protocol, payload) = match packet.first()? >> 4 {
        4 => {
            let fragment = u16::from_be_bytes([*packet.get(6)?, *packet.get(7)?]) & 0x1fff;
            if fragment != 0 {
                return None;
            }
            let header = usize::from(packet.first()? & 0x0f) * 4;
            let source = Ipv4Addr::from(*packet.get(12..)?.first_chunk::<4>()?);
            let destination = Ipv4Addr::from(*packet.get(16..)?.first_chunk::<4>()?);
            (
                IpAddr::from(source),
                IpAddr::from(destination),
                *packet.get(9)?,
                packet.get(header..)?,
            )
        }
        6 => {
            let source = Ipv6Addr::from(*packet.get(8..)?.first_chunk::<16>()?);
            let destination = Ipv6Addr::from(*packet.get(24..)?.first_chunk::<16>()?);
            (
                IpAddr::from(source),
                IpAddr::from(destination),
                *packet.get(6)?,
                packet.get(40..)?,
            )
        }
        _ => return None,
    };
    let word = |at: usize| -> Option<u16> {
        Some(u16::from_be_bytes(*payload.get(at..)?.first_chunk::<2>()?))
    };
    let (protocol, source_port, destination_port, opening) = match protocol {
        TCP => {
            let flags = *payload.get(13)?;
            (
                FlowProtocol::Tcp,
                word(0)?,
                word(2)?,
                flags & (SYN | ACK) == SYN,
            )
        }
        UDP => (FlowProtocol::Udp, word(0)?, word(2)?, true),
        ICMP if *payload.first()? == ECHO_REQUEST => (FlowProtocol::Echo, word(4)?, 0, true),
        ICMPV6 if *payload.first()? == ECHO_REQUEST_V6 => (FlowProtocol::Echo, word(4)?, 0, true),
        _ => return None,
    };
    let key = FlowKey {
        protocol,
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    };
    Some((key, opening))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0];
        packet.extend([198, 18, 11, 2, 203, 0, 113, 11]);
        packet.extend(payload);
        packet
    }

    fn tcp(flags: u8) -> Vec<u8> {
        let mut segment = vec![0; 20];
        segment[0..4].copy_from_slice(&[0x12, 0x34, 0x1b, 0x5f]);
        segment[13] = flags;
        segment
    }

    #[test]
    fn a_syn_opens_and_an_acknowledgement_does_not() {
        let (key, opening) = parse(&v4(TCP, &tcp(SYN))).expect("a TCP packet");
        assert!(opening);
        assert_eq!(key.source.to_string(), "198.18.11.2:4660");
        assert_eq!(key.destination.to_string(), "203.0.113.11:7007");
        for flags in [ACK, SYN | ACK, 0x04] {
            assert!(!parse(&v4(TCP, &tcp(flags))).expect("a TCP packet").1);
        }
    }

    #[test]
    fn an_echo_request_is_told_by_its_identifier_and_a_reply_is_nothing() {
        let request = v4(ICMP, &[8, 0, 0, 0, 0xab, 0xcd, 0, 1]);
        let (key, opening) = parse(&request).expect("an echo request");
        assert!(opening);
        assert_eq!(
            (key.protocol, key.source.port()),
            (FlowProtocol::Echo, 0xabcd)
        );
        assert_eq!(parse(&v4(ICMP, &[0, 0, 0, 0, 0xab, 0xcd, 0, 1])), None);
    }

    #[test]
    fn reads_ipv6() {
        let mut packet = vec![0x60, 0, 0, 0, 0, 8, UDP, 64];
        packet.extend("fd00:18:11::2".parse::<Ipv6Addr>().expect("valid").octets());
        packet.extend("fd00:203::11".parse::<Ipv6Addr>().expect("valid").octets());
        packet.extend([0, 53, 0x1b, 0x5f, 0, 8, 0, 0]);
        let (key, opening) = parse(&packet).expect("a UDP packet");
        assert!(opening);
        assert_eq!(key.source.to_string(), "[fd00:18:11::2]:53");
    }

    #[test]
    fn cut_packets_and_fragments_are_nothing() {
        let whole = v4(TCP, &tcp(SYN));
        for length in 0..34 {
            assert_eq!(parse(&whole[..length]), None, "{length} bytes");
        }
        let mut fragment = whole;
        fragment[7] = 1;
        assert_eq!(parse(&fragment), None);
    }
}
