//! What tests, benchmarks and soak tests share beyond the lab itself, which is `failover-netlab`: all
//! of that stands here too, under the same names.

pub mod bench;
pub mod churn;
pub mod footprint;
pub mod given;
mod hidden;
pub mod package;
mod pinning;
pub mod programs;
pub mod restarts;
pub mod rules;
pub mod snapshot;
pub mod soak;
pub mod unpacked;
pub mod virtual_line;

pub use failover_netlab::{
    Answer, AskError, BpfCommand, Daemon, Failover, Flow, Flows, Host, Keep, KeptFlow, KeptFlows,
    LABS_AT_ONCE, Lab, LabBuilder, LabError, Layout, Node, Output, Percent, Program, ProgramSpec,
    Protocol, Refusal, RpFilter, Stream, StreamPlan, Streamed, Tally, Traffic, Uplink, addressing,
    capture, chance, daemon, demo, eventually, internet, is_slow, isolate, lab, node, patient,
    session, terminal, traffic, tun, within,
};
use failover_netlab::{error, sys};
pub use hidden::without_nft;
pub use pinning::Pinning;
pub use snapshot::KernelState;
