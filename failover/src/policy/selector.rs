//! Which packets an `ip rule` is for.

use std::net::IpAddr;

use ipnet::IpNet;

use super::ports::PortRange;
use super::rule::MarkMatch;
use crate::flows::Protocol;
use crate::interface::InterfaceName;

/// Which packets an `ip rule` is for: those of which everything that is said holds. `None` holds of
/// all.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    /// Their mark (`fwmark`).
    pub mark: Option<MarkMatch>,
    /// Where they come from (`from`). A socket that is bound to no address has none yet when it asks.
    pub source: Option<IpNet>,
    /// Where they go (`to`).
    pub destination: Option<IpNet>,
    /// What they speak (`ipproto`).
    pub protocol: Option<Protocol>,
    /// The ports that they come from (`sport`), where they speak a protocol with ports.
    pub source_ports: Option<PortRange>,
    /// The ports that they go to (`dport`), likewise.
    pub ports: Option<PortRange>,
    /// The interface that the socket is bound to (`oif`).
    pub bound_to: Option<InterfaceName>,
}

impl Selector {
    /// All packets.
    pub const ALL: Self = Self {
        mark: None,
        source: None,
        destination: None,
        protocol: None,
        source_ports: None,
        ports: None,
        bound_to: None,
    };

    /// Those whose mark has `value` under `mask`.
    #[must_use]
    pub fn mark(value: u32, mask: u32) -> Self {
        Self {
            mark: Some(MarkMatch { mask, value }),
            ..Self::ALL
        }
    }

    /// Those from one address.
    #[must_use]
    pub fn from(address: IpAddr) -> Self {
        Self {
            source: Some(address.into()),
            ..Self::ALL
        }
    }

    /// Those of which both hold; the two speak of different things.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            mark: self.mark.or(other.mark),
            source: self.source.or(other.source),
            destination: self.destination.or(other.destination),
            protocol: self.protocol.or(other.protocol),
            source_ports: self.source_ports.or(other.source_ports),
            ports: self.ports.or(other.ports),
            bound_to: self.bound_to.or(other.bound_to),
        }
    }
}
