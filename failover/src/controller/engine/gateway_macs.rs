//! The hardware addresses of gateways behind interfaces that do not tell whose a packet is.
//!
//! Once known, an address stays until another one is told: a gateway that is dead answers nobody, and
//! what still comes from it is its own all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::Engine;
use crate::family::Family;
use crate::interface::InterfaceIndex;
use crate::network::{MacAddress, Neighbours};

/// Who a neighbour is: the interface behind which it is, and its address.
type Neighbour = (InterfaceIndex, IpAddr);

/// What is known.
#[derive(Debug, Default)]
pub(super) struct GatewayMacs {
    known: BTreeMap<Neighbour, MacAddress>,
}

impl GatewayMacs {
    /// Takes in what the kernel knows of neighbours. Returns whether that is news of a gateway.
    pub(super) fn learn(
        &mut self,
        neighbours: &Neighbours,
        gateways: &BTreeSet<Neighbour>,
    ) -> bool {
        let mut news = false;
        for gateway in gateways {
            if let Some(mac) = neighbours.get(gateway) {
                news |= self.known.insert(*gateway, *mac) != Some(*mac);
            }
        }
        news
    }

    /// Forgets what is behind other interfaces than these.
    pub(super) fn retain(&mut self, interfaces: &BTreeSet<InterfaceIndex>) {
        self.known
            .retain(|(index, _), _| interfaces.contains(index));
    }

    /// The address of a gateway.
    pub(super) fn of(&self, gateway: Neighbour) -> Option<MacAddress> {
        self.known.get(&gateway).copied()
    }
}

impl Engine {
    /// Takes in hardware addresses of neighbours.
    pub fn neighbours(&mut self, neighbours: &Neighbours) {
        if !neighbours.is_empty() {
            let gateways = self.gateways_by_mac();
            self.stale |= self.macs.learn(neighbours, &gateways);
        }
    }

    /// The interfaces whose gateways' hardware addresses count, as far as they exist.
    #[must_use]
    pub fn mixed_links(&self) -> BTreeSet<InterfaceIndex> {
        let mixed = self.config.mixed_interfaces();
        let index = |name| Some(self.view.links.get(name)?.index);
        mixed.iter().filter_map(index).collect()
    }

    /// The gateways whose hardware addresses count.
    fn gateways_by_mac(&self) -> BTreeSet<Neighbour> {
        let mixed = self.mixed_links();
        self.uplinks
            .values()
            .flat_map(|uplink| Family::ALL.map(|family| uplink.families.get(family).path()))
            .flatten()
            .filter(|path| mixed.contains(&path.interface))
            .filter_map(|path| Some((path.interface, path.gateway?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const B: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

    fn neighbour(host: u8) -> Neighbour {
        (InterfaceIndex(7), IpAddr::from([198, 18, 0, host]))
    }

    #[test]
    fn an_address_stays_until_another_is_told() {
        let mut macs = GatewayMacs::default();
        let gateways = [neighbour(1)].into();
        assert!(macs.learn(&[(neighbour(1), A), (neighbour(2), B)].into(), &gateways));
        assert!(!macs.learn(&[(neighbour(1), A)].into(), &gateways));
        assert!(!macs.learn(&BTreeMap::new(), &gateways));
        assert_eq!(
            (macs.of(neighbour(1)), macs.of(neighbour(2))),
            (Some(A), None)
        );
        assert!(macs.learn(&[(neighbour(1), B)].into(), &gateways));
        assert_eq!(macs.of(neighbour(1)), Some(B));
    }

    #[test]
    fn what_is_behind_another_interface_is_forgotten() {
        let mut macs = GatewayMacs::default();
        macs.learn(&[(neighbour(1), A)].into(), &[neighbour(1)].into());
        macs.retain(&[InterfaceIndex(8)].into());
        assert_eq!(macs.of(neighbour(1)), None);
    }
}
