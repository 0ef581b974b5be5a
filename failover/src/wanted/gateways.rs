//! Whose a packet is that comes in where the interface does not tell: told by the hardware address
//! that it comes from.
//!
//! Several uplinks may share an interface, and users may be behind the same one (one arm). A packet
//! from a gateway's address came in by that gateway's uplink; on one arm, every other is a user's.

use std::collections::BTreeMap;

use crate::family::Family;
use crate::interface::InterfaceName;
use crate::network::MacAddress;
use crate::uplink::UplinkId;
use crate::wanted::Situation;

/// A gateway as the packets name it that come from it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gateway {
    /// The interface behind which it is.
    pub interface: InterfaceName,
    /// The family of the packets. A router may be the gateway of one uplink in one family, and of
    /// another one in the other.
    pub family: Family,
    /// The address that they come from.
    pub mac: MacAddress,
}

/// The known gateways behind interfaces that several uplinks or users share. `None` stands for one
/// that is the gateway of several uplinks, so that nothing tells whose its packets are.
#[must_use]
pub fn gateways(situation: &Situation) -> BTreeMap<Gateway, Option<UplinkId>> {
    let mut gateways = BTreeMap::new();
    let mixed = situation
        .uplinks
        .iter()
        .filter(|uplink| !situation.has_own_interface(uplink));
    for uplink in mixed {
        for (family, mac) in uplink.macs.iter() {
            let Some(mac) = *mac else {
                continue;
            };
            let gateway = Gateway {
                interface: uplink.interface.clone(),
                family,
                mac,
            };
            gateways
                .entry(gateway)
                .and_modify(|whose| *whose = None)
                .or_insert(Some(uplink.id));
        }
    }
    gateways
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::fixture;

    fn whose(situation: &Situation) -> Vec<(String, Family, Option<u8>)> {
        gateways(situation)
            .into_iter()
            .map(|(gateway, id)| {
                let name = format!("{} {}", gateway.interface, gateway.mac);
                (name, gateway.family, id.map(UplinkId::get))
            })
            .collect()
    }

    #[test]
    fn gateways_behind_interfaces_of_their_own_need_no_address() {
        let mut situation = fixture::three_uplinks();
        situation.uplinks[0].macs.ipv4 = Some(MacAddress([2, 0, 0, 0, 0, 1]));
        assert_eq!(gateways(&situation), BTreeMap::new());
        situation.downlinks.push("wan1".parse().unwrap());
        assert_eq!(
            whose(&situation),
            [("wan1 02:00:00:00:00:01".to_owned(), Family::Ipv4, Some(1))]
        );
    }

    #[test]
    fn a_router_that_is_the_gateway_of_two_uplinks_tells_neither() {
        let mut situation = fixture::shared();
        assert_eq!(
            whose(&situation),
            [
                ("wan1 02:00:00:00:00:01".to_owned(), Family::Ipv4, Some(1)),
                ("wan1 02:00:00:00:00:02".to_owned(), Family::Ipv4, Some(2)),
                ("wan1 02:00:00:00:00:01".to_owned(), Family::Ipv6, Some(1)),
                ("wan1 02:00:00:00:00:02".to_owned(), Family::Ipv6, Some(2)),
            ]
        );
        situation.uplinks[1].macs.ipv4 = situation.uplinks[0].macs.ipv4;
        let found = whose(&situation);
        assert_eq!(
            found[0],
            ("wan1 02:00:00:00:00:01".to_owned(), Family::Ipv4, None)
        );
        assert_eq!(found.len(), 3);
    }
}
