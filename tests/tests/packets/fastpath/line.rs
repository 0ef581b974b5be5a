//! A flow as its packets look on both sides of the gateway.

use std::net::{IpAddr, SocketAddr};

use failover::fastpath::translation::Sides;
use failover::flows::Tuple;
use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Family, FlowKey, OffloadKey, Pair};

use crate::frames::{ACK, Ends, Message, Packet};
use crate::gateway::Gateway;

/// Which way a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From users.
    Out,
    /// To users.
    Back,
}

pub(super) const WAYS: [Way; 2] = [Way::Out, Way::Back];

/// A flow as its packets look on both sides of the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) protocol: u8,
    /// The user's host, as it knows itself.
    pub(crate) inside: SocketAddr,
    /// The other end, as the user's host knows it.
    pub(crate) outside: SocketAddr,
    /// The user's host, as providers know it.
    pub(crate) own: SocketAddr,
    /// The other end, as it knows itself.
    pub(crate) far: SocketAddr,
}

impl Line {
    /// A flow whose source is translated.
    pub(crate) fn new(gateway: &Gateway<'_>, protocol: u8) -> Self {
        let ends = gateway.ends();
        let own: IpAddr = match gateway.family {
            Family::Ipv4 => [198, 18, 11, 2].into(),
            Family::Ipv6 => [0xfd00, 0x18, 0x11, 0, 0, 0, 0, 2].into(),
        };
        let outside = SocketAddr::new(ends.outside, 443);
        Self {
            protocol,
            inside: SocketAddr::new(ends.inside, 40_000),
            outside,
            own: SocketAddr::new(own, 61_234),
            far: outside,
        }
    }

    /// The key of its flow.
    pub(crate) fn key(&self) -> FlowKey {
        let ends = Ends {
            inside: self.inside.ip(),
            outside: self.outside.ip(),
        };
        ends.key(self.protocol, self.inside.port(), self.outside.port())
    }

    /// The keys of its packets from users and from the provider, and what becomes of them: addresses
    /// and ports alone.
    pub(crate) fn offloaded(&self) -> (OffloadKey, OffloadKey, Pair) {
        let tuple = |source: SocketAddr, destination: SocketAddr| Tuple {
            source: source.ip(),
            destination: destination.ip(),
            source_port: source.port(),
            destination_port: destination.port(),
            identifier: 0,
        };
        let sides = Sides {
            users: tuple(self.inside, self.outside),
            provider: tuple(self.far, self.own),
        };
        let key = self.key();
        (
            sides.from_users(&key),
            sides.from_provider(&key),
            sides.pair(),
        )
    }

    /// From where to where its packets go before they come to the gateway.
    pub(super) const fn before(&self, way: Way) -> (SocketAddr, SocketAddr) {
        match way {
            Way::Out => (self.inside, self.outside),
            Way::Back => (self.far, self.own),
        }
    }

    /// From where to where they go after that.
    const fn after(&self, way: Way) -> (SocketAddr, SocketAddr) {
        match way {
            Way::Out => (self.own, self.far),
            Way::Back => (self.outside, self.inside),
        }
    }

    /// A packet of it as it comes to the gateway, with so many bytes in it.
    pub(crate) fn packet(&self, way: Way, data: usize) -> Packet {
        let payload: Vec<u8> = (0..=u8::MAX).cycle().skip(3).take(data).collect();
        self.carrying(way, &payload)
    }

    /// A packet of it as it comes to the gateway, with its checksum.
    pub(crate) fn carrying(&self, way: Way, payload: &[u8]) -> Packet {
        let (from, to) = self.before(way);
        let ports = (from.port(), to.port());
        let message = match self.protocol {
            TCP => {
                let mut message = Message::tcp(ports.0, ports.1, ACK);
                message.bytes.extend(payload);
                message
            }
            _ => datagram(ports, payload),
        };
        Packet::new(from.ip(), to.ip(), message).sealed()
    }

    /// What becomes of a packet.
    pub(crate) fn translated(&self, way: Way, packet: &Packet) -> Packet {
        let (from, to) = self.after(way);
        let mut sent = Packet {
            source: from.ip(),
            destination: to.ip(),
            hops: packet.hops.saturating_sub(1),
            ..packet.clone()
        };
        sent.message.bytes.splice(0..2, from.port().to_be_bytes());
        sent.message.bytes.splice(2..4, to.port().to_be_bytes());
        let unsummed = self.protocol == UDP && packet.message.bytes.get(6..8) == Some(&[0, 0]);
        if unsummed { sent } else { sent.sealed() }
    }
}

fn datagram((from, to): (u16, u16), payload: &[u8]) -> Message {
    let mut message = Message::ported(UDP, from, to);
    message.bytes.truncate(8);
    message.bytes.extend(payload);
    let length = u16::try_from(message.bytes.len()).unwrap_or_default();
    message.bytes.splice(4..6, length.to_be_bytes());
    message
}
