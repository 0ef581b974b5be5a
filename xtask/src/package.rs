//! What users install: a Debian package of the program, its unit, man pages and completions.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::{fs, io};

use thiserror::Error;

use crate::command::{self, CommandError};
use crate::lab::{self, LabError};
use crate::setup::{self, SetupError};
use crate::workspace::Workspace;

/// What writes the package.
const CARGO_DEB: &str = "cargo-deb";
const VERSION: &str = "3.8.0";

/// What it calls, and what the check does besides.
const PROGRAMS: [(&str, &str); 2] = [("dpkg-shlibdeps", "dpkg-dev"), ("xz", "xz-utils")];
const CHECKED_WITH: [(&str, &str); 3] = [
    ("systemctl", "systemd"),
    ("man", "man-db"),
    ("pgrep", "procps"),
];

/// The C compiler for programs that are linked statically, and how crates find it.
const MUSL: [(&str, &str); 1] = [("musl-gcc", "musl-tools")];

/// The revisions of a package and of the next one, which replaces it.
const REVISION: &str = "1";
const NEXT: &str = "2";

/// Why there is no package.
#[derive(Debug, Error)]
pub(crate) enum PackageError {
    /// A program is missing and could not be installed.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// A step failed.
    #[error("the package: {0}")]
    Command(#[from] CommandError),
    /// A folder could not be made anew.
    #[error("making {path} anew: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The check did not begin.
    #[error(transparent)]
    Lab(#[from] LabError),
}

/// Builds the package, for a target other than this machine's if one is named, and checks it.
pub(crate) fn run(
    workspace: &Workspace,
    target: Option<&str>,
    check: bool,
) -> Result<ExitCode, PackageError> {
    setup::programs(&PROGRAMS)?;
    let build = Build { workspace, target };
    build.prepare()?;
    build.program()?;
    build.pages()?;
    let package = build.package(REVISION)?;
    eprintln!("package: {}", package.display());
    if !check {
        return Ok(ExitCode::SUCCESS);
    }
    setup::programs(&CHECKED_WITH)?;
    let newer = build.package(NEXT)?;
    let packages = [OsString::from(package), OsString::from(newer)];
    Ok(lab::run(workspace, lab::Show::Package, &packages)?)
}

struct Build<'a> {
    workspace: &'a Workspace,
    target: Option<&'a str>,
}

impl Build<'_> {
    /// Everything that is made here and not installed.
    fn folder(&self) -> PathBuf {
        self.workspace.target().join("package")
    }

    /// What cargo needs for another target.
    fn prepare(&self) -> Result<(), PackageError> {
        let Some(target) = self.target else {
            return Ok(());
        };
        if target.ends_with("-musl") {
            setup::programs(&MUSL)?;
        }
        let mut rustup = Command::new("rustup");
        rustup
            .current_dir(self.workspace.root())
            .args(["target", "add", target]);
        Ok(command::run(&mut rustup)?)
    }

    fn cargo(&self, words: &[&str]) -> Command {
        let mut cargo = self.workspace.cargo();
        cargo
            .args(words)
            .args(["--release", "--package", "failover"]);
        if let Some(target) = self.target {
            cargo.args(["--target", target]);
        }
        cargo
    }

    fn program(&self) -> Result<(), PackageError> {
        Ok(command::run(self.cargo(&["build"]).arg("--bins"))?)
    }

    fn pages(&self) -> Result<(), PackageError> {
        let pages = self.folder().join("pages");
        if pages.exists() {
            fs::remove_dir_all(&pages).map_err(|source| PackageError::Folder {
                path: pages.clone(),
                source,
            })?;
        }
        // In the profile and with the features of the tests, for which most of it is built already, and
        // for this machine, whatever the program is built for.
        let mut build = self.workspace.cargo();
        build.args(["build", "--workspace", "--example", "pages"]);
        command::run(&mut build)?;
        let write = self.workspace.target().join("debug/examples/pages");
        Ok(command::run(Command::new(write).arg(&pages))?)
    }

    fn package(&self, revision: &str) -> Result<PathBuf, PackageError> {
        let cargo_deb = obtain(self.workspace)?;
        let mut command = Command::new(cargo_deb);
        command
            .current_dir(self.workspace.root())
            .env("CARGO_TARGET_DIR", self.workspace.target())
            .args(["--no-build", "--package", "failover"])
            .args(["--deb-revision", revision])
            .arg("--output")
            .arg(self.folder());
        if let Some(target) = self.target {
            command.args(["--target", target]);
        }
        let said = command::read(&mut command)?;
        // Its last line is where the package is.
        let path = said.lines().last().unwrap_or_default().trim();
        Ok(PathBuf::from(path))
    }
}

/// cargo-deb, built into the target folder: what the user has in the cargo home is not touched. Only
/// once.
fn obtain(workspace: &Workspace) -> Result<PathBuf, PackageError> {
    let tools = workspace.target().join("tools");
    let program = tools.join("bin/cargo-deb");
    let said = command::read(Command::new(&program).arg("--version"));
    if said.is_ok_and(|said| said.trim() == VERSION) {
        return Ok(program);
    }
    eprintln!("package: building cargo-deb into {}", tools.display());
    let mut install = workspace.cargo();
    install
        .args(["install", "--locked", "--force", "--root"])
        .arg(&tools)
        // It calls xz, and needs no library for it.
        .args([CARGO_DEB, "--version", VERSION, "--no-default-features"]);
    command::run(&mut install)?;
    Ok(program)
}
