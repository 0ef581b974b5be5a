//! Brings the maps into the wanted state.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, RandomState};

use failover_common::{
    Affinity, Gateway, GatewayKey, Interface, Role as LayoutRole, SLOTS, Selection, SelectionKey,
    Uplink, UplinkFamily, UplinkState, maps,
};
use thiserror::Error;

use super::load::{LoadError, Programs};
use super::maps::{MapAccessError, Table};
use super::rules::Written;
use super::uplinks::UplinkTable;
use crate::config;
use crate::family::Family;
use crate::flows::layout_family;
use crate::status::State;
use crate::uplink::UplinkId;
use crate::wanted::dataplane::{DataPlane, FamilyEntry, GatewayEntry, Role, SelectionEntry};

/// Why the maps are not in the wanted state.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The object lacks a map.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// A map could not be read or written.
    #[error(transparent)]
    Map(#[from] MapAccessError),
}

type Interfaces<'m> = Table<'m, u32, Interface, 4, { size_of::<Interface>() }>;
type Gateways<'m> =
    Table<'m, GatewayKey, Gateway, { size_of::<GatewayKey>() }, { size_of::<Gateway>() }>;
pub(super) type Selections<'m> =
    Table<'m, SelectionKey, Selection, { size_of::<SelectionKey>() }, { size_of::<Selection>() }>;

impl Programs {
    /// Brings the maps into the wanted state. Selections come last: a flow is never given an uplink
    /// that the programs do not know.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn publish(
        &mut self,
        wanted: &DataPlane,
        written: &mut Written,
    ) -> Result<(), PublishError> {
        let mut table = UplinkTable::new(self.map_mut(maps::UPLINKS)?)?;
        let found = table.entries()?;
        let uplinks: BTreeMap<u32, Uplink> = wanted
            .uplinks
            .iter()
            .map(|(id, entry)| {
                let key = u32::from(id.get());
                let known = found.get(&key);
                let family = |family: Family| {
                    let former = known.map(|known| *known.family(layout_family(family)));
                    uplink_family(entry.families.get(family), former)
                };
                let uplink = Uplink {
                    interface: entry.interface.map_or(0, |index| index.0),
                    ipv4: family(Family::Ipv4),
                    ipv6: family(Family::Ipv6),
                };
                (key, uplink)
            })
            .collect();
        table.set(&uplinks)?;

        let interfaces = wanted
            .interfaces
            .iter()
            .map(|(index, attachment)| {
                let number = wanted.rules.downlinks.get(&attachment.name);
                let number = number.copied().unwrap_or(0);
                (index.0, interface(attachment.role, number))
            })
            .collect();
        Interfaces::new(maps::INTERFACES, self.map_mut(maps::INTERFACES)?)?.set(&interfaces)?;

        let gateways = wanted
            .gateways
            .iter()
            .map(|(entry, id)| (gateway_key(entry), gateway(*id)))
            .collect();
        Gateways::new(maps::GATEWAYS, self.map_mut(maps::GATEWAYS)?)?.set(&gateways)?;

        let common = wanted
            .selections
            .iter()
            .filter_map(|(family, entry)| {
                let key = SelectionKey::common(layout_family(family));
                Some((key, selection(entry)?))
            })
            .collect();
        self.publish_rules(written, &wanted.rules, &common)
    }

    /// Whether nothing was ever published into these maps, or not all of it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn is_unpublished(&mut self) -> Result<bool, PublishError> {
        let table = Selections::new(maps::SELECTION, self.map_mut(maps::SELECTION)?)?;
        Ok(table.entries()?.is_empty())
    }

    /// Raises the generation of an uplink: its flows are picked anew.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forget(&mut self, id: UplinkId, family: Family) -> Result<(), PublishError> {
        let mut table = UplinkTable::new(self.map_mut(maps::UPLINKS)?)?;
        let key = u32::from(id.get());
        if let Some(mut uplink) = table.get(key)? {
            let entry = match family {
                Family::Ipv4 => &mut uplink.ipv4,
                Family::Ipv6 => &mut uplink.ipv6,
            };
            entry.generation = after(entry.generation);
            table.put(key, &uplink)?;
        }
        Ok(())
    }
}

/// The generation after this one. 0 is that of an uplink that is not there.
const fn after(generation: u32) -> u32 {
    match generation.wrapping_add(1) {
        0 => 1,
        next => next,
    }
}

/// A generation that is known keeps: flows rely on it. A new one is any: flows that an uplink of
/// this id had before its entry was lost must not be taken for its flows of today.
fn uplink_family(entry: &FamilyEntry, former: Option<UplinkFamily>) -> UplinkFamily {
    let generation = match former {
        Some(former) if former.generation != 0 => former.generation,
        _ => after(any_generation()),
    };
    UplinkFamily {
        generation,
        state: match entry.state {
            State::Absent => UplinkState::Absent,
            State::Unknown => UplinkState::Unknown,
            State::Up => UplinkState::Up,
            State::Degraded => UplinkState::Degraded,
            State::Down => UplinkState::Down,
            State::Disabled => UplinkState::Disabled,
        },
        translates: entry.translates,
        reserved: [0; 2],
    }
}

/// The standard library seeds its hashers from the system's randomness.
fn any_generation() -> u32 {
    let [a, b, c, d, ..] = RandomState::new().hash_one(0_u8).to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

const fn interface(role: Role, downlink: u16) -> Interface {
    let (role, uplink) = match role {
        Role::Downlink => (LayoutRole::Downlink, 0),
        Role::Uplink(id) => (LayoutRole::Uplink, id.get()),
        Role::SharedUplink => (LayoutRole::SharedUplink, 0),
        Role::OneArm => (LayoutRole::OneArm, 0),
    };
    Interface {
        role,
        uplink,
        downlink,
    }
}

const fn gateway_key(entry: &GatewayEntry) -> GatewayKey {
    GatewayKey {
        interface: entry.interface.0,
        address: entry.mac.0,
        family: layout_family(entry.family),
        reserved: 0,
    }
}

fn gateway(id: Option<UplinkId>) -> Gateway {
    Gateway {
        uplink: id.map_or(0, UplinkId::get),
        reserved: [0; 3],
    }
}

/// Nothing where no slot has an uplink.
pub(super) fn selection(entry: &SelectionEntry) -> Option<Selection> {
    if entry.table.is_empty() {
        return None;
    }
    let mut slots = [0; SLOTS as usize];
    for (slot, (_, id)) in slots.iter_mut().zip(entry.table.iter()) {
        *slot = id.get();
    }
    let memory = entry.affinity.remembers().unwrap_or_default();
    Some(Selection {
        memory_ns: u64::try_from(memory.as_nanos()).unwrap_or(u64::MAX),
        identity: entry.identity.get(),
        ..Selection::new(layout_affinity(entry.affinity), slots)
    })
}

/// What is hashed.
#[must_use]
pub const fn layout_affinity(affinity: config::Affinity) -> Affinity {
    match affinity {
        config::Affinity::Flow => Affinity::Flow,
        config::Affinity::Pair(_) => Affinity::Pair,
        config::Affinity::Source(_) => Affinity::Source,
    }
}
