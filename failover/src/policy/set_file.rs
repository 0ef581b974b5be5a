//! Files of addresses: one address, prefix or range in a line; what follows a `#` is a comment.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::addresses::{AddressRange, AddressSet, InvalidAddresses};

/// The largest file that is read, in bytes: a million prefixes of IPv6.
pub const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// How many broken lines are told.
const TOLD: usize = 10;
/// How much of a line is shown, in characters.
const SHOWN: usize = 60;

/// Why a file gives no set.
#[derive(Debug, Error)]
pub enum SetFileError {
    /// It cannot be read.
    #[error("{}: cannot read the set: {cause}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It is too large.
    #[error("{}: found more than {MAX_FILE_BYTES} bytes, allowed: a file of at most so many", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// Lines in it are no addresses.
    #[error("{}", told(file, lines))]
    Broken {
        /// The file.
        file: PathBuf,
        /// What is wrong, line by line.
        lines: Vec<BrokenLine>,
    },
}

/// A line that is no addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokenLine {
    /// Its number, from 1.
    pub line: usize,
    /// What stands there, shortened.
    pub found: String,
    /// What may stand there.
    pub allowed: InvalidAddresses,
}

impl fmt::Display for BrokenLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "found `{}`, allowed: {}", self.found, self.allowed)
    }
}

fn told(file: &Path, lines: &[BrokenLine]) -> String {
    let name = file.display();
    let mut told: Vec<String> = lines
        .iter()
        .take(TOLD)
        .map(|broken| format!("{name}:{}: {broken}", broken.line))
        .collect();
    if lines.len() > TOLD {
        told.push(format!("and {} more broken lines", lines.len() - TOLD));
    }
    told.join("\n")
}

/// Reads a file.
///
/// # Errors
/// When it cannot be read, or any line of it is no addresses: a set is taken whole or not at all.
pub fn read(file: &Path) -> Result<AddressSet, SetFileError> {
    let unreadable = |cause| SetFileError::Unreadable {
        file: file.to_owned(),
        cause,
    };
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|open| open.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(SetFileError::TooLarge {
            file: file.to_owned(),
        });
    }
    // What is no text is no addresses either, and is shown as far as it can be.
    parse(&String::from_utf8_lossy(&bytes)).map_err(|lines| SetFileError::Broken {
        file: file.to_owned(),
        lines,
    })
}

/// Reads the text of a file.
///
/// # Errors
/// All lines that are no addresses.
pub fn parse(text: &str) -> Result<AddressSet, Vec<BrokenLine>> {
    let mut ranges = Vec::new();
    let mut broken = Vec::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.split('#').next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        match content.parse::<AddressRange>() {
            Ok(range) => ranges.push(range),
            Err(allowed) => broken.push(BrokenLine {
                line,
                found: shown(content),
                allowed,
            }),
        }
    }
    if broken.is_empty() {
        Ok(AddressSet::of(ranges))
    } else {
        Err(broken)
    }
}

/// A line as it is shown: short, and with nothing in it that a terminal would obey.
fn shown(content: &str) -> String {
    let mut shown: String = content
        .chars()
        .take(SHOWN)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if content.chars().count() > SHOWN {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Family;

    #[test]
    fn comments_and_empty_lines_are_no_addresses() {
        let set =
            parse("# list\n\n192.0.2.0/24 # one\r\n  fd00::1\n192.0.2.0-192.0.2.9\n").unwrap();
        let shown = |family| {
            set.ranges(family)
                .map(|range| range.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(shown(Family::Ipv4), ["192.0.2.0/24"]);
        assert_eq!(shown(Family::Ipv6), ["fd00::1"]);
        assert!(parse("").unwrap().is_empty());
    }

    #[test]
    fn every_broken_line_is_told_with_its_number() {
        let error = SetFileError::Broken {
            file: "/s.txt".into(),
            lines: parse("192.0.2.1\n192.0.2.1/24\n<html>\u{1b}[2J\n").unwrap_err(),
        };
        assert_eq!(
            error.to_string(),
            "/s.txt:2: found `192.0.2.1/24`, allowed: a prefix with no bits set behind it: 192.0.2.0/24\n\
             /s.txt:3: found `<html>\u{fffd}[2J`, allowed: an address (192.0.2.1), a prefix (192.0.2.0/24) or a range (192.0.2.10-192.0.2.19), of IPv4 or IPv6"
        );
    }
}
