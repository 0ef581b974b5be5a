//! The lab: network namespaces with a gateway, providers, clients and the internet, and the faults
//! that can befall them.
//!
//! ```text
//!  client 1 ─┐                     ┌─ wan1 ── provider 1 ─┐
//!  client 2 ─┼─ lan0 ── gateway ───┼─ wan2 ── provider 2 ─┼── internet (servers, probe targets)
//!     …     ─┘                     └─ wanN ── provider N ─┘
//! ```
//!
//! Everything lives in anonymous namespaces, a private mount namespace and memory, so nothing is
//! left behind however the process ends. [`isolate`] sets that up and must be the first thing that
//! `main` does; [`Lab::builder`] then makes as many labs as wanted, each independent of the others.
//! [`addressing`] has the table of addresses.
//!
//! ```no_run
//! use std::time::Duration;
//! use failover_common::family::Family;
//! use failover_netlab::{Lab, Protocol, Tally, Traffic};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     failover_netlab::isolate()?;
//!     let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//!     runtime.block_on(async {
//!         let lab = Lab::builder().uplinks(3).clients(1).build().await?;
//!         let traffic = Traffic::new(Protocol::Udp, Family::Ipv4, 200);
//!         let flows = lab.client(1)?.open(traffic).await?;
//!         let before = flows.ask(Duration::from_secs(1)).await?;
//!         lab.uplink(2)?.black_hole().await?;
//!         let after = flows.ask(Duration::from_secs(1)).await?;
//!         assert_eq!(Tally::of(&before).unanswered, 0);
//!         assert_eq!(Tally::of(&after).on(2), 0);
//!         Ok(())
//!     })
//! }
//! ```

pub mod addressing;
pub mod capture;
pub mod chance;
pub mod daemon;
pub mod demo;
pub mod error;
pub mod eventually;
pub mod internet;
mod isolation;
pub mod lab;
pub mod node;
mod session;
pub mod sys;
pub mod terminal;
pub mod traffic;
pub mod tun;

pub use daemon::{Daemon, Failover};
pub use error::LabError;
pub use eventually::{eventually, is_slow, patient, within};
pub use isolation::isolate;
pub use lab::{LABS_AT_ONCE, Lab, LabBuilder, Percent, RpFilter, Uplink};
pub use node::{BpfCommand, Layout, Node, Output, Program, ProgramSpec, Refusal};
pub use session::session;
pub use traffic::{
    Answer, AskError, Flow, Flows, Host, Keep, KeptFlow, KeptFlows, Protocol, Stream, StreamPlan,
    Streamed, Tally, Traffic,
};
