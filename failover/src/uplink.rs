//! What names an uplink: its id and its name.

use std::fmt;
use std::num::NonZeroU8;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The number of an uplink, 1 to 127: it stands in marks and makes the number of the uplink's
/// routing table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct UplinkId(NonZeroU8);

/// Why a number is no uplink id.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("{found} is no uplink id: 1 to 127 are allowed")]
pub struct InvalidUplinkId {
    /// What was found.
    pub found: u64,
}

impl UplinkId {
    /// The largest id.
    pub const MAX: u8 = 127;

    /// The id as a number.
    #[must_use]
    pub const fn get(self) -> u8 {
        self.0.get()
    }

    /// All ids, in ascending order.
    pub fn all() -> impl Iterator<Item = Self> {
        (1..=Self::MAX).filter_map(|n| Self::try_from(n).ok())
    }
}

impl TryFrom<u8> for UplinkId {
    type Error = InvalidUplinkId;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        NonZeroU8::new(number)
            .filter(|n| n.get() <= Self::MAX)
            .map(Self)
            .ok_or(InvalidUplinkId {
                found: number.into(),
            })
    }
}

impl From<UplinkId> for u8 {
    fn from(id: UplinkId) -> Self {
        id.get()
    }
}

impl fmt::Display for UplinkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of an uplink, which is its identity: 1 to 32 of the characters `a-z A-Z 0-9 _ - .`,
/// beginning with a letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UplinkName(String);

/// Why a text is no uplink name.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{found}` is no uplink name: 1 to 32 of the characters a-z A-Z 0-9 _ - . are allowed, the first a letter or a digit"
)]
pub struct InvalidUplinkName {
    /// What was found.
    pub found: String,
}

impl UplinkName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UplinkName {
    type Err = InvalidUplinkName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() <= 32
            && text.starts_with(|c: char| c.is_ascii_alphanumeric())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidUplinkName {
                found: text.to_owned(),
            })
        }
    }
}

impl TryFrom<String> for UplinkName {
    type Error = InvalidUplinkName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<UplinkName> for String {
    fn from(name: UplinkName) -> Self {
        name.0
    }
}

impl fmt::Display for UplinkName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
