//! Gateways that the programs know by their hardware addresses.
//!
//! Only behind interfaces that do not tell by themselves whose a packet is.

#[cfg(feature = "user")]
use bytemuck::{CheckedBitPattern, NoUninit};

use crate::Family;

/// Which gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct GatewayKey {
    /// The index of the interface behind which it is.
    pub interface: u32,
    /// Its hardware address.
    pub address: [u8; 6],
    /// The family of the packets that it is the gateway for.
    pub family: Family,
    /// Zero.
    pub reserved: u8,
}

/// Whose a gateway is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct Gateway {
    /// The id of the uplink; 0 where several uplinks have this gateway.
    pub uplink: u8,
    /// Zero.
    pub reserved: [u8; 3],
}
