//! Where keepalived and conntrackd are: installed, or unpacked by `cargo xtask setup`.

use std::env;
use std::path::{Path, PathBuf};

use failover_tests::ProgramSpec;

/// Where set-up unpacks Debian packages, beside the folder that this program was built into.
const UNPACKED: &str = "unpacked";

/// A program, with the libraries that were unpacked with it.
pub(crate) fn program(name: &str) -> Result<ProgramSpec, String> {
    let unpacked = unpacked();
    let folders = env::var_os("PATH").unwrap_or_default();
    let installed = env::split_paths(&folders).chain(["/usr/sbin".into()]);
    let found = installed
        .chain([unpacked.join("usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
        .ok_or_else(|| format!("{name} is not there: run `cargo xtask setup`"))?;
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
