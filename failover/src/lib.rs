//! The daemon of failover.
//!
//! Decisions are plain functions and state machines that take time as an argument and do no input
//! or output. The edge (netlink, nftables, conntrack, sockets) is thin and stands behind traits.

pub mod by_hand;
mod causes;
pub mod cli;
pub mod config;
pub mod control;
pub mod controller;
pub mod dataplane;
pub mod discover;
pub mod doctor;
pub mod draft;
pub mod explain;
pub mod fastpath;
pub mod flows;
pub mod generate;
pub mod health;
pub mod identity;
pub mod import;
pub mod init;
pub mod interface;
pub mod journal;
pub mod kernel;
pub mod load;
pub mod logging;
pub mod mark;
pub mod meter;
mod monotonic;
pub mod network;
pub mod notify;
pub mod policy;
pub mod probe;
mod process_group;
pub mod reload;
pub mod replay;
pub mod resets;
pub mod select;
pub mod service;
pub mod state;
pub mod status;
mod sys;
pub mod track;
pub mod uplink;
pub mod wanted;

pub use failover_common::family;
