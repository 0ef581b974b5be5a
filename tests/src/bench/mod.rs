//! Benchmarks: what is measured in the lab and compared with what is demanded.

mod distribution;
pub mod failover;
pub mod lost;
mod machine;
pub mod program;

pub use distribution::{Distribution, Histogram};
pub use machine::Machine;
