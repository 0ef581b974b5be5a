//! Who picks the uplink of a new flow: the own nftables table in classic mode, TC programs in eBPF
//! mode.

pub mod ebpf;
mod steering;

pub use steering::{Classic, Steering};
