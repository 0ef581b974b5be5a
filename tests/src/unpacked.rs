//! Programs whose Debian packages would begin to serve where they are installed: `cargo xtask setup`
//! unpacks them beside the folder that test programs are built into.

use std::env;
use std::path::{Path, PathBuf};

use crate::{LabError, ProgramSpec};

/// In the target folder.
const UNPACKED: &str = "unpacked";

/// Such a program, as it is installed or else with the libraries that were unpacked with it.
///
/// # Errors
/// When it is neither.
pub fn program(name: &str) -> Result<ProgramSpec, LabError> {
    let unpacked = unpacked();
    let folders = env::var_os("PATH").unwrap_or_default();
    let installed = env::split_paths(&folders).chain(["/usr/sbin".into()]);
    let found = installed
        .chain(["usr/sbin", "usr/bin"].map(|folder| unpacked.join(folder)))
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| LabError::Layout {
            reason: format!("{name} is not there: run `cargo xtask setup`"),
        })?;
    let spec = ProgramSpec::new(&found);
    if found.starts_with(&unpacked) {
        Ok(spec.variable("LD_LIBRARY_PATH", libraries(&unpacked)))
    } else {
        Ok(spec)
    }
}

fn unpacked() -> PathBuf {
    let this = env::current_exe().unwrap_or_default();
    // target/debug/deps/pair-…
    let target = this.ancestors().nth(3).unwrap_or(Path::new(""));
    target.join(UNPACKED)
}

/// The folders of libraries of every architecture that Debian has packages of.
fn libraries(unpacked: &Path) -> String {
    let triplet = format!("{}-linux-gnu", env::consts::ARCH);
    ["usr/lib", "lib"]
        .map(|folder| unpacked.join(folder).join(&triplet).display().to_string())
        .join(":")
}
