//! Benchmarks: what is measured in the lab and compared with what is demanded.

pub mod churn;
mod distribution;
pub mod failover;
pub mod forwarding;
pub mod lost;
mod machine;
pub mod overflow;
pub mod probing;
pub mod program;

pub use distribution::{Distribution, Histogram};
pub use machine::Machine;
