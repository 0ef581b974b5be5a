//! Demo, benchmarks and soak tests: builds the lab and runs it as root.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::ExitCode;

use thiserror::Error;

use crate::command::{self, CommandError};
use crate::privilege::{NoPrivilege, Privilege};
use crate::setup::{self, SetupError};
use crate::workspace::{Workspace, path_of_root};

/// What the lab is to do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Show {
    /// The product at work.
    Demo,
    /// Measurements.
    Bench,
    /// What takes long.
    Soak,
    /// The Debian package.
    Package,
}

/// Why the lab did not run.
#[derive(Debug, Error)]
pub(crate) enum LabError {
    /// A program is missing and could not be installed.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The build failed.
    #[error("building failover and its lab: {0}")]
    Build(CommandError),
    /// The lab makes network namespaces.
    #[error("the lab makes network namespaces: {0}")]
    Privilege(#[from] NoPrivilege),
    /// The lab was built and would not start.
    #[error("starting {program}: {source}")]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Sets up, builds, and becomes the lab, so that it gets the signals and its exit status counts.
pub(crate) fn run(
    workspace: &Workspace,
    show: Show,
    arguments: &[OsString],
) -> Result<ExitCode, LabError> {
    setup::run(workspace)?;
    // Before the build, which takes minutes.
    let privilege = Privilege::obtain()?;
    let mut build = workspace.cargo();
    // The whole workspace, as for the tests: cargo then builds each dependency once for all uses.
    build.args(["build", "--workspace", "--bins"]);
    let (verb, profile) = match show {
        Show::Demo => ("demo", "debug"),
        // The numbers of a debug build say nothing about what users run.
        Show::Bench => {
            build.arg("--release");
            ("bench", "release")
        }
        Show::Soak => ("soak", "debug"),
        Show::Package => ("package", "debug"),
    };
    eprintln!("{verb}: building failover and its lab ({profile})");
    command::run(&mut build).map_err(LabError::Build)?;

    let program = workspace.target().join(profile).join("failover-lab");
    let log = std::env::var_os("RUST_LOG");
    let path = path_of_root();
    let environment: Vec<(&str, &OsStr)> = log
        .iter()
        .map(|value| ("RUST_LOG", value.as_os_str()))
        .chain([("PATH", path.as_os_str())])
        .collect();
    let source = privilege
        .command(&program, &environment)
        .arg(verb)
        .args(arguments)
        .exec();
    Err(LabError::Start { program, source })
}
