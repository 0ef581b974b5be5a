//! Lets single flows of an uplink go that works and keeps others.
//!
//! The uplink's generation would let all of them go. So a released flow is given one that is past,
//! and its next packet is picked anew. Until connection tracking has forgotten the flow too, that
//! packet leaves by the old uplink all the same, and the answer to it would take the flow back: so the
//! uplink teaches nothing meanwhile.

use failover_common::{Flow, FlowKey, UplinkState, maps};

use super::load::Programs;
use super::maps::Table;
use super::publish::PublishError;
use super::uplinks::UplinkTable;
use crate::family::Family;
use crate::flows::layout_family;
use crate::uplink::UplinkId;

type Flows<'m> = Table<'m, FlowKey, Flow, { size_of::<FlowKey>() }, { size_of::<Flow>() }>;

impl Programs {
    /// Sets an uplink's state, as the programs know it, and returns what it was. `None` if they do not
    /// know the uplink.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_state(
        &mut self,
        id: UplinkId,
        family: Family,
        state: UplinkState,
    ) -> Result<Option<UplinkState>, PublishError> {
        let mut table = UplinkTable::new(self.map_mut(maps::UPLINKS)?)?;
        let key = u32::from(id.get());
        let Some(mut uplink) = table.get(key)? else {
            return Ok(None);
        };
        let entry = match family {
            Family::Ipv4 => &mut uplink.ipv4,
            Family::Ipv6 => &mut uplink.ipv6,
        };
        let former = std::mem::replace(&mut entry.state, state);
        table.put(key, &uplink)?;
        Ok(Some(former))
    }

    /// Has flows of an uplink picked anew with their next packet. What is not known, or known to be on
    /// another uplink, is left out.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn release(
        &mut self,
        id: UplinkId,
        family: Family,
        flows: impl Iterator<Item = FlowKey>,
    ) -> Result<(), PublishError> {
        let uplinks = UplinkTable::new(self.map_mut(maps::UPLINKS)?)?;
        let Some(uplink) = uplinks.get(id.get().into())? else {
            return Ok(());
        };
        let past = uplink
            .family(layout_family(family))
            .generation
            .wrapping_sub(1);
        let mut table = Flows::new(maps::FLOWS, self.map_mut(maps::FLOWS)?)?;
        for key in flows {
            if let Some(mut flow) = table.get(&key)?
                && flow.uplink == id.get()
            {
                // What is counted between reading and writing is lost.
                flow.generation = past;
                table.replace(&key, &flow)?;
            }
        }
        Ok(())
    }
}
