//! Packets, byte by byte: whole ones, odd ones and broken ones.

use std::net::IpAddr;

use etherparse::checksum::Sum16BitWords;
use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader};
use failover_common::lifetime::protocol::{ICMP, ICMPV6, TCP, UDP};
use failover_common::{Family, FlowKey};

/// The length of an Ethernet header.
pub(crate) const ETHERNET: usize = 14;
/// `ETH_P_IP` and `ETH_P_IPV6`.
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const IPV6: u16 = 0x86dd;

/// TCP flags.
pub(crate) const FIN: u8 = 1;
pub(crate) const SYN: u8 = 2;
pub(crate) const RST: u8 = 4;
pub(crate) const ACK: u8 = 16;

/// The protocols by number that have no name in `failover_common`.
pub(crate) const GRE: u8 = 47;
pub(crate) const ESP: u8 = 50;

/// The hardware address of the host that the frames come from.
pub(crate) const FROM: [u8; 6] = [0x02, 0, 0, 0, 0, 0x09];

/// What an IP packet carries.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) protocol: u8,
    pub(crate) bytes: Vec<u8>,
}

impl Message {
    /// A UDP datagram with ten bytes in it.
    pub(crate) fn udp(from: u16, to: u16) -> Self {
        let mut message = Self::ported(UDP, from, to);
        message.bytes.truncate(18);
        message.bytes.splice(4..6, 18_u16.to_be_bytes());
        message
    }

    /// A bare TCP segment.
    pub(crate) fn tcp(from: u16, to: u16, flags: u8) -> Self {
        let mut header = TcpHeader::new(from, to, 1000, 0xffff);
        header.fin = flags & FIN != 0;
        header.syn = flags & SYN != 0;
        header.rst = flags & RST != 0;
        header.ack = flags & ACK != 0;
        Self {
            protocol: TCP,
            bytes: header.to_bytes().to_vec(),
        }
    }

    /// A TCP segment with so many bytes of data.
    pub(crate) fn segment((from, to): (u16, u16), flags: u8, sequence: u32, data: usize) -> Self {
        let mut message = Self::tcp(from, to, flags);
        message.bytes.splice(4..8, sequence.to_be_bytes());
        message.bytes.resize(message.bytes.len() + data, b'x');
        message
    }

    /// A packet of any protocol that begins with its ports.
    pub(crate) fn ported(protocol: u8, from: u16, to: u16) -> Self {
        let mut bytes = vec![0; 24];
        bytes.splice(0..2, from.to_be_bytes());
        bytes.splice(2..4, to.to_be_bytes());
        Self { protocol, bytes }
    }

    /// A packet of a protocol without ports; what it carries looks like ports.
    pub(crate) fn portless(protocol: u8) -> Self {
        Self::ported(protocol, 4321, 1234)
    }

    /// An ICMP message.
    pub(crate) fn icmp(family: Family, kind: u8, code: u8, rest: &[u8]) -> Self {
        Self {
            protocol: match family {
                Family::Ipv4 => ICMP,
                Family::Ipv6 => ICMPV6,
            },
            bytes: [&[kind, code, 0, 0], rest].concat(),
        }
    }

    /// An echo request with its identifier.
    pub(crate) fn echo_request(family: Family, identifier: u16) -> Self {
        let kind = match family {
            Family::Ipv4 => 8,
            Family::Ipv6 => 128,
        };
        Self::icmp(family, kind, 0, &echo(identifier))
    }

    /// An echo reply with its identifier.
    pub(crate) fn echo_reply(family: Family, identifier: u16) -> Self {
        let kind = match family {
            Family::Ipv4 => 0,
            Family::Ipv6 => 129,
        };
        Self::icmp(family, kind, 0, &echo(identifier))
    }

    /// An ICMP error about a packet.
    pub(crate) fn error(family: Family, kind: u8, code: u8, about: &[u8]) -> Self {
        Self::icmp(family, kind, code, &[&[0; 4], about].concat())
    }
}

/// Identifier, sequence number, payload.
fn echo(identifier: u16) -> Vec<u8> {
    [&identifier.to_be_bytes()[..], &[0, 7], b"0123456789"].concat()
}

/// Two hosts, one behind a downlink and one beyond the uplinks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) inside: IpAddr,
    pub(crate) outside: IpAddr,
}

impl Ends {
    /// A packet from inside.
    pub(crate) fn out(&self, message: Message) -> Packet {
        Packet::new(self.inside, self.outside, message)
    }

    /// A packet from outside.
    pub(crate) fn back(&self, message: Message) -> Packet {
        Packet::new(self.outside, self.inside, message)
    }

    /// The key of a flow between both.
    pub(crate) fn key(&self, protocol: u8, inside_port: u16, outside_port: u16) -> FlowKey {
        FlowKey {
            inside: address(self.inside),
            outside: address(self.outside),
            inside_port,
            outside_port,
            protocol,
            family: match self.inside {
                IpAddr::V4(_) => Family::Ipv4,
                IpAddr::V6(_) => Family::Ipv6,
            },
            reserved: [0; 2],
        }
    }
}

fn address(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// An IPv6 extension header; the length is in units of its own, beyond the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Extension {
    HopByHop(u8),
    Routing(u8),
    Destination(u8),
    Authentication(u8),
    /// The offset in units of 8 bytes, and whether more follow.
    Fragment(u16, bool),
}

impl Extension {
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::HopByHop(_) => 0,
            Self::Routing(_) => 43,
            Self::Fragment(..) => 44,
            Self::Authentication(_) => 51,
            Self::Destination(_) => 60,
        }
    }

    fn bytes(self, next: u8) -> Vec<u8> {
        let (length, size) = match self {
            Self::HopByHop(length) | Self::Routing(length) | Self::Destination(length) => {
                (length, (usize::from(length) + 1) * 8)
            }
            // Its least is 12 bytes, which it says as 1.
            Self::Authentication(length) => (length + 1, (usize::from(length) + 3) * 4),
            Self::Fragment(offset, more) => {
                let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
                return vec![next, 0, high, low, 0, 0, 0, 99];
            }
        };
        let mut bytes = vec![0; size];
        bytes.splice(0..2, [next, length]);
        bytes
    }
}

/// An IP packet.
#[derive(Clone, Debug)]
pub(crate) struct Packet {
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) message: Message,
    pub(crate) traffic_class: u8,
    /// How many routers may pass it on.
    pub(crate) hops: u8,
    /// The identification of an IPv4 packet, or a part of the flow label of an IPv6 packet.
    pub(crate) label: u16,
    /// An IPv4 packet must not be cut into fragments.
    pub(crate) whole: bool,
    /// IPv4 options, in words.
    pub(crate) options: usize,
    /// The offset of an IPv4 fragment in units of 8 bytes, and whether more follow.
    pub(crate) fragment: (u16, bool),
    /// IPv6 extension headers.
    pub(crate) extensions: Vec<Extension>,
}

impl Packet {
    pub(crate) fn new(source: IpAddr, destination: IpAddr, message: Message) -> Self {
        Self {
            source,
            destination,
            message,
            traffic_class: 0,
            hops: 64,
            label: 0,
            whole: true,
            options: 0,
            fragment: (0, false),
            extensions: Vec::new(),
        }
    }

    /// Writes the checksum of TCP or UDP, computed from all that it is about.
    pub(crate) fn sealed(mut self) -> Self {
        let at = match self.message.protocol {
            TCP => 16,
            UDP => 6,
            _ => return self,
        };
        let Some(field) = self.message.bytes.get_mut(at..at + 2) else {
            return self;
        };
        field.fill(0);
        let mut sum = Sum16BitWords::new();
        for address in [self.source, self.destination] {
            sum = match address {
                IpAddr::V4(address) => sum.add_4bytes(address.octets()),
                IpAddr::V6(address) => sum.add_16bytes(address.octets()),
            };
        }
        let length = u16::try_from(self.message.bytes.len()).unwrap_or_default();
        let sum = sum
            .add_2bytes([0, self.message.protocol])
            .add_2bytes(length.to_be_bytes())
            .add_slice(&self.message.bytes);
        let sum = match self.message.protocol {
            // 0 says that there is none (RFC 768).
            UDP => sum.to_ones_complement_with_no_zero(),
            _ => sum.ones_complement(),
        };
        // The library adds words as they stand in memory.
        self.message.bytes.splice(at..at + 2, sum.to_ne_bytes());
        self
    }

    /// From the IP header on.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let payload = &self.message.bytes;
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let (offset, more) = self.fragment;
                let mut header = Ipv4Header {
                    protocol: IpNumber(self.message.protocol),
                    source: source.octets(),
                    destination: destination.octets(),
                    time_to_live: self.hops,
                    identification: self.label,
                    dont_fragment: self.whole,
                    more_fragments: more,
                    fragment_offset: IpFragOffset::try_new(offset).unwrap_or_default(),
                    ..Ipv4Header::default()
                };
                // No operation, again and again.
                let options = vec![1; self.options * 4];
                header.options = options.as_slice().try_into().unwrap_or_default();
                header.set_payload_len(payload.len()).ok();
                header.header_checksum = header.calc_header_checksum();
                let mut bytes = header.to_bytes().to_vec();
                if let Some(class) = bytes.get_mut(1) {
                    *class = self.traffic_class;
                }
                [bytes, payload.clone()].concat()
            }
            (source, destination) => {
                let mut body = Vec::new();
                let mut following: Vec<u8> =
                    self.extensions.iter().map(|one| one.number()).collect();
                following.push(self.message.protocol);
                for (extension, next) in self.extensions.iter().zip(following.iter().skip(1)) {
                    body.extend(extension.bytes(*next));
                }
                body.extend(payload);
                let header = Ipv6Header {
                    traffic_class: self.traffic_class,
                    flow_label: Ipv6FlowLabel::try_new(self.label.into()).unwrap_or_default(),
                    payload_length: u16::try_from(body.len()).unwrap_or_default(),
                    next_header: IpNumber(following.first().copied().unwrap_or_default()),
                    hop_limit: self.hops,
                    source: address(source),
                    destination: address(destination),
                };
                [header.to_bytes().to_vec(), body].concat()
            }
        }
    }

    /// With an Ethernet header.
    pub(crate) fn frame(&self, to: [u8; 6]) -> Vec<u8> {
        let kind = match self.source {
            IpAddr::V4(_) => IPV4,
            IpAddr::V6(_) => IPV6,
        };
        frame(to, kind, &self.bytes())
    }
}

/// The shortest frame that the kernel takes for `BPF_PROG_TEST_RUN`: it wants the IP header whole.
pub(crate) const fn least(family: Family) -> usize {
    ETHERNET
        + match family {
            Family::Ipv4 => 20,
            Family::Ipv6 => 40,
        }
}

/// A frame of any kind.
pub(crate) fn frame(to: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &FROM, &kind.to_be_bytes(), payload].concat()
}
