//! The two address families, and values that exist once for each, as users meet them; in the maps
//! stands [`flow::Family`](crate::flow::Family).

use core::fmt;
use core::net::IpAddr;

use serde::{Deserialize, Serialize};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

impl Family {
    /// Both families, in the order in which they are shown.
    pub const ALL: [Self; 2] = [Self::Ipv4, Self::Ipv6];

    /// The family of an address.
    #[must_use]
    pub const fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::Ipv4,
            IpAddr::V6(_) => Self::Ipv6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4 => "IPv4",
            Self::Ipv6 => "IPv6",
        })
    }
}

/// One value for each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerFamily<T> {
    /// The value for IPv4.
    pub ipv4: T,
    /// The value for IPv6.
    pub ipv6: T,
}

impl<T> PerFamily<T> {
    /// Asks `make` for the value of each family.
    pub fn from_fn(mut make: impl FnMut(Family) -> T) -> Self {
        Self {
            ipv4: make(Family::Ipv4),
            ipv6: make(Family::Ipv6),
        }
    }

    /// The value of one family.
    pub const fn get(&self, family: Family) -> &T {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    /// The value of one family, to be changed.
    pub const fn get_mut(&mut self, family: Family) -> &mut T {
        match family {
            Family::Ipv4 => &mut self.ipv4,
            Family::Ipv6 => &mut self.ipv6,
        }
    }

    /// The same, with `change` applied to both values.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> PerFamily<U> {
        PerFamily {
            ipv4: change(self.ipv4),
            ipv6: change(self.ipv6),
        }
    }

    /// Both values with their family, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = (Family, &T)> {
        [(Family::Ipv4, &self.ipv4), (Family::Ipv6, &self.ipv6)].into_iter()
    }
}
