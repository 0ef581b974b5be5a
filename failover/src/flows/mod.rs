//! The flows that are alive, one by one, as `failover flows` tells them: from the flow table in eBPF
//! mode, from connection tracking in classic mode.

mod counted;
mod entry;
mod idle;
mod key;
mod known;
mod leaving;
mod lost;
mod protocol;
mod row;
mod surroundings;
mod table;
mod tracked;

pub use counted::counted;
pub use entry::{FlowEntry, Phase, Why};
pub use idle::Timeouts;
pub(crate) use key::{address, bytes, layout_family};
pub use key::{key_of, outbound_key};
pub use known::{Lives, entry_of};
pub use leaving::Leaving;
pub use lost::LostConnection;
pub use protocol::Protocol;
pub use surroundings::{Direction, Surroundings};
pub use table::{render, sort};
pub use tracked::{Packets, TrackedFlow, Tuple};

use std::collections::BTreeMap;

use crate::uplink::{UplinkId, UplinkName};

/// The uplinks whose flows are wanted, with their names.
pub type Uplinks = BTreeMap<UplinkId, UplinkName>;
