//! The daemon of failover.
//!
//! Decisions are plain functions and state machines that take time as an argument and do no input
//! or output. The edge (netlink, nftables, conntrack, sockets) is thin and stands behind traits.

pub mod config;
pub mod family;
pub mod identity;
pub mod interface;
pub mod kernel;
pub mod mark;
pub mod network;
pub mod uplink;
pub mod wanted;
