//! The eBPF object that is checked in: built anew, and compared with its sources.

mod compile;
mod record;
mod sources;
pub(crate) mod toolchain;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use self::compile::CompileError;
use self::record::{Record, RecordError};
use self::sources::{ReadError, Sha};
use self::toolchain::{Kind, NoToolchain};
use crate::workspace::Workspace;

/// What went wrong with the object.
#[derive(Debug, Error)]
pub(crate) enum EbpfError {
    /// No toolchain.
    #[error(transparent)]
    Toolchain(#[from] NoToolchain),
    /// It does not build.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A source, the object or its record is unreadable.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The object or its record could not be replaced.
    #[error("writing {path}: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The record is damaged.
    #[error("{path}: {source}; run `cargo xtask build-ebpf`")]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: RecordError,
    },
    /// Someone changed a source and did not build the object.
    #[error(
        "the eBPF sources are not those that failover.bpf.o was built from: run `cargo xtask build-ebpf` and check its result in"
    )]
    SourcesChanged,
    /// Someone changed the object.
    #[error(
        "failover.bpf.o is not the object that failover.bpf.toml tells of: run `cargo xtask build-ebpf`"
    )]
    ObjectChanged,
    /// The same toolchain makes another object of the same sources.
    #[error(
        "{} was built by the recorded toolchain from the recorded sources and differs from failover.bpf.o: run `cargo xtask build-ebpf` and check its result in", fresh.display()
    )]
    NotIdentical {
        /// The fresh object.
        fresh: PathBuf,
    },
}

/// How a fresh object compares with the one that is checked in.
pub(crate) struct Rebuilt {
    /// The fresh object.
    pub(crate) object: PathBuf,
    /// Whether the recorded toolchain could be had and made the very same bytes; else what was
    /// different.
    pub(crate) verdict: Result<(), Unproven>,
}

/// Why identity could not be shown.
#[derive(Debug, Error)]
pub(crate) enum Unproven {
    /// It is not identical, or the sources are not those of the record.
    #[error(transparent)]
    Wrong(EbpfError),
    /// Only another version of the toolchain can be had.
    #[error("identity not checked: recorded is {recorded}; here is {here}")]
    OtherToolchain {
        /// What built the object that is checked in.
        recorded: String,
        /// What built the fresh one.
        here: String,
    },
}

/// Builds the object that is checked in, and its record.
pub(crate) fn build(workspace: &Workspace, only: Option<Kind>) -> Result<(), EbpfError> {
    let kinds = only.map_or_else(|| Kind::Rustup.starting_with().to_vec(), |kind| vec![kind]);
    let toolchain = toolchain::find(workspace, &kinds)?;
    let fresh = read(&compile::compile(workspace, &toolchain)?)?;
    let record = Record {
        sources: sources::digest(workspace.root())?,
        object: Sha::of(&fresh),
        toolchain: toolchain.kind,
        versions: toolchain.versions,
    };
    let object = object_path(workspace);
    let unchanged = fs::read(&object).is_ok_and(|old| old == fresh);
    write(&object, &fresh)?;
    write(&record_path(workspace), record.to_string().as_bytes())?;
    eprintln!(
        "eBPF: {}: {} bytes, {}",
        object.display(),
        fresh.len(),
        if unchanged {
            "the same as before"
        } else {
            "changed"
        }
    );
    Ok(())
}

/// Whether the object that is checked in and its sources are those of the record.
pub(crate) fn check(workspace: &Workspace) -> Result<(), EbpfError> {
    let record = recorded(workspace)?;
    if record.object != Sha::of(&read(&object_path(workspace))?) {
        return Err(EbpfError::ObjectChanged);
    }
    if record.sources != sources::digest(workspace.root())? {
        return Err(EbpfError::SourcesChanged);
    }
    Ok(())
}

/// Builds a fresh object, with the recorded toolchain where that can be had, and compares.
pub(crate) fn rebuild(workspace: &Workspace) -> Result<Rebuilt, EbpfError> {
    let record = recorded(workspace)?;
    let toolchain = toolchain::find(workspace, &record.toolchain.starting_with())?;
    let object = compile::compile(workspace, &toolchain)?;
    let same = Sha::of(&read(&object)?) == record.object;
    let verdict = if same {
        Ok(())
    } else if sources::digest(workspace.root())? != record.sources {
        Err(Unproven::Wrong(EbpfError::SourcesChanged))
    } else if toolchain.versions != record.versions || toolchain.kind != record.toolchain {
        Err(Unproven::OtherToolchain {
            recorded: record.versions.to_string(),
            here: toolchain.versions.to_string(),
        })
    } else {
        Err(Unproven::Wrong(EbpfError::NotIdentical {
            fresh: object.clone(),
        }))
    };
    Ok(Rebuilt { object, verdict })
}

fn recorded(workspace: &Workspace) -> Result<Record, EbpfError> {
    let path = record_path(workspace);
    String::from_utf8_lossy(&read(&path)?)
        .parse()
        .map_err(|source| EbpfError::Record { path, source })
}

fn object_path(workspace: &Workspace) -> PathBuf {
    workspace
        .root()
        .join("failover/src/dataplane/ebpf/failover.bpf.o")
}

fn record_path(workspace: &Workspace) -> PathBuf {
    object_path(workspace).with_extension("toml")
}

fn read(path: &Path) -> Result<Vec<u8>, EbpfError> {
    fs::read(path).map_err(|source| {
        ReadError {
            path: path.to_owned(),
            source,
        }
        .into()
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), EbpfError> {
    fs::write(path, bytes).map_err(|source| EbpfError::Write {
        path: path.to_owned(),
        source,
    })
}
