//! What is kept over restarts, in the state folder: uplink ids, last known health, and what must be
//! known to take everything out of the kernel again.

mod lock;
mod sets;
mod store;

pub use lock::{LockError, StateLock};
pub use store::{
    ChangedSysctl, EbpfFacts, InstalledFacts, MadeMount, MadeQdisc, RememberedAddresses,
    RememberedByHand, RememberedDamping, RememberedDrains, RememberedHealth, RememberedMeters,
    RememberedRuleDrains, Store, StoreError, TableFacts,
};
