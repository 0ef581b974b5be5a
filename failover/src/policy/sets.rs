//! Named sets of addresses: in the configuration, or in files of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::addresses::AddressSet;

/// The name of a set: 1 to 32 of the characters `a-z A-Z 0-9 _ -`, beginning with a letter, so that
/// no name can be taken for an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SetName(String);

/// A text is no name of a set.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "`{0}` is no name of a set: 1 to 32 of the characters a-z A-Z 0-9 _ - are allowed, the first a letter"
)]
pub struct InvalidSetName(String);

impl SetName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SetName {
    type Err = InvalidSetName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = text.len() <= 32
            && text.starts_with(|c: char| c.is_ascii_alphabetic())
            && text
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidSetName(text.to_owned()))
        }
    }
}

impl TryFrom<String> for SetName {
    type Error = InvalidSetName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<SetName> for String {
    fn from(name: SetName) -> Self {
        name.0
    }
}

impl fmt::Display for SetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// Where the addresses of a set come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SetSource {
    /// The configuration itself.
    Inline(Arc<AddressSet>),
    /// A file of its own.
    File(PathBuf),
}

impl fmt::Display for SetSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inline(set) => write!(f, "{} prefixes and ranges", set.len()),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The addresses of all sets, by name.
pub type Sets = BTreeMap<SetName, Arc<AddressSet>>;
