//! Sets of addresses: prefixes, ranges and single addresses of both families, as disjoint ranges.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

use super::ranges::{Range, Ranges};
use crate::family::{Family, PerFamily};

/// Addresses from one to another of the same family, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

/// Why a text is no range of addresses.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidAddresses {
    /// It is neither an address nor a prefix nor a range.
    #[error(
        "an address (192.0.2.1), a prefix (192.0.2.0/24) or a range (192.0.2.10-192.0.2.19), of IPv4 or IPv6"
    )]
    Unreadable,
    /// A prefix with bits set behind it.
    #[error("a prefix with no bits set behind it: {0}")]
    HostBits(IpNet),
    /// A range of two families.
    #[error("a range whose ends are of the same family")]
    Families,
    /// A range that ends before it begins.
    #[error("a range whose first address is not behind its last one")]
    Backwards,
}

impl AddressRange {
    /// A range; `None` if its ends are of two families or it ends before it begins.
    #[must_use]
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (Family::of(first) == Family::of(last) && first <= last).then_some(Self { first, last })
    }

    /// The family.
    #[must_use]
    pub const fn family(&self) -> Family {
        Family::of(self.first)
    }

    /// The first address.
    #[must_use]
    pub const fn first(&self) -> IpAddr {
        self.first
    }

    /// The last address.
    #[must_use]
    pub const fn last(&self) -> IpAddr {
        self.last
    }

    fn numbers(self) -> Range<u128> {
        Range {
            first: number(self.first),
            last: number(self.last),
        }
    }
}

impl FromStr for AddressRange {
    type Err = InvalidAddresses;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = |text: &str| {
            text.trim()
                .parse()
                .map_err(|_| InvalidAddresses::Unreadable)
        };
        if let Some((first, last)) = text.split_once('-') {
            let (first, last): (IpAddr, IpAddr) = (address(first)?, address(last)?);
            if Family::of(first) != Family::of(last) {
                return Err(InvalidAddresses::Families);
            }
            return Self::new(first, last).ok_or(InvalidAddresses::Backwards);
        }
        if text.contains('/') {
            let net: IpNet = text.parse().map_err(|_| InvalidAddresses::Unreadable)?;
            if net.trunc() != net {
                return Err(InvalidAddresses::HostBits(net.trunc()));
            }
            let (first, last) = (net.network(), net.broadcast());
            return Ok(Self { first, last });
        }
        let only = address(text)?;
        Ok(Self {
            first: only,
            last: only,
        })
    }
}

impl fmt::Display for AddressRange {
    /// As a prefix where it is one, such as `192.0.2.0/24`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        let mut prefixes = prefixes(self.family(), self.numbers());
        match (prefixes.next(), prefixes.next()) {
            (Some(only), None) => write!(f, "{only}"),
            _ => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// Any number of addresses of both families.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddressSet {
    ipv4: Ranges<u128>,
    ipv6: Ranges<u128>,
}

impl AddressSet {
    /// All addresses in any of these ranges.
    #[must_use]
    pub fn of(ranges: impl IntoIterator<Item = AddressRange>) -> Self {
        let mut found: PerFamily<Vec<Range<u128>>> = PerFamily::default();
        for range in ranges {
            found.get_mut(range.family()).push(range.numbers());
        }
        Self {
            ipv4: Ranges::of(found.ipv4),
            ipv6: Ranges::of(found.ipv6),
        }
    }

    /// All addresses of any of these sets.
    #[must_use]
    pub fn union<'s>(sets: impl IntoIterator<Item = &'s Self>) -> Self {
        let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
        for set in sets {
            ipv4.extend(set.ipv4.ranges());
            ipv6.extend(set.ipv6.ranges());
        }
        Self {
            ipv4: Ranges::of(ipv4),
            ipv6: Ranges::of(ipv6),
        }
    }

    const fn of_family(&self, family: Family) -> &Ranges<u128> {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    /// Whether it has no address of a family.
    #[must_use]
    pub const fn lacks(&self, family: Family) -> bool {
        self.of_family(family).is_empty()
    }

    /// Whether it has no address.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.ipv4.is_empty() && self.ipv6.is_empty()
    }

    /// Whether it has this address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.of_family(Family::of(address))
            .contains(number(address))
    }

    /// Whether it has all addresses of another set in a family.
    #[must_use]
    pub fn covers(&self, other: &Self, family: Family) -> bool {
        self.of_family(family).covers(other.of_family(family))
    }

    /// Whether the two have an address of a family in common.
    #[must_use]
    pub fn meets(&self, other: &Self, family: Family) -> bool {
        self.of_family(family).meets(other.of_family(family))
    }

    /// The ranges of a family, ascending; none touches another.
    pub fn ranges(&self, family: Family) -> impl Iterator<Item = AddressRange> {
        let ranges = self.of_family(family).ranges();
        ranges.map(move |range| AddressRange {
            first: address(family, range.first),
            last: address(family, range.last),
        })
    }

    /// The ranges of a family as numbers, first and last, ascending. Addresses are read as big-endian
    /// numbers.
    pub fn numbers(&self, family: Family) -> impl Iterator<Item = (u128, u128)> {
        let ranges = self.of_family(family).ranges();
        ranges.map(|range| (range.first, range.last))
    }

    /// Whether it has all addresses of a family.
    #[must_use]
    pub fn is_everything(&self, family: Family) -> bool {
        self.numbers(family).eq([(0, last(family))])
    }

    /// The ranges of a family that it has not, as [`Self::numbers`].
    pub fn without(&self, family: Family) -> impl Iterator<Item = (u128, u128)> {
        // Ranges never touch: between two of them there is an address.
        let behind = self.numbers(family).map(|(_, last)| last.checked_add(1));
        let before = self.numbers(family).map(|(first, _)| first.checked_sub(1));
        let starts = std::iter::once(Some(0)).chain(behind);
        let ends = before.chain(std::iter::once(Some(last(family))));
        starts
            .zip(ends)
            .filter_map(|(first, last)| Some((first?, last?)))
            .filter(|(first, last)| first <= last)
    }

    /// How many ranges it has.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.ipv4.len() + self.ipv6.len()
    }
}

/// The prefixes that make up the addresses from one number to another.
pub(super) fn prefixes_of(family: Family, first: u128, last: u128) -> impl Iterator<Item = IpNet> {
    prefixes(family, Range { first, last })
}

/// The largest prefixes that make up a range, ascending.
fn prefixes(family: Family, range: Range<u128>) -> impl Iterator<Item = IpNet> {
    let bits: u32 = match family {
        Family::Ipv4 => 32,
        Family::Ipv6 => 128,
    };
    let blocks = range.blocks_of(bits);
    blocks.filter_map(move |(first, length)| {
        IpNet::new(address(family, first), u8::try_from(length).ok()?).ok()
    })
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

/// The last address of a family.
const fn last(family: Family) -> u128 {
    match family {
        Family::Ipv4 => 0xffff_ffff,
        Family::Ipv6 => u128::MAX,
    }
}

/// What lies beyond the family's last address is that address.
fn address(family: Family, number: u128) -> IpAddr {
    match family {
        Family::Ipv4 => Ipv4Addr::from(u32::try_from(number).unwrap_or(u32::MAX)).into(),
        Family::Ipv6 => Ipv6Addr::from(number).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[&str]) -> AddressSet {
        AddressSet::of(ranges.iter().map(|range| range.parse().unwrap()))
    }

    fn shown(set: &AddressSet, family: Family) -> Vec<String> {
        set.ranges(family).map(|range| range.to_string()).collect()
    }

    #[test]
    fn ranges_are_read_in_three_forms() {
        for (text, shown) in [
            ("192.0.2.1", "192.0.2.1"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.0-192.0.2.255", "192.0.2.0/24"),
            ("192.0.2.10 - 192.0.2.19", "192.0.2.10-192.0.2.19"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("fd00::1-fd00::4", "fd00::1-fd00::4"),
        ] {
            let range: AddressRange = text.parse().unwrap();
            assert_eq!(range.to_string(), shown, "{text}");
        }
        for (text, error) in [
            (
                "192.0.2.1/24",
                InvalidAddresses::HostBits("192.0.2.0/24".parse().unwrap()),
            ),
            ("192.0.2.9-192.0.2.1", InvalidAddresses::Backwards),
            ("192.0.2.9-fd00::1", InvalidAddresses::Families),
            ("192.0.2.0/33", InvalidAddresses::Unreadable),
            ("example.org", InvalidAddresses::Unreadable),
            ("", InvalidAddresses::Unreadable),
        ] {
            assert_eq!(text.parse::<AddressRange>(), Err(error), "{text}");
        }
    }

    #[test]
    fn what_overlaps_or_touches_is_joined() {
        let set = set(&[
            "192.0.2.128/25",
            "192.0.2.0/25",
            "198.51.100.5",
            "192.0.2.7",
            "fd00::/64",
        ]);
        assert_eq!(shown(&set, Family::Ipv4), ["192.0.2.0/24", "198.51.100.5"]);
        assert_eq!(shown(&set, Family::Ipv6), ["fd00::/64"]);
    }

    #[test]
    fn addresses_are_found_at_both_ends_and_not_beyond() {
        let set = set(&["192.0.2.10-192.0.2.19", "192.0.2.30", "::/0"]);
        let has = |address: &str| set.contains(address.parse().unwrap());
        assert!(has("192.0.2.10") && has("192.0.2.19") && has("192.0.2.30"));
        assert!(!has("192.0.2.9") && !has("192.0.2.20") && !has("192.0.2.31"));
        assert!(has("::") && has("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"));
    }

    #[test]
    fn sets_cover_and_meet_by_family() {
        let (whole, part) = (set(&["192.0.2.0/24", "::/0"]), set(&["192.0.2.7"]));
        assert!(whole.covers(&part, Family::Ipv4) && !part.covers(&whole, Family::Ipv4));
        assert!(whole.covers(&part, Family::Ipv6) && !part.covers(&whole, Family::Ipv6));
        assert!(whole.meets(&part, Family::Ipv4) && !whole.meets(&part, Family::Ipv6));
        assert!(!set(&["192.0.2.6"]).meets(&part, Family::Ipv4));
    }

    #[test]
    fn a_range_is_made_of_the_fewest_prefixes() {
        let of = |text: &str| {
            let range: AddressRange = text.parse().unwrap();
            let found = prefixes(range.family(), range.numbers());
            found.map(|net| net.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            of("192.168.0.100-192.168.0.149"),
            [
                "192.168.0.100/30",
                "192.168.0.104/29",
                "192.168.0.112/28",
                "192.168.0.128/28",
                "192.168.0.144/30",
                "192.168.0.148/31"
            ]
        );
        assert_eq!(of("0.0.0.0-255.255.255.255"), ["0.0.0.0/0"]);
        assert_eq!(of("::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), ["::/0"]);
        assert_eq!(of("::1-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff").len(), 128);
    }
}
