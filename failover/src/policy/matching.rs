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

/// The position of the first rule that a packet matches.
#[must_use]
pub fn first_match(rules: &[Rule], packet: &Facts) -> Option<usize> {
    rules.iter().position(|rule| rule.matching.holds(packet))
}

impl Matching {
    /// Whether all of it holds of a packet.
    #[must_use]
    pub fn holds(&self, packet: &Facts) -> bool {
        let ports = packet.protocol.has_ports();
        let came_by = |names: &BTreeSet<InterfaceName>| {
            let name = packet.interface.as_ref();
            name.is_some_and(|name| names.contains(name))
        };
        is(&self.interfaces, came_by)
            && is(&self.source, |set| set.contains(packet.source))
            && is(&self.destination, |set| set.contains(packet.destination))
            && is(&self.protocols, |set| set.contains(&packet.protocol))
            && is(&self.source_ports, |set| {
                ports && set.contains(packet.source_port)
            })
            && is(&self.ports, |set| ports && set.contains(packet.port))
            && is(&self.dscp, |set| set.contains(&packet.dscp))
            && is(&self.marks, |set| {
                set.iter().any(|mark| mark.holds(packet.mark))
            })
            && is(&self.macs, |set| {
                packet.mac.is_some_and(|mac| set.contains(&mac))
            })
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
