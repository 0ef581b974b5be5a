//! Who picks the uplink of a new flow: the own nftables table in classic mode, TC programs in eBPF
//! mode.

mod chosen;
mod classic;
pub mod ebpf;
mod steering;
mod traffic;

pub use chosen::{Chosen, choose};
pub use classic::Classic;
pub use steering::Steering;
pub use traffic::{TrafficReport, TrafficSource};
