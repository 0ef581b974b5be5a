//! What probes cost, where every byte is paid for: counted per uplink and day, and kept within a
//! budget by asking less often.
//!
//! The kernel counts ([`Nft::probe_bytes`](crate::kernel::nftables::Nft::probe_bytes)): from the IP
//! header on, what bears a probe's mark on its way out and what comes back to its connection, of
//! whatever kind the probe is. No clock and no input or output in here.

mod budget;
mod day;

pub use budget::{LONGEST_IDLE, LONGEST_IN_USE, Spread};
pub use day::{KeptMeter, Meter};
