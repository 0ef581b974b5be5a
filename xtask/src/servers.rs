//! The servers that tests of notifications talk to: Debian's packages, downloaded and unpacked under
//! the target folder. Installed they would begin to serve on the machine of whoever runs the tests.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use thiserror::Error;

use crate::command::{self, CommandError};
use crate::setup::{self, SetupError};
use crate::workspace::Workspace;

/// The packages, with those libraries of theirs that not every machine has.
const PACKAGES: [&str; 10] = [
    "exim4-daemon-light",
    "libdlt2",
    "libevent-2.1-7",
    "libgnutls-dane0",
    "libidn12",
    "libnsl2",
    "libprotobuf-c1",
    "libunbound8",
    "libwrap0",
    "mosquitto",
];

/// Why there are no servers.
#[derive(Debug, Error)]
pub(crate) enum ServersError {
    /// The lists of packages could not be fetched.
    #[error(transparent)]
    Lists(#[from] SetupError),
    /// apt or dpkg said no.
    #[error("unpacking servers for the tests of notifications: {0}")]
    Command(#[from] CommandError),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ServersError {
    let path = path.to_owned();
    move |source| ServersError::File { path, source }
}

/// Unpacks them, if they are not there yet, into `target/servers`.
pub(crate) fn obtain(workspace: &Workspace) -> Result<(), ServersError> {
    let ready = workspace.target().join("servers");
    if ready.is_dir() {
        return Ok(());
    }
    eprintln!("set-up: unpacking {} under target", PACKAGES.join(" "));
    let making = workspace.target().join("servers.making");
    if download(&making).is_err() {
        // Without lists, or with ones so old that they name files which are gone.
        setup::fetch_lists()?;
        download(&making)?;
    }
    // The final name comes last, so that what was interrupted is never taken for whole.
    fs::rename(making.join("unpacked"), &ready).map_err(at(&ready))?;
    fs::remove_dir_all(&making).map_err(at(&making))
}

fn download(making: &Path) -> Result<(), ServersError> {
    if making.exists() {
        fs::remove_dir_all(making).map_err(at(making))?;
    }
    let unpacked = making.join("unpacked");
    fs::create_dir_all(&unpacked).map_err(at(&unpacked))?;
    command::run(
        Command::new("apt-get")
            .current_dir(making)
            // Root's downloads are by another user, who may not write everywhere.
            .args(["-q", "-o", "APT::Sandbox::User=", "download"])
            .args(PACKAGES),
    )?;
    for entry in fs::read_dir(making).map_err(at(making))? {
        let file = entry.map_err(at(making))?.path();
        if file.extension() == Some(OsStr::new("deb")) {
            let mut unpack = Command::new("dpkg-deb");
            command::run(unpack.arg("-x").arg(&file).arg(&unpacked))?;
        }
    }
    Ok(())
}
