//! The controller: joins observation, health and selection into the wanted state, and sees to it
//! that the kernel is in it.
//!
//! [`engine`] decides and does nothing; [`apply`] carries a decision out through the edge's traits;
//! [`run`] is the loop that feeds the one and drives the other, [`start`] sets all of it up. When the
//! configuration changes `reloading` reads it, and `reconfigure` has the engine follow it.

pub mod apply;
pub mod apply_error;
mod asked;
mod counts;
pub mod engine;
mod explaining;
mod family_state;
mod flushing;
mod held_addresses;
mod listing;
pub mod metering;
mod reconfigure;
mod reloading;
pub mod remembered;
mod remembering;
mod retry;
pub mod run;
pub mod set_files;
pub mod start;
mod timers;
mod told;
mod uplink;
