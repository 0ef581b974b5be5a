//! Which rule a packet matches: the plain model that the TC programs and the own nftables table must
//! agree with.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::rule::{Dscp, Matching, Rule};
use crate::flows::Protocol;
use crate::interface::InterfaceName;
use crate::network::MacAddress;

/// What rules look at in the first packet of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The interface that it came in by; none for the router's own.
    pub interface: Option<InterfaceName>,
    /// Where it comes from.
    pub source: IpAddr,
    /// Where it goes; of the same family.
    pub destination: IpAddr,
    /// What it speaks, for IPv6 behind the extension headers.
    pub protocol: Protocol,
    /// The port that it comes from; 0 without ports.
    pub source_port: u16,
    /// The port that it goes to; 0 without ports.
    pub port: u16,
    /// Its code point.
    pub dscp: Dscp,
    /// Its mark, without our bits.
    pub mark: u32,
    /// The hardware address that it comes from; none for the router's own, and on interfaces without
    /// such addresses.
    pub mac: Option<MacAddress>,
}

/// What is left of that when a flow is known and its first packet is gone: what all packets have in
/// common that its host inside sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowFacts<'f> {
    /// The interface that they come in by; none for the router's own.
    pub interface: Option<&'f InterfaceName>,
    /// Where they come from.
    pub source: IpAddr,
    /// Where they go; of the same family.
    pub destination: IpAddr,
    /// What they speak.
    pub protocol: Protocol,
    /// The port that they come from; 0 without ports.
    pub source_port: u16,
    /// The port that they go to; 0 without ports.
    pub port: u16,
}

impl Facts {
    /// What tells the flow.
    #[must_use]
    pub const fn flow(&self) -> FlowFacts<'_> {
        FlowFacts {
            interface: self.interface.as_ref(),
            source: self.source,
            destination: self.destination,
            protocol: self.protocol,
            source_port: self.source_port,
            port: self.port,
        }
    }
}

/// The position of the first rule that a packet matches.
#[must_use]
pub fn first_match(rules: &[Rule], packet: &Facts) -> Option<usize> {
    rules.iter().position(|rule| rule.matching.holds(packet))
}

impl Matching {
    /// Whether all of it holds of a packet.
    #[must_use]
    pub fn holds(&self, packet: &Facts) -> bool {
        self.may_hold(&packet.flow())
            && is(&self.dscp, |set| set.contains(&packet.dscp))
            && is(&self.marks, |set| {
                set.iter().any(|mark| mark.holds(packet.mark))
            })
            && is(&self.macs, |set| {
                packet.mac.is_some_and(|mac| set.contains(&mac))
            })
    }

    /// Whether all of it that can be told of a flow holds of it.
    #[must_use]
    pub fn may_hold(&self, flow: &FlowFacts<'_>) -> bool {
        let ports = flow.protocol.has_ports();
        let came_by = |names: &BTreeSet<InterfaceName>| {
            let name = flow.interface;
            name.is_some_and(|name| names.contains(name))
        };
        is(&self.interfaces, came_by)
            && is(&self.source, |set| set.contains(flow.source))
            && is(&self.destination, |set| set.contains(flow.destination))
            && is(&self.protocols, |set| set.contains(&flow.protocol))
            && is(&self.source_ports, |set| {
                ports && set.contains(flow.source_port)
            })
            && is(&self.ports, |set| ports && set.contains(flow.port))
    }

    /// Whether all of it can be told of a flow.
    #[must_use]
    pub const fn is_told_by_flow(&self) -> bool {
        self.dscp.is_none() && self.marks.is_none() && self.macs.is_none()
    }
}

impl<A> Matching<A> {
    /// The protocols that a packet may speak; `None`: any. Ports mean nothing where a protocol has none.
    #[must_use]
    pub fn spoken(&self) -> Option<Vec<Protocol>> {
        let by_port = self.ports.is_some() || self.source_ports.is_some();
        let fits = |protocol: &Protocol| !by_port || protocol.has_ports();
        match &self.protocols {
            None if !by_port => None,
            None => Some((0..=u8::MAX).map(Protocol).filter(fits).collect()),
            Some(named) => Some(named.iter().copied().filter(fits).collect()),
        }
    }
}

/// Whether a condition holds; one that is not there does.
pub(super) fn is<C>(condition: &Option<C>, holds: impl FnOnce(&C) -> bool) -> bool {
    condition.as_ref().is_none_or(holds)
}
