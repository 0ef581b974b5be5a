//! A packet's facts as a frame on the wire, and the number by which it is known again wherever it goes.

use std::net::IpAddr;

use failover::policy::Facts;

/// What stands behind each packet's headers, before its number: also what begins an unknown parameter
/// of SCTP with a length of 8 bytes (RFC 9260, section 3.2.1).
const SIGN: [u8; 4] = [0xc0, 0x00, 0x00, 0x08];

// Protocol numbers (IANA).
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const ICMPV6: u8 = 58;
const SCTP: u8 = 132;
const UDPLITE: u8 = 136;

/// The frame of a packet that goes to a router's hardware address. The number is its own, and the hop
/// limit says which mark the user's rules are to give it.
#[must_use]
pub fn frame(facts: &Facts, hop_limit: u8, router: [u8; 6], number: u32) -> Vec<u8> {
    let payload = payload(facts, number);
    let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
    let mut frame = router.to_vec();
    frame.extend(facts.mac.map_or([2, 0, 0, 0, 0, 1], |mac| mac.0));
    let class = facts.dscp.get() << 2;
    match (facts.source, facts.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            frame.extend([0x08, 0x00]);
            let mut header = vec![0x45, class];
            header.extend(length.saturating_add(20).to_be_bytes());
            header.extend([0, 0, 0x40, 0, hop_limit, facts.protocol.0, 0, 0]);
            header.extend(source.octets());
            header.extend(destination.octets());
            let sum = internet_checksum(&[&header]);
            put(&mut header, 10, sum.to_be_bytes());
            frame.extend(header);
        }
        (source, destination) => {
            frame.extend([0x86, 0xdd, 0x60 | class >> 4, class << 4, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([facts.protocol.0, hop_limit]);
            frame.extend(octets(source));
            frame.extend(octets(destination));
        }
    }
    frame.extend(payload);
    frame
}

/// The number of a packet that begins with its IP header, if it is one of ours.
#[must_use]
pub fn number_of(packet: &[u8]) -> Option<u32> {
    let length = match packet.first()? >> 4 {
        4 => u16::from_be_bytes(*packet.get(2..)?.first_chunk()?).into(),
        6 => usize::from(u16::from_be_bytes(*packet.get(4..)?.first_chunk()?)) + 40,
        _ => return None,
    };
    let (rest, number) = packet.get(..length)?.split_last_chunk::<4>()?;
    rest.ends_with(&SIGN).then(|| u32::from_be_bytes(*number))
}

/// What a packet is known by: the bytes at its end.
pub(super) fn signed(number: u32) -> Vec<u8> {
    [SIGN, number.to_be_bytes()].concat()
}

/// What follows the IP header.
pub(super) fn payload(facts: &Facts, number: u32) -> Vec<u8> {
    let mut ports = facts.source_port.to_be_bytes().to_vec();
    ports.extend(facts.port.to_be_bytes());
    let (mut bytes, checksum_at) = match facts.protocol.0 {
        TCP => {
            let mut header = ports;
            header.extend(number.to_be_bytes());
            // A SYN without options.
            header.extend([0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
            (header, Some(16))
        }
        UDP | UDPLITE => {
            let mut header = ports;
            header.extend([0, 16, 0, 0]);
            (header, Some(6))
        }
        DCCP => {
            let mut header = ports;
            // A request (RFC 4340, section 5.2).
            header.extend([5, 0, 0, 0, 0x01, 0, 0, 0]);
            header.extend(number.to_be_bytes());
            header.extend([0; 4]);
            (header, Some(6))
        }
        SCTP => {
            let mut header = ports;
            header.extend([0; 8]);
            // An INIT with one parameter.
            header.extend([1, 0, 0, 28]);
            header.extend(number.max(1).to_be_bytes());
            header.extend([0, 1, 0, 0, 0, 1, 0, 1]);
            header.extend(number.to_be_bytes());
            (header, None)
        }
        ICMP | ICMPV6 => {
            let request = if facts.protocol.0 == ICMP { 8 } else { 128 };
            let [high, middle, low, lowest] = number.to_be_bytes();
            let header = vec![request, 0, 0, 0, low, lowest, high, middle];
            (header, Some(2))
        }
        _ => {
            let mut header = vec![0, 0, 0x08, 0];
            header.extend(number.to_be_bytes());
            (header, None)
        }
    };
    bytes.extend(signed(number));
    if let Some(at) = checksum_at {
        let pseudo = match facts.protocol.0 {
            ICMP => Vec::new(),
            protocol => pseudo_header(facts, protocol, bytes.len()),
        };
        let sum = match internet_checksum(&[&pseudo, &bytes]) {
            // None at all, as UDP has it.
            0 => 0xffff,
            sum => sum,
        };
        put(&mut bytes, at, sum.to_be_bytes());
    }
    if facts.protocol.0 == SCTP {
        let sum = crc32c(&bytes);
        put(&mut bytes, 8, sum.to_le_bytes());
    }
    bytes
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn pseudo_header(facts: &Facts, protocol: u8, length: usize) -> Vec<u8> {
    let mut header = octets(facts.source);
    header.extend(octets(facts.destination));
    header.extend(u32::try_from(length).unwrap_or_default().to_be_bytes());
    header.extend([0, 0, 0, protocol]);
    header
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) {
    if let Some(place) = bytes.get_mut(at..at + N) {
        place.copy_from_slice(&value);
    }
}

/// RFC 1071. All parts but the last are of even length.
fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0_u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        let word = match pair {
            [high, low] => [*high, *low],
            [high] => [*high, 0],
            _ => [0, 0],
        };
        sum += u32::from(u16::from_be_bytes(word));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

/// RFC 9260, appendix A.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let odd = crc & 1 == 1;
            crc >>= 1;
            if odd {
                crc ^= 0x82f6_3b78;
            }
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use etherparse::SlicedPacket;
    use failover::flows::Protocol;
    use failover::policy::Dscp;

    use super::*;

    fn facts(protocol: u8, source: &str, destination: &str) -> Facts {
        Facts {
            interface: None,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: Protocol(protocol),
            source_port: 1000,
            port: 2000,
            dscp: Dscp::new(46).unwrap(),
            mark: 0,
            mac: "02:00:5e:10:00:07".parse().ok(),
        }
    }

    #[test]
    fn frames_are_whole_and_known_by_their_number() {
        for (source, destination) in [("192.0.2.1", "198.51.100.1"), ("fd00::1", "fd00::2")] {
            for protocol in [TCP, UDP, ICMP, ICMPV6, SCTP, DCCP, UDPLITE, 47, 50, 99] {
                let facts = facts(protocol, source, destination);
                let frame = frame(&facts, 70, [2; 6], 0x0102_0304);
                let sliced = SlicedPacket::from_ethernet(&frame).unwrap();
                assert!(sliced.net.is_some());
                assert_eq!(number_of(&frame[14..]), Some(0x0102_0304), "{protocol}");
                assert_eq!(number_of(&frame[14..frame.len() - 1]), None);
            }
        }
    }

    #[test]
    fn checksums_are_right() {
        let frame = frame(&facts(UDP, "192.0.2.1", "198.51.100.1"), 70, [2; 6], 9);
        assert_eq!(internet_checksum(&[&frame[14..34]]), 0);
        let pseudo = pseudo_header(&facts(UDP, "192.0.2.1", "198.51.100.1"), UDP, 16);
        assert_eq!(internet_checksum(&[&pseudo, &frame[34..]]), 0);
        // The check value of CRC-32C (catalogue of parametrised CRC algorithms).
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }
}
