//! Policy: which uplinks a new flow may use, and why.
//!
//! The user's rules (`rule`) are tried in their order on a flow's first packet (`matching`). Their
//! addresses come from the configuration and from files (`addresses`, `sets`, [`set_file`]); they and
//! ports are kept as `ranges`.
//! What the uplinks of a rule are at the moment is said by `pools`. `own_traffic` puts the rules into
//! terms of the kernel's routing, for the router's own packets. `fast_path` says whose packets must all
//! pass the stack. [`conflicts`] finds rules that cannot
//! mean what they say.

mod addresses;
pub mod conflicts;
mod fast_path;
mod keeping;
pub mod loading;
mod matching;
mod own_traffic;
mod pools;
mod ports;
mod ranges;
mod rule;
mod selector;
pub mod set_file;
mod sets;

pub use addresses::{AddressRange, AddressSet, InvalidAddresses};
pub use keeping::{Keeping, Open};
pub use matching::{Facts, FlowFacts, first_match};
pub use own_traffic::{LeftOut, OwnRule, OwnTraffic, Prefixes, Way};
pub use pools::{
    Destination, Offered, Policy, PoolIdentity, RulePool, choose_via, select_via, select_via_by,
};
pub use ports::{PortRange, PortSet};
pub use rule::{Dscp, Group, InvalidDscp, MarkMatch, Matching, Otherwise, Rule, Via};
pub use selector::Selector;
pub use set_file::SetFileError;
pub use sets::{InvalidSetName, SetName, SetSource, Sets};
