//! A rule: which new flows it is for, and which uplinks they may use.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::addresses::AddressSet;
use super::ports::PortSet;
use crate::config::{Affinity, FastPathSetting};
use crate::flows::Protocol;
use crate::interface::InterfaceName;
use crate::network::MacAddress;
use crate::select::Strategy;
use crate::uplink::UplinkName;

/// One rule. The first that a new flow's first packet matches decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What people call it; unique.
    pub name: String,
    /// Which packets it is for.
    pub matching: Matching,
    /// Which uplinks they may use.
    pub via: Via,
    /// What becomes of them when none of these is usable.
    pub otherwise: Otherwise,
    /// Whether its flows may take the fast path.
    pub fast_path: FastPathSetting,
}

/// Which packets a rule is for: those of which everything that is said holds. `None` holds of all.
/// Where the configuration is read, addresses may still be names of sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matching<A = Arc<AddressSet>> {
    /// They came in by one of these downlinks.
    pub interfaces: Option<BTreeSet<InterfaceName>>,
    /// They come from one of these addresses.
    pub source: Option<A>,
    /// They go to one of these addresses.
    pub destination: Option<A>,
    /// They speak one of these protocols.
    pub protocols: Option<BTreeSet<Protocol>>,
    /// They come from one of these ports, of a protocol that has ports.
    pub source_ports: Option<PortSet>,
    /// They go to one of these ports, of a protocol that has ports.
    pub ports: Option<PortSet>,
    /// They have one of these code points (RFC 2474).
    pub dscp: Option<BTreeSet<Dscp>>,
    /// They have one of these marks.
    pub marks: Option<BTreeSet<MarkMatch>>,
    /// They come from one of these hardware addresses.
    pub macs: Option<BTreeSet<MacAddress>>,
}

impl<A> Matching<A> {
    /// The same, with what stands for the addresses.
    #[must_use]
    pub fn with_addresses<B>(self, of: impl Fn(A) -> B) -> Matching<B> {
        Matching {
            interfaces: self.interfaces,
            source: self.source.map(&of),
            destination: self.destination.map(&of),
            protocols: self.protocols,
            source_ports: self.source_ports,
            ports: self.ports,
            dscp: self.dscp,
            marks: self.marks,
            macs: self.macs,
        }
    }
}

/// A differentiated services code point, 0 to 63 (RFC 2474).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(try_from = "u8", into = "u8")]
pub struct Dscp(u8);

impl Dscp {
    /// How many there are.
    pub const COUNT: u8 = 64;

    /// A code point; `None` above 63.
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < Self::COUNT {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0
    }
}

/// Names of code points (IANA, "Differentiated Services Field Codepoints").
const DSCP_NAMES: [(&str, u8); 23] = [
    ("cs0", 0),
    ("le", 1),
    ("cs1", 8),
    ("af11", 10),
    ("af12", 12),
    ("af13", 14),
    ("cs2", 16),
    ("af21", 18),
    ("af22", 20),
    ("af23", 22),
    ("cs3", 24),
    ("af31", 26),
    ("af32", 28),
    ("af33", 30),
    ("cs4", 32),
    ("af41", 34),
    ("af42", 36),
    ("af43", 38),
    ("cs5", 40),
    ("va", 44),
    ("ef", 46),
    ("cs6", 48),
    ("cs7", 56),
];

/// A text is no code point.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("a DSCP by its name, such as ef, af41 or cs1, or by its number, 0 to 63")]
pub struct InvalidDscp;

impl FromStr for Dscp {
    type Err = InvalidDscp;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let named = DSCP_NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(text))
            .map(|(_, number)| *number);
        named
            .or_else(|| text.parse().ok())
            .and_then(Self::new)
            .ok_or(InvalidDscp)
    }
}

impl TryFrom<u8> for Dscp {
    type Error = InvalidDscp;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        Self::new(number).ok_or(InvalidDscp)
    }
}

impl From<Dscp> for u8 {
    fn from(dscp: Dscp) -> Self {
        dscp.0
    }
}

impl fmt::Display for Dscp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DSCP_NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => f.pad(name),
            None => self.0.fmt(f),
        }
    }
}

/// Bits of a packet mark, and what they must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkMatch {
    /// The bits that are looked at.
    pub mask: u32,
    /// What they must be; no others are set.
    pub value: u32,
}

impl MarkMatch {
    /// Whether a mark is such.
    #[must_use]
    pub const fn holds(self, mark: u32) -> bool {
        mark & self.mask == self.value
    }
}

impl fmt::Display for MarkMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}/{:#x}", self.value, self.mask)
    }
}

/// The uplinks that a rule's flows may use.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Via {
    /// The first group with a usable uplink is used; one group or more, none of them empty.
    pub groups: Vec<Group>,
    /// What makes flows go together; `None`: as all do.
    pub affinity: Option<Affinity>,
    /// By what new flows are given to the uplinks of a group.
    pub strategy: Strategy,
}

/// Uplinks that share flows by weight.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Group(pub Vec<(UplinkName, u16)>);

impl Via {
    /// All uplinks that it names.
    pub fn uplinks(&self) -> impl Iterator<Item = &UplinkName> {
        self.groups
            .iter()
            .flat_map(|Group(members)| members.iter().map(|(name, _)| name))
    }

    /// All uplinks that it names, each with the position of its group.
    pub fn places(&self) -> impl Iterator<Item = (u32, &UplinkName)> {
        (0..)
            .zip(&self.groups)
            .flat_map(|(group, Group(members))| members.iter().map(move |(name, _)| (group, name)))
    }
}

impl fmt::Display for Via {
    /// As it is written in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let groups: Vec<String> = self.groups.iter().map(ToString::to_string).collect();
        write!(f, "[{}]", groups.join(", "))
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [(only, 1)] = self.0.as_slice() {
            return write!(f, "{only}");
        }
        let members: Vec<String> = self
            .0
            .iter()
            .map(|(name, weight)| format!("{name}: {weight}"))
            .collect();
        write!(f, "{{{}}}", members.join(", "))
    }
}

/// What becomes of a rule's new flows when none of its uplinks is usable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Otherwise {
    /// They go where all others go.
    Any,
    /// They are dropped.
    Drop,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_points_are_read_by_name_and_number() {
        assert_eq!("EF".parse(), Ok(Dscp(46)));
        assert_eq!("46".parse(), Ok(Dscp(46)));
        assert_eq!(
            "0".parse::<Dscp>().map(|dscp| dscp.to_string()),
            Ok("cs0".to_owned())
        );
        assert_eq!(
            "3".parse::<Dscp>().map(|dscp| dscp.to_string()),
            Ok("3".to_owned())
        );
        for wrong in ["64", "-1", "af44", ""] {
            assert_eq!(wrong.parse::<Dscp>(), Err(InvalidDscp), "{wrong}");
        }
    }

    #[test]
    fn via_is_written_as_it_is_read() {
        let name = |text: &str| -> UplinkName { text.parse().unwrap() };
        let via = Via {
            groups: vec![
                Group(vec![(name("fiber"), 1)]),
                Group(vec![(name("dsl"), 3), (name("lte"), 1)]),
            ],
            affinity: None,
            strategy: Strategy::Weight,
        };
        assert_eq!(via.to_string(), "[fiber, {dsl: 3, lte: 1}]");
    }
}
