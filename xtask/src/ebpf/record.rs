//! The file beside the object that says what it was built from and by.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::sources::Sha;
use super::toolchain::{Kind, Versions};

/// What is recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    /// The digest of the sources.
    pub(crate) sources: Sha,
    /// The digest of the object itself.
    pub(crate) object: Sha,
    /// Where the toolchain came from.
    pub(crate) toolchain: Kind,
    /// Its parts.
    pub(crate) versions: Versions,
}

/// The record cannot be understood.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum RecordError {
    /// A key is not there, or not as `key = "value"`.
    #[error("it says nothing about `{0}`")]
    Missing(&'static str),
    /// The toolchain is of no known kind.
    #[error("`{0}` is no toolchain: `rustup` or `debian` are known")]
    Toolchain(String),
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# What failover.bpf.o was built from and by; written by `cargo xtask build-ebpf`."
        )?;
        writeln!(f, "sources = \"{}\"", self.sources.0)?;
        writeln!(f, "object = \"{}\"", self.object.0)?;
        writeln!(f, "toolchain = \"{}\"", self.toolchain)?;
        writeln!(f, "rustc = \"{}\"", self.versions.rustc)?;
        writeln!(f, "llvm = \"{}\"", self.versions.llvm)?;
        writeln!(f, "bpf-linker = \"{}\"", self.versions.linker)?;
        writeln!(f, "strip = \"{}\"", self.versions.strip)
    }
}

impl FromStr for Record {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let value = |key: &'static str| {
            text.lines()
                .filter_map(|line| line.split_once(" = "))
                .find(|(name, _)| *name == key)
                .and_then(|(_, quoted)| quoted.strip_prefix('"')?.strip_suffix('"'))
                .map(str::to_owned)
                .ok_or(RecordError::Missing(key))
        };
        let toolchain = value("toolchain")?;
        Ok(Self {
            sources: Sha(value("sources")?),
            object: Sha(value("object")?),
            toolchain: match toolchain.as_str() {
                "rustup" => Kind::Rustup,
                "debian" => Kind::Debian,
                _ => return Err(RecordError::Toolchain(toolchain)),
            },
            versions: Versions {
                rustc: value("rustc")?,
                llvm: value("llvm")?,
                linker: value("bpf-linker")?,
                strip: value("strip")?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            sources: Sha::of(b"sources"),
            object: Sha::of(b"object"),
            toolchain: Kind::Debian,
            versions: Versions {
                rustc: "1.96.0 (ac68faa20 2026-05-25)".into(),
                llvm: "22.1.8".into(),
                linker: "0.13.0".into(),
                strip: "22.1.8".into(),
            },
        }
    }

    #[test]
    fn is_read_as_it_was_written() {
        assert_eq!(record().to_string().parse(), Ok(record()));
    }

    #[test]
    fn says_what_it_lacks() {
        let text = record().to_string().replace("bpf-linker", "other-linker");
        assert_eq!(
            text.parse::<Record>(),
            Err(RecordError::Missing("bpf-linker"))
        );
    }
}
