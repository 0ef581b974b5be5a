//! What the TC programs should know, and where they should hang.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::config::{Affinity, FastPathSetting, Nat};
use crate::family::{Family, PerFamily};
use crate::interface::{InterfaceIndex, InterfaceName};
use crate::network::{LinkLayer, MacAddress};
use crate::policy::{Policy, PoolIdentity, RulePool};
use crate::select::SlotTable;
use crate::status::State;
use crate::uplink::UplinkId;
use crate::wanted::gateways::gateways;
use crate::wanted::{PickedBy, Situation, UplinkSituation};

/// The wanted state of the maps and attachments; empty when the programs are not used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataPlane {
    /// The uplinks.
    pub uplinks: BTreeMap<UplinkId, UplinkEntry>,
    /// The interfaces that exist now and that programs are to hang on.
    pub interfaces: BTreeMap<InterfaceIndex, Attachment>,
    /// Who new flows go to, by family.
    pub selections: PerFamily<SelectionEntry>,
    /// The user's rules.
    pub rules: RuleTable,
    /// Whose packets are that come from these addresses, where the interface does not tell. `None`:
    /// of one of several uplinks.
    pub gateways: BTreeMap<GatewayEntry, Option<UplinkId>>,
    /// Whether established flows may bypass routing and netfilter.
    pub fast_path: FastPathSetting,
}

/// The numbers by which rules name downlinks, 1 and above.
pub type DownlinkNumbers = BTreeMap<InterfaceName, u16>;

/// The user's rules, and who their flows go to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleTable {
    /// The rules.
    pub policy: Arc<Policy>,
    /// The numbers of the downlinks.
    pub downlinks: DownlinkNumbers,
    /// Who flows go to, by the position of their rule's pool and by family.
    pub pools: Vec<PerFamily<SelectionEntry>>,
}

/// A gateway behind an interface that does not tell whose a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatewayEntry {
    /// The interface.
    pub interface: InterfaceIndex,
    /// The family of its packets.
    pub family: Family,
    /// The address that they come from.
    pub mac: MacAddress,
}

/// An uplink as the programs know it. The generation is the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UplinkEntry {
    /// Its interface, while that exists.
    pub interface: Option<InterfaceIndex>,
    /// How it stands, by family.
    pub families: PerFamily<FamilyEntry>,
}

/// An uplink in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FamilyEntry {
    /// Its state.
    pub state: State,
    /// Sources are translated to its own address.
    pub translates: bool,
}

/// Which uplink a new flow of one family gets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectionEntry {
    /// What the pool is known by.
    pub identity: PoolIdentity,
    /// What is hashed.
    pub affinity: Affinity,
    /// Uplink by hash slot; empty when there is none.
    pub table: SlotTable,
}

/// An interface that programs are to hang on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its name.
    pub name: InterfaceName,
    /// What its packets begin with.
    pub layer: LinkLayer,
    /// What it is to us.
    pub role: Role,
}

/// What an interface is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Users are behind it, and no uplink.
    Downlink,
    /// This uplink, and no other, is behind it.
    Uplink(UplinkId),
    /// Several uplinks are behind it.
    SharedUplink,
    /// Users are behind it, and one uplink or several.
    OneArm,
}

/// What the programs should know in this situation.
#[must_use]
pub fn data_plane(situation: &Situation) -> DataPlane {
    if situation.picked_by != PickedBy::Tc {
        return DataPlane::default();
    }
    DataPlane {
        uplinks: situation
            .uplinks
            .iter()
            .map(|uplink| (uplink.id, entry(situation, uplink)))
            .collect(),
        interfaces: interfaces(situation),
        selections: PerFamily::from_fn(|family| SelectionEntry {
            identity: PoolIdentity::COMMON,
            affinity: situation.affinity,
            table: situation.pools.get(family).table.clone(),
        }),
        rules: rules(situation),
        fast_path: situation.fast_path,
        gateways: gateways(situation)
            .into_iter()
            .filter_map(|(gateway, id)| {
                let entry = GatewayEntry {
                    interface: situation.links.get(&gateway.interface)?.index,
                    family: gateway.family,
                    mac: gateway.mac,
                };
                Some((entry, id))
            })
            .collect(),
    }
}

fn rules(situation: &Situation) -> RuleTable {
    let downlinks = situation.downlinks.iter().cloned();
    let entry = |rule_pool: &RulePool, family| SelectionEntry {
        identity: rule_pool.identity,
        affinity: rule_pool.affinity,
        table: match rule_pool.pools.get(family) {
            Some(pool) => pool.table.clone(),
            None => SlotTable::default(),
        },
    };
    let pools = situation.rule_pools.iter();
    RuleTable {
        policy: Arc::clone(&situation.policy),
        downlinks: downlinks.zip(1..).collect(),
        pools: pools
            .map(|pool| PerFamily::from_fn(|family| entry(pool, family)))
            .collect(),
    }
}

fn entry(situation: &Situation, uplink: &UplinkSituation) -> UplinkEntry {
    UplinkEntry {
        interface: situation
            .links
            .get(&uplink.interface)
            .map(|link| link.index),
        families: uplink.states.map(|state| FamilyEntry {
            state,
            translates: uplink.nat == Nat::Masquerade,
        }),
    }
}

fn interfaces(situation: &Situation) -> BTreeMap<InterfaceIndex, Attachment> {
    let uplinks: Vec<(UplinkId, &InterfaceName)> = situation
        .uplinks
        .iter()
        .map(|uplink| (uplink.id, &uplink.interface))
        .collect();
    attachments(&uplinks, situation.downlinks.iter(), |name| {
        let link = situation.links.get(name)?;
        Some((link.index, link.layer))
    })
}

/// The interfaces that programs are to hang on, of those that `find` knows by name. One that is
/// uplink and downlink at once, and whose packets have no hardware addresses that would say which way
/// they go, is an uplink here.
#[must_use]
pub fn attachments<'n>(
    uplinks: &[(UplinkId, &'n InterfaceName)],
    downlinks: impl Iterator<Item = &'n InterfaceName>,
    find: impl Fn(&InterfaceName) -> Option<(InterfaceIndex, LinkLayer)>,
) -> BTreeMap<InterfaceIndex, Attachment> {
    let downlinks: BTreeSet<&InterfaceName> = downlinks.collect();
    let role = |id: UplinkId, name: &InterfaceName, layer| {
        let shared = uplinks
            .iter()
            .any(|(other, theirs)| *other != id && *theirs == name);
        if layer == LinkLayer::Ethernet && downlinks.contains(name) {
            Role::OneArm
        } else if shared {
            Role::SharedUplink
        } else {
            Role::Uplink(id)
        }
    };
    downlinks
        .iter()
        .map(|name| (*name, None))
        .chain(uplinks.iter().map(|(id, name)| (*name, Some(*id))))
        .filter_map(|(name, uplink)| {
            let (index, layer) = find(name)?;
            let role = uplink.map_or(Role::Downlink, |id| role(id, name, layer));
            let attachment = Attachment {
                name: name.clone(),
                layer,
                role,
            };
            Some((index, attachment))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wanted::fixture;

    fn roles(situation: &Situation) -> Vec<(u32, Role)> {
        data_plane(situation)
            .interfaces
            .iter()
            .map(|(index, attachment)| (index.0, attachment.role))
            .collect()
    }

    fn by_tc() -> Situation {
        let mut situation = fixture::three_uplinks();
        situation.picked_by = PickedBy::Tc;
        situation
    }

    fn id(n: u8) -> UplinkId {
        UplinkId::try_from(n).unwrap()
    }

    #[test]
    fn classic_mode_wants_nothing_of_the_programs() {
        assert_eq!(data_plane(&fixture::three_uplinks()), DataPlane::default());
    }

    #[test]
    fn only_interfaces_that_exist_get_programs() {
        let mut situation = by_tc();
        situation.links.remove(&"wan2".parse().unwrap());
        assert_eq!(
            roles(&situation),
            [
                (1, Role::Downlink),
                (11, Role::Uplink(id(1))),
                (13, Role::Uplink(id(3)))
            ]
        );
        assert_eq!(data_plane(&situation).uplinks[&id(2)].interface, None);
    }

    #[test]
    fn an_interface_that_is_both_has_one_role() {
        let mut situation = by_tc();
        let wan1 = "wan1".parse().unwrap();
        situation.downlinks.push(wan1);
        assert!(roles(&situation).contains(&(11, Role::OneArm)));
        let [_, wan1, ..] = situation.downlinks.as_slice() else {
            panic!("two downlinks");
        };
        situation.links.get_mut(wan1).unwrap().layer = LinkLayer::None;
        assert!(roles(&situation).contains(&(11, Role::Uplink(id(1)))));
    }

    #[test]
    fn the_programs_know_gateways_by_the_interfaces_that_exist() {
        let mut situation = fixture::one_arm();
        situation.picked_by = PickedBy::Tc;
        let known = data_plane(&situation).gateways;
        let first = GatewayEntry {
            interface: InterfaceIndex(11),
            family: Family::Ipv4,
            mac: MacAddress([2, 0, 0, 0, 0, 1]),
        };
        assert_eq!(known.get(&first), Some(&Some(id(1))));
        assert_eq!(known.len(), 4);
        situation.links.remove(&"wan1".parse().unwrap());
        assert!(data_plane(&situation).gateways.is_empty());
    }

    #[test]
    fn uplinks_of_one_interface_cannot_be_told_apart_by_it() {
        let mut situation = by_tc();
        situation.uplinks[1].interface = situation.uplinks[0].interface.clone();
        assert!(roles(&situation).contains(&(11, Role::SharedUplink)));
    }
}
