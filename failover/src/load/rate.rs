//! Rates, and what an uplink can carry.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Bits per second.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Rate(pub u64);

impl fmt::Display for Rate {
    /// As it is written in the configuration: in the largest unit that it is a whole number of.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n > 0 && n % 1_000_000_000 == 0 => write!(f, "{}Gbit", n / 1_000_000_000),
            n if n > 0 && n % 1_000_000 == 0 => write!(f, "{}Mbit", n / 1_000_000),
            n => write!(f, "{}kbit", n / 1_000),
        }
    }
}

/// What an uplink can carry, as its interface counts: with the headers of Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capacity {
    /// Towards users; more than zero.
    pub down: Rate,
    /// From users; more than zero.
    pub up: Rate,
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.down == self.up {
            self.down.fmt(f)
        } else {
            write!(f, "{{down: {}, up: {}}}", self.down, self.up)
        }
    }
}
