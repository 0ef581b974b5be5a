//! What the configuration and the network allow.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::facts::PassingPacket;
use super::standing::Why;
use crate::interface::{InterfaceIndex, InterfaceName};
use crate::mark::MarkMask;
use crate::policy::{FlowFacts, Policy};
use crate::uplink::UplinkId;

/// What is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whether flows take the fast path at all.
    pub is_on: bool,
    /// Our bits of marks.
    pub marks: MarkMask,
    /// The interface of each uplink, while it exists.
    pub uplinks: BTreeMap<UplinkId, InterfaceIndex>,
    /// The names of the interfaces that programs hang on.
    pub names: BTreeMap<InterfaceIndex, InterfaceName>,
    /// The user's rules.
    pub policy: Arc<Policy>,
    /// The kernel's numbers of our own programs.
    pub programs: Vec<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            is_on: false,
            marks: MarkMask::DEFAULT,
            uplinks: BTreeMap::new(),
            names: BTreeMap::new(),
            policy: Arc::default(),
            programs: Vec::new(),
        }
    }
}

impl Settings {
    /// The interface of an uplink.
    #[must_use]
    pub fn interface(&self, uplink: UplinkId) -> Option<InterfaceIndex> {
        self.uplinks.get(&uplink).copied()
    }

    /// Whether the user lets a flow take it; `packet` is as users' packets look.
    ///
    /// # Errors
    /// Why not.
    pub fn allows(&self, packet: &PassingPacket) -> Result<(), Why> {
        if !self.is_on {
            return Err(Why::Off);
        }
        let forbidden = self.policy.forbids_fast_path(&FlowFacts {
            interface: self.names.get(&packet.ingress),
            source: packet.source,
            destination: packet.destination,
            protocol: packet.protocol,
            source_port: packet.source_port,
            port: packet.destination_port,
        });
        if forbidden { Err(Why::Rule) } else { Ok(()) }
    }
}
