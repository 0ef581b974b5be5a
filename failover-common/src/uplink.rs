//! What the programs know of an uplink.

#[cfg(feature = "user")]
use bytemuck::{CheckedBitPattern, NoUninit};

use crate::Family;

/// The state of an uplink in one family, as `failover status` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(u8)]
pub enum UplinkState {
    /// The family is not spoken.
    Absent = 0,
    /// No verdict yet.
    Unknown = 1,
    /// It answers.
    Up = 2,
    /// It answers, badly.
    Degraded = 3,
    /// It does not answer, or cannot carry packets.
    Down = 4,
    /// Switched off by hand.
    Disabled = 5,
}

impl UplinkState {
    /// Whether flows may be entered on this uplink because packets come in by it. A late packet by a
    /// dead one must not take a flow back.
    #[must_use]
    pub const fn teaches(self) -> bool {
        matches!(self, Self::Unknown | Self::Up | Self::Degraded)
    }
}

/// An uplink in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct UplinkFamily {
    /// Raised each time the uplink's flows are forgotten: an older flow is given an uplink anew.
    pub generation: u32,
    /// Its state.
    pub state: UplinkState,
    /// Sources are translated to the uplink's own address, so that what comes back by this uplink
    /// can belong to no other.
    pub translates: bool,
    /// Zero.
    pub reserved: [u8; 2],
}

/// An uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "user", derive(NoUninit, CheckedBitPattern))]
#[repr(C)]
pub struct Uplink {
    /// The index of its interface; 0 while that does not exist.
    pub interface: u32,
    /// How it stands in IPv4.
    pub ipv4: UplinkFamily,
    /// How it stands in IPv6.
    pub ipv6: UplinkFamily,
}

impl Uplink {
    /// How it stands in a family.
    #[must_use]
    #[inline(always)]
    pub const fn family(&self, family: Family) -> &UplinkFamily {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }
}
