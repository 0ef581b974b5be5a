//! The addresses that random rules and packets have: none that the lab itself uses.
//!
//! | | IPv4 | IPv6 |
//! | --- | --- | --- |
//! | users | `198.18.0.100` to `.254`, `192.0.2.0/24`, `198.18.160.0/20` | `fd00:18::1:0/112`, `fd00:bb::/112` |
//! | where they go | `198.18.192.0/18`, `198.19.144.0` to `198.19.255.255`, `198.51.100.0/24` | `fd00:aa::/108` |
//!
//! A gateway needs routes to [`BEHIND`], which are behind a downlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use failover::family::Family;
use failover::policy::AddressRange;

use crate::chance::Chance;

/// Users' networks that are not the lab's own.
pub const BEHIND: [&str; 3] = ["192.0.2.0/24", "198.18.160.0/20", "fd00:bb::/112"];

/// What an address is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Users,
    Destinations,
}

/// First and last addresses.
type Ranges = &'static [(u128, u128)];

const fn v4(a: u8, b: u8, c: u8, d: u8) -> u128 {
    Ipv4Addr::new(a, b, c, d).to_bits() as u128
}

const USERS4: Ranges = &[
    (v4(198, 18, 0, 100), v4(198, 18, 0, 254)),
    (v4(192, 0, 2, 0), v4(192, 0, 2, 255)),
    (v4(198, 18, 160, 0), v4(198, 18, 175, 255)),
];
const DESTINATIONS4: Ranges = &[
    (v4(198, 18, 192, 0), v4(198, 18, 255, 255)),
    (v4(198, 19, 144, 0), v4(198, 19, 255, 255)),
    (v4(198, 51, 100, 0), v4(198, 51, 100, 255)),
];
const USERS6: Ranges = &[
    (
        Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 1, 0).to_bits(),
        Ipv6Addr::new(0xfd00, 0x18, 0, 0, 0, 0, 1, 0xffff).to_bits(),
    ),
    (
        Ipv6Addr::new(0xfd00, 0xbb, 0, 0, 0, 0, 0, 0).to_bits(),
        Ipv6Addr::new(0xfd00, 0xbb, 0, 0, 0, 0, 0, 0xffff).to_bits(),
    ),
];
const DESTINATIONS6: Ranges = &[(
    Ipv6Addr::new(0xfd00, 0xaa, 0, 0, 0, 0, 0, 0).to_bits(),
    Ipv6Addr::new(0xfd00, 0xaa, 0, 0, 0, 0, 0xf, 0xffff).to_bits(),
)];

impl Side {
    const fn ranges(self, family: Family) -> Ranges {
        match (self, family) {
            (Self::Users, Family::Ipv4) => USERS4,
            (Self::Users, Family::Ipv6) => USERS6,
            (Self::Destinations, Family::Ipv4) => DESTINATIONS4,
            (Self::Destinations, Family::Ipv6) => DESTINATIONS6,
        }
    }

    pub(super) fn has(self, family: Family, number: u128) -> bool {
        let mut ranges = self.ranges(family).iter();
        ranges.any(|(first, last)| (*first..=*last).contains(&number))
    }

    /// Any address.
    pub(super) fn any(self, family: Family, chance: &mut Chance) -> u128 {
        let ranges = self.ranges(family);
        // The wider ones more often.
        let total: u128 = ranges.iter().map(|(first, last)| last - first + 1).sum();
        let mut at = u128::from(chance.below(u64::try_from(total).unwrap_or(u64::MAX)));
        for (first, last) in ranges {
            if at <= last - first {
                return first + at;
            }
            at -= last - first + 1;
        }
        0
    }

    /// A range of this many addresses that begins anywhere, or fewer where the space ends.
    pub(super) fn range(self, family: Family, count: u128, chance: &mut Chance) -> AddressRange {
        let first = self.any(family, chance);
        let mut ranges = self.ranges(family).iter();
        let end = ranges.find(|(begin, last)| (*begin..=*last).contains(&first));
        let last = end.map_or(first, |(_, last)| *last.min(&(first + count - 1)));
        between(family, first, last)
    }

    /// A prefix with so many bits behind it, 8 at most, within the space.
    pub(super) fn prefix(self, family: Family, bits: u32, chance: &mut Chance) -> AddressRange {
        loop {
            let first = self.any(family, chance) >> bits << bits;
            let last = first + (1 << bits) - 1;
            if self.has(family, first) && self.has(family, last) {
                return between(family, first, last);
            }
        }
    }
}

/// The range from one number to another that is not less.
#[expect(
    clippy::expect_used,
    reason = "both ends are of one family and in order"
)]
fn between(family: Family, first: u128, last: u128) -> AddressRange {
    AddressRange::new(address(family, first), address(family, last)).expect("a range")
}

/// The address that is a number.
pub(super) fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        Family::Ipv6 => Ipv6Addr::from(number).into(),
    }
}
