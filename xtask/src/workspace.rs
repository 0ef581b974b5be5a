//! Where things are in the checkout.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The checkout that this program was built from.
pub(crate) struct Workspace {
    root: PathBuf,
}

impl Workspace {
    /// The checkout, as it was when this program was compiled: `cargo xtask` compiles it in place.
    pub(crate) fn of_this_build() -> Self {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self {
            root: own.parent().unwrap_or(own).to_owned(),
        }
    }

    /// The folder that holds the workspace.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The target folder, which everything here shares. It is the checkout's own even where
    /// `CARGO_TARGET_DIR` says otherwise, so that what was built by hand is found again.
    pub(crate) fn target(&self) -> PathBuf {
        self.root.join("target")
    }

    /// A call of the cargo that started this program, in the root of the checkout.
    pub(crate) fn cargo(&self) -> Command {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
        let mut command = Command::new(cargo);
        command
            .current_dir(&self.root)
            .env("CARGO_TARGET_DIR", self.target());
        command
    }
}

/// The folders of system administration, which are not in the PATH of every user.
const ADMINISTRATION: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

fn folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let own: Vec<PathBuf> = env::split_paths(&path).collect();
    let missing = ADMINISTRATION
        .map(PathBuf::from)
        .into_iter()
        .filter(|folder| !own.contains(folder));
    own.iter().cloned().chain(missing).collect()
}

/// The PATH for what runs as root: this user's, and the folders of system administration.
pub(crate) fn path_of_root() -> OsString {
    // It cannot fail: the folders come from a PATH.
    env::join_paths(folders()).unwrap_or_default()
}

/// Finds a program as the shell does, and in the folders of system administration.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    folders()
        .into_iter()
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Where a program is, or its name alone for the system to say that it is not there.
pub(crate) fn program(name: &str) -> PathBuf {
    find_program(name).unwrap_or_else(|| PathBuf::from(name))
}
