//! The toolchain for the BPF target: found, or set up.
//!
//! Two kinds do: a rustup nightly with the sources of the standard library and a bpf-linker that the
//! user has; or Debian's web toolchain (the compiler that Debian builds browsers with), whose LLVM
//! is packaged too, so that bpf-linker can be built here.

use std::env;
use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use thiserror::Error;

use crate::command::{self, CommandError};
use crate::setup::{self, SetupError};
use crate::workspace::{Workspace, find_program};

/// Where a toolchain comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// A rustup nightly.
    Rustup,
    /// Debian's packages.
    Debian,
}

impl Kind {
    /// The one that is not this one.
    pub(crate) const fn other(self) -> Self {
        match self {
            Self::Rustup => Self::Debian,
            Self::Debian => Self::Rustup,
        }
    }

    /// Both, with this one first.
    pub(crate) const fn starting_with(self) -> [Self; 2] {
        [self, self.other()]
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rustup => "rustup",
            Self::Debian => "debian",
        })
    }
}

/// The versions of everything that leaves its trace in the object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Versions {
    /// Of the compiler, with its commit.
    pub(crate) rustc: String,
    /// Of the compiler's LLVM.
    pub(crate) llvm: String,
    /// Of bpf-linker.
    pub(crate) linker: String,
    /// Of the program that strips debug information.
    pub(crate) strip: String,
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "rustc {}, LLVM {}, bpf-linker {}, strip of LLVM {}",
            self.rustc, self.llvm, self.linker, self.strip
        )
    }
}

/// A toolchain that is there.
pub(crate) struct Toolchain {
    /// Where it comes from.
    pub(crate) kind: Kind,
    /// What it is.
    pub(crate) versions: Versions,
    /// The compiler.
    pub(crate) rustc: PathBuf,
    /// Its cargo.
    pub(crate) cargo: PathBuf,
    /// Where the sources of the standard library are.
    pub(crate) library: PathBuf,
    /// bpf-linker.
    pub(crate) linker: PathBuf,
    /// `llvm-strip`, or `rust-objcopy`, which understands the same option.
    pub(crate) strip: PathBuf,
}

/// Why there is no toolchain of one kind.
#[derive(Debug, Error)]
pub(crate) enum ToolchainError {
    /// A program is missing that is not ours to install.
    #[error("{0} is not installed")]
    Missing(&'static str),
    /// A file that belongs to the toolchain is not there.
    #[error("{0} is not there")]
    NoFile(PathBuf),
    /// A tool did not do as it was told.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Packages could not be installed.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A tool does not tell its version, or another than is needed.
    #[error("{} is not as needed: {wanted}", tool.display())]
    Version {
        /// The tool.
        tool: PathBuf,
        /// What was looked for.
        wanted: &'static str,
    },
}

/// No toolchain of any kind can be had.
#[derive(Debug, Error)]
#[error("no toolchain for the BPF target: {}", reasons.join("; "))]
pub(crate) struct NoToolchain {
    /// Why not, for each kind.
    reasons: Vec<String>,
}

/// The first of some kinds of toolchain that is there or can be had. Says in one line why a kind
/// was passed over.
pub(crate) fn find(workspace: &Workspace, kinds: &[Kind]) -> Result<Toolchain, NoToolchain> {
    let mut reasons = Vec::new();
    for kind in kinds {
        let found = match kind {
            Kind::Rustup => rustup(),
            Kind::Debian => debian(workspace),
        };
        match found {
            Ok(toolchain) => {
                eprintln!("eBPF: {}", toolchain.versions);
                return Ok(toolchain);
            }
            Err(error) => {
                let reason = format!("{kind}: {error}").replace('\n', " ");
                eprintln!("eBPF: not with {reason}");
                reasons.push(reason);
            }
        }
    }
    Err(NoToolchain { reasons })
}

fn rustup() -> Result<Toolchain, ToolchainError> {
    find_program("rustup").ok_or(ToolchainError::Missing("rustup"))?;
    // Building it takes the very LLVM of the nightly, which is not to be had as a library. Releases
    // of bpf-linker bring it along; whoever works with nightly has one.
    let linker = find_program("bpf-linker").ok_or(ToolchainError::Missing(
        "bpf-linker (a release that knows the LLVM of the nightly)",
    ))?;
    let tool = |name: &str| {
        command::read(Command::new("rustup").args(["which", "--toolchain", "nightly", name]))
    };
    let sources = |rustc: &Path| {
        command::read(Command::new(rustc).args(["--print", "sysroot"]))
            .map(|path| PathBuf::from(path.trim()))
    };
    match tool("rustc") {
        Ok(rustc) if library_of(&sources(Path::new(rustc.trim()))?).is_ok() => {}
        // Added to the nightly that is there, which stays the version that the user works with.
        Ok(_) => {
            eprintln!("eBPF: adding rust-src to the nightly of rustup");
            let add = ["component", "add", "--toolchain", "nightly", "rust-src"];
            command::read(Command::new("rustup").args(add))?;
        }
        Err(_) => {
            eprintln!("eBPF: asking rustup for a nightly with rust-src");
            let install = ["toolchain", "install", "nightly", "--profile", "minimal"];
            command::read(
                Command::new("rustup")
                    .args(install)
                    .args(["--component", "rust-src"]),
            )?;
        }
    }
    let rustc = PathBuf::from(tool("rustc")?.trim());
    let sysroot = sources(&rustc)?;
    let (version, llvm, host) = identify(&rustc)?;
    // What rustc itself strips with, and so of the same LLVM.
    let strip = sysroot
        .join("lib/rustlib")
        .join(host)
        .join("bin/rust-objcopy");
    Ok(Toolchain {
        kind: Kind::Rustup,
        versions: Versions {
            rustc: version,
            llvm,
            linker: linker_version(&linker)?,
            strip: strip_version(&strip)?,
        },
        cargo: PathBuf::from(tool("cargo")?.trim()),
        library: library_of(&sysroot)?,
        rustc,
        linker,
        strip,
    })
}

/// The packages, and the LLVM that their rustc is linked with.
const PACKAGES: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "llvm-22-dev"];
const LLVM: &str = "/usr/lib/llvm-22";
const LLVM_MAJOR: &str = "22.";

/// The bpf-linker that is built for it: its feature says which LLVM.
const LINKER: [&str; 6] = [
    "bpf-linker",
    "--version",
    "0.13.0",
    "--no-default-features",
    "--features",
    "llvm-22",
];

fn debian(workspace: &Workspace) -> Result<Toolchain, ToolchainError> {
    let rustc = PathBuf::from("/usr/bin/rustc");
    let cargo = PathBuf::from("/usr/bin/cargo");
    let strip = Path::new(LLVM).join("bin/llvm-strip");
    let complete = || {
        cargo.is_file()
            && strip.is_file()
            && Path::new(LLVM).join("bin/llvm-config").is_file()
            && library_of(Path::new("/usr")).is_ok()
            && identify(&rustc).is_ok_and(|(_, llvm, _)| llvm.starts_with(LLVM_MAJOR))
    };
    if !complete() {
        setup::install(&PACKAGES)?;
    }
    let (version, llvm, _) = identify(&rustc)?;
    if !llvm.starts_with(LLVM_MAJOR) {
        return Err(ToolchainError::Version {
            tool: rustc,
            wanted: "a rustc with LLVM 22, as in Debian's package rustc-web",
        });
    }
    let linker = build_linker(workspace)?;
    Ok(Toolchain {
        kind: Kind::Debian,
        versions: Versions {
            rustc: version,
            llvm,
            linker: linker_version(&linker)?,
            strip: strip_version(&strip)?,
        },
        library: library_of(Path::new("/usr"))?,
        rustc,
        cargo,
        linker,
        strip,
    })
}

/// Builds bpf-linker with the Rust that builds the daemon, into the target folder: what the user
/// has in the cargo home is not touched. Only once.
fn build_linker(workspace: &Workspace) -> Result<PathBuf, ToolchainError> {
    let tools = workspace.target().join("tools");
    let linker = tools.join("bin/bpf-linker");
    if linker_version(&linker).is_ok_and(|version| LINKER.contains(&version.as_str())) {
        return Ok(linker);
    }
    eprintln!("eBPF: building bpf-linker into {}", tools.display());
    let mut install = workspace.cargo();
    install
        .args(["install", "--locked", "--force", "--root"])
        .arg(&tools)
        .args(LINKER)
        // llvm-sys asks for the one, bpf-linker's own build script for the other.
        .env("LLVM_SYS_221_PREFIX", LLVM)
        .env("LLVM_PREFIX", LLVM);
    command::run(&mut install)?;
    Ok(linker)
}

/// The folder of the standard library's sources, without which no other target can be built.
fn library_of(sysroot: &Path) -> Result<PathBuf, ToolchainError> {
    let sources = sysroot.join("lib/rustlib/src/rust");
    let lock = sources.join("library/Cargo.lock");
    if lock.is_file() {
        Ok(sources)
    } else {
        Err(ToolchainError::NoFile(lock))
    }
}

/// Version with commit, version of LLVM, and host of a compiler.
fn identify(rustc: &Path) -> Result<(String, String, String), ToolchainError> {
    let said = command::read(plain(rustc).arg("-vV"))?;
    parse_identity(&said).ok_or_else(|| ToolchainError::Version {
        tool: rustc.to_owned(),
        wanted: "`-vV` tells release, commit and LLVM",
    })
}

fn parse_identity(said: &str) -> Option<(String, String, String)> {
    let value = |key: &str| {
        said.lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
    };
    let version = format!("{} ({})", value("release")?, value("commit-hash")?);
    Some((
        version,
        value("LLVM version")?.to_owned(),
        value("host")?.to_owned(),
    ))
}

fn linker_version(linker: &Path) -> Result<String, ToolchainError> {
    let said = command::read(plain(linker).arg("--version"))?;
    said.split_whitespace()
        .nth(1)
        .map(str::to_owned)
        .ok_or_else(|| ToolchainError::Version {
            tool: linker.to_owned(),
            wanted: "`--version` tells one",
        })
}

fn strip_version(strip: &Path) -> Result<String, ToolchainError> {
    let said = command::read(plain(strip).arg("--version"))?;
    said.split_whitespace()
        .skip_while(|word| *word != "version")
        .nth(1)
        .map(str::to_owned)
        .ok_or_else(|| ToolchainError::Version {
            tool: strip.to_owned(),
            wanted: "`--version` tells one of LLVM",
        })
}

/// A call without what the cargo above us has set for its own Rust: another toolchain would load
/// that one's libraries, or be steered to it by rustup.
pub(crate) fn plain(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let inherited = name.to_str().is_some_and(|name| {
            name == "LD_LIBRARY_PATH"
                || name == "RUSTUP_TOOLCHAIN"
                || name.starts_with("RUSTC")
                || name.starts_with("RUSTFLAGS")
                || (name.starts_with("CARGO")
                    && name != "CARGO_HOME"
                    && !name.starts_with("CARGO_NET")
                    && !name.starts_with("CARGO_HTTP"))
        });
        if inherited {
            command.env_remove(name);
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_is_told_by_release_commit_and_llvm() {
        let said = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n\
                    binary: rustc\ncommit-hash: ac68faa20c58\ncommit-date: 2026-05-25\n\
                    host: x86_64-unknown-linux-gnu\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(
            parse_identity(said),
            Some((
                "1.96.0 (ac68faa20c58)".into(),
                "22.1.8".into(),
                "x86_64-unknown-linux-gnu".into()
            ))
        );
        assert_eq!(parse_identity("rustc 1.96.0\n"), None);
    }
}
