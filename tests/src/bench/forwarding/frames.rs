//! The frames that are measured with: prepared before, so that sending them is all that is timed.
//!
//! They go to addresses that nobody has. Each flow has a port of the client's and a destination of its
//! own, so that a translation never has to look for another port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{PacketBuilder, TcpHeader};
use failover::family::Family;

use super::Protocol;
use crate::chance::Chance;
use crate::error::LabError;

/// The network that flows go to, 192.0.2.0/24, and the first bytes of the IPv6 one, fd00:192::/32.
pub(super) const NOBODY_IPV4: [u8; 4] = [192, 0, 2, 0];
pub(super) const NOBODY_IPV6: [u8; 4] = [0xfd, 0x00, 0x01, 0x92];

/// The port that flows go to.
const PORT: u16 = 9;
/// How many flows go to one address, each from another port.
const PORTS: u32 = 50_000;
const FIRST_PORT: u32 = 10_000;
/// How many addresses there are.
const ADDRESSES: u32 = 250;

/// The sequence numbers with which both ends begin.
const OURS: u32 = 1000;
const THEIRS: u32 = 5000;
const WINDOW: u16 = 65_535;

/// What a frame of a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One of many.
    Data,
    /// The first of a TCP connection.
    Syn,
}

/// Flows that differ from each other, and from those with other numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flows {
    pub(super) family: Family,
    pub(super) protocol: Protocol,
    /// The number of the first.
    pub(super) first: u32,
    pub(super) count: u32,
}

/// Between whom frames go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hop {
    pub(super) from: [u8; 6],
    pub(super) to: [u8; 6],
    /// The client's address.
    pub(super) client: IpAddr,
}

/// A flow's two ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ends {
    pub(super) destination: IpAddr,
    pub(super) ports: (u16, u16),
}

/// Frames of equal length.
#[derive(Clone, Debug)]
pub(super) struct Frames {
    bytes: Vec<u8>,
    length: usize,
}

impl Frames {
    /// One after the other.
    pub(super) fn each(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(self.length.max(1))
    }

    /// The same in an order that is none, and always the same: packets do not come in the order in which
    /// their flows began. Where entries lie in memory in that order the processor would fetch them before
    /// they are asked for, which no gateway can count on.
    pub(super) fn mixed(&self) -> Self {
        let mut chance = Chance::from_seed(0);
        let mut frames: Vec<(u64, &[u8])> =
            self.each().map(|frame| (chance.number(), frame)).collect();
        frames.sort_unstable();
        let frames: Vec<&[u8]> = frames.into_iter().map(|(_, frame)| frame).collect();
        Self {
            bytes: frames.concat(),
            length: self.length,
        }
    }
}

impl Flows {
    /// The ends of all.
    pub(super) fn ends(self) -> impl Iterator<Item = Ends> {
        (self.first..self.first.saturating_add(self.count)).map(move |number| {
            let host = number / PORTS % ADDRESSES + 1;
            let port = FIRST_PORT + number % PORTS;
            let destination = match self.family {
                Family::Ipv4 => {
                    let base = Ipv4Addr::from(NOBODY_IPV4).to_bits();
                    IpAddr::from(Ipv4Addr::from_bits(base + host))
                }
                Family::Ipv6 => {
                    let [a, b, c, d] = NOBODY_IPV6;
                    let base = u128::from(u32::from_be_bytes([a, b, c, d])) << 96;
                    IpAddr::from(Ipv6Addr::from_bits(base + u128::from(host)))
                }
            };
            Ends {
                destination,
                // Both are below 65,536.
                ports: (u16::try_from(port).unwrap_or_default(), PORT),
            }
        })
    }

    /// A frame of each, of the length that is wanted or, where headers take more, of theirs.
    pub(super) fn frames(self, kind: Kind, hop: Hop, length: usize) -> Result<Frames, LabError> {
        let mut bytes = Vec::new();
        let mut found = 0;
        for ends in self.ends() {
            let before = bytes.len();
            write(&mut bytes, self.protocol, kind, hop, ends, length)?;
            found = bytes.len() - before;
        }
        let length = found;
        Ok(Frames { bytes, length })
    }
}

fn write(
    bytes: &mut Vec<u8>,
    protocol: Protocol,
    kind: Kind,
    hop: Hop,
    ends: Ends,
    length: usize,
) -> Result<(), LabError> {
    let ethernet = PacketBuilder::ethernet2(hop.from, hop.to);
    let (ip, header) = match (hop.client, ends.destination) {
        (IpAddr::V4(from), IpAddr::V4(to)) => (ethernet.ipv4(from.octets(), to.octets(), 64), 34),
        (IpAddr::V6(from), IpAddr::V6(to)) => (ethernet.ipv6(from.octets(), to.octets(), 64), 54),
        (from, to) => {
            let reason = format!("no packet goes from {from} to {to}");
            return Err(LabError::Layout { reason });
        }
    };
    let (from, to) = ends.ports;
    let payload = |header: usize| vec![0; length.saturating_sub(header)];
    let written = match protocol {
        Protocol::Udp => ip.udp(from, to).write(bytes, &payload(header + 8)),
        Protocol::Tcp => {
            let mut tcp = TcpHeader::new(from, to, OURS, WINDOW);
            match kind {
                Kind::Syn => {
                    tcp.syn = true;
                    // Nobody looks at it, and the far end takes it for its own.
                    tcp.acknowledgment_number = THEIRS;
                }
                Kind::Data => {
                    tcp.sequence_number = OURS + 1;
                    tcp.acknowledgment_number = THEIRS + 1;
                    tcp.ack = true;
                }
            }
            let payload = match kind {
                Kind::Syn => Vec::new(),
                Kind::Data => payload(header + 20),
            };
            ip.tcp_header(tcp).write(bytes, &payload)
        }
    };
    written.map_err(|error| LabError::io("write a packet")(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const HOP: Hop = Hop {
        from: [2, 0, 0, 0, 0, 1],
        to: [2, 0, 0, 0, 0, 2],
        client: IpAddr::V4(Ipv4Addr::new(198, 18, 0, 10)),
    };

    fn flows(protocol: Protocol, first: u32, count: u32) -> Flows {
        Flows {
            family: Family::Ipv4,
            protocol,
            first,
            count,
        }
    }

    #[test]
    fn mixed_frames_are_the_same_in_another_order() {
        let frames = flows(Protocol::Udp, 0, 100).frames(Kind::Data, HOP, 60);
        let frames = frames.expect("they can be written");
        let mixed = frames.mixed();
        let in_order: Vec<&[u8]> = frames.each().collect();
        let out_of_order: Vec<&[u8]> = mixed.each().collect();
        let next_to_each_other = out_of_order.windows(2).filter(|two| {
            let place = |frame| in_order.iter().position(|one| *one == frame);
            place(two[0]).map(|first| first + 1) == place(two[1])
        });
        assert!(next_to_each_other.count() < 10);
        let set = |frames: &[&[u8]]| frames.iter().map(|one| one.to_vec()).collect();
        let (before, after): (BTreeSet<Vec<u8>>, BTreeSet<_>) =
            (set(&in_order), set(&out_of_order));
        assert_eq!(before, after);
    }

    #[test]
    fn frames_have_the_length_that_is_wanted() {
        for protocol in [Protocol::Udp, Protocol::Tcp] {
            for length in [60, 1400] {
                let frames = flows(protocol, 0, 3).frames(Kind::Data, HOP, length);
                let frames = frames.expect("they can be written");
                assert_eq!(
                    frames.each().map(<[u8]>::len).collect::<Vec<_>>(),
                    [length; 3]
                );
            }
        }
    }

    #[test]
    fn no_two_flows_are_alike() {
        let ends: BTreeSet<_> = flows(Protocol::Udp, 49_990, 100_000)
            .ends()
            .map(|ends| (ends.destination, ends.ports))
            .collect();
        assert_eq!(ends.len(), 100_000);
        assert!(ends.iter().all(|(destination, _)| match destination {
            IpAddr::V4(address) => address.octets().starts_with(&NOBODY_IPV4[..3]),
            IpAddr::V6(_) => false,
        }));
    }
}
