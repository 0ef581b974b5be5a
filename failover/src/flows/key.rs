//! Keys of the flow table, from addresses and ports and back.

use std::net::IpAddr;

use failover_common::{Family as LayoutFamily, FlowKey};

use crate::family::Family;
use crate::flows::{Protocol, TrackedFlow};

/// How the TC programs know a flow that began inside.
#[must_use]
pub fn outbound_key(flow: &TrackedFlow) -> FlowKey {
    let asked = &flow.original;
    let from = if flow.protocol.has_identifier() {
        asked.identifier
    } else {
        asked.source_port
    };
    let (from, to) = (
        (asked.source, from),
        (asked.destination, asked.destination_port),
    );
    key_of(flow.protocol, from, to)
}

/// How the TC programs know a flow from inside, by its ends there. Its port from inside is the
/// identifier of an echo.
#[must_use]
pub fn key_of(
    protocol: Protocol,
    (source, source_port): (IpAddr, u16),
    (destination, port): (IpAddr, u16),
) -> FlowKey {
    let (inside_port, outside_port) = if protocol.has_identifier() {
        (source_port, 0)
    } else if protocol.has_ports() {
        (source_port, port)
    } else {
        (0, 0)
    };
    FlowKey {
        inside: bytes(source),
        outside: bytes(destination),
        inside_port,
        outside_port,
        protocol: protocol.0,
        family: layout_family(Family::of(source)),
        reserved: [0; 2],
    }
}

/// An address as it stands in keys.
pub(crate) fn bytes(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        }
        IpAddr::V6(address) => address.octets(),
    }
}

/// A family as the programs know it.
pub(crate) const fn layout_family(family: Family) -> LayoutFamily {
    match family {
        Family::Ipv4 => LayoutFamily::Ipv4,
        Family::Ipv6 => LayoutFamily::Ipv6,
    }
}

/// An address from a key.
pub(crate) fn address(bytes: [u8; 16], family: LayoutFamily) -> IpAddr {
    match family {
        LayoutFamily::Ipv4 => {
            let [a, b, c, d, ..] = bytes;
            IpAddr::from([a, b, c, d])
        }
        LayoutFamily::Ipv6 => IpAddr::from(bytes),
    }
}
