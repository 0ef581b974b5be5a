//! Names and indexes of network interfaces.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The name of a network interface as Linux accepts it: 1 to 15 bytes, no `/`, no white space, not
/// `.` or `..` (`dev_valid_name` in the kernel's `net/core/dev.c`), and printable, since it stands
/// in rule sets and logs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct InterfaceName(String);

/// Why a text is no interface name.
#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "`{found}` is no interface name: 1 to 15 printable characters are allowed, without white space, `/`, `:`, `\"`, `\\` or `*`"
)]
pub struct InvalidInterfaceName {
    /// What was found.
    pub found: String,
}

impl InterfaceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for InterfaceName {
    type Err = InvalidInterfaceName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let valid = !text.is_empty()
            && text.len() <= 15
            && text != "."
            && text != ".."
            && text
                .chars()
                .all(|c| c.is_ascii_graphic() && !matches!(c, '/' | ':' | '"' | '\\' | '*'));
        if valid {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidInterfaceName {
                found: text.to_owned(),
            })
        }
    }
}

impl TryFrom<String> for InterfaceName {
    type Error = InvalidInterfaceName;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<InterfaceName> for String {
    fn from(name: InterfaceName) -> Self {
        name.0
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The kernel's index of an interface; a new one is given each time an interface is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceIndex(pub u32);

impl fmt::Display for InterfaceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
