//! What the programs know of an interface.

#[cfg(feature = "user")]
use bytemuck::{CheckedBitPattern, NoUninit};

/// What an interface is to the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(u8)]
pub enum Role {
    /// Users are behind it.
    Downlink = 1,
    /// One uplink, and nothing else, is behind it.
    Uplink = 2,
    /// Several uplinks are behind it: the interface alone does not tell them apart.
    SharedUplink = 3,
    /// Users are behind it, and one uplink or several: what comes from a gateway came in by an uplink,
    /// and all else comes from users.
    OneArm = 4,
}

/// An interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct Interface {
    /// What it is.
    pub role: Role,
    /// The id of the uplink, for [`Role::Uplink`]; otherwise 0.
    pub uplink: u8,
    /// Its number among the downlinks in rules, 1 and above; 0 for one that is no downlink.
    pub downlink: u16,
}
