//! Which uplinks new flows use, and with which shares.

pub mod jhash;
mod latency;
pub mod maglev;
mod pool;
mod strategy;

pub use maglev::SlotTable;
pub use pool::{Candidate, Chosen, Measures, Pool, Standing, Tier, choose, select, select_by};
pub use strategy::{Strategies, Strategy};
