//! Which uplinks new flows use, and with which shares.

pub mod jhash;
pub mod maglev;
mod pool;

pub use maglev::SlotTable;
pub use pool::{Candidate, Pool, Standing, Tier, select};
