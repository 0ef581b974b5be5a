//! How much an uplink carries, and how much it can: rates, and when it is full.

mod gauge;
mod rate;

pub use gauge::{Load, Rates};
pub use rate::{Capacity, Rate};
