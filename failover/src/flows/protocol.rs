//! What a flow speaks, by number and by name.

use std::fmt;
use std::str::FromStr;

use failover_common::lifetime::protocol;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An IP protocol number (IANA), for IPv6 that behind the extension headers. Written by name where
/// it is a usual one, else as the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Protocol(pub u8);

/// A text is no protocol.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("`{0}` is neither the name of an IP protocol nor a number from 0 to 255")]
pub struct InvalidProtocol(String);

const NAMES: [(u8, &str); 12] = [
    (protocol::ICMP, "icmp"),
    (2, "igmp"),
    (4, "ipip"),
    (protocol::TCP, "tcp"),
    (protocol::UDP, "udp"),
    (protocol::DCCP, "dccp"),
    (41, "ipv6"),
    (47, "gre"),
    (50, "esp"),
    (protocol::ICMPV6, "icmpv6"),
    (protocol::SCTP, "sctp"),
    (protocol::UDPLITE, "udplite"),
];

impl Protocol {
    /// TCP.
    pub const TCP: Self = Self(protocol::TCP);

    /// Whether its flows are told apart by ports.
    #[must_use]
    pub const fn has_ports(self) -> bool {
        matches!(
            self.0,
            protocol::TCP | protocol::UDP | protocol::UDPLITE | protocol::SCTP | protocol::DCCP
        )
    }

    /// Whether its flows are told apart by the identifier of an echo.
    #[must_use]
    pub const fn has_identifier(self) -> bool {
        matches!(self.0, protocol::ICMP | protocol::ICMPV6)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((_, name)) => f.pad(name),
            None => self.0.fmt(f),
        }
    }
}

impl FromStr for Protocol {
    type Err = InvalidProtocol;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = NAMES.iter().find(|(_, name)| *name == text);
        named
            .map(|(number, _)| *number)
            .or_else(|| text.parse().ok())
            .map(Self)
            .ok_or_else(|| InvalidProtocol(text.to_owned()))
    }
}

impl TryFrom<String> for Protocol {
    type Error = InvalidProtocol;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Protocol> for String {
    fn from(protocol: Protocol) -> Self {
        protocol.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_told_and_read_again() {
        for number in 0..=u8::MAX {
            let protocol = Protocol(number);
            assert_eq!(protocol.to_string().parse(), Ok(protocol));
        }
        assert_eq!(Protocol(6).to_string(), "tcp");
        assert_eq!(Protocol(99).to_string(), "99");
        assert!("quic".parse::<Protocol>().is_err());
    }
}
