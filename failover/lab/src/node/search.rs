//! Where programs are looked for: in `PATH`, and where distributions put what is for root, which a
//! user's `PATH` often lacks.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::LabError;

/// The folders of system administration.
const OF_ROOT: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

fn folders() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(OF_ROOT.map(PathBuf::from))
        .collect()
}

/// All of these folders, as programs are given them.
pub(super) fn path() -> OsString {
    // It cannot fail: the folders come from a PATH.
    std::env::join_paths(folders()).unwrap_or_default()
}

/// That a program is there.
///
/// # Errors
/// When it is not: with the Debian package that has it.
pub(crate) fn need(program: &'static str, package: &'static str) -> Result<(), LabError> {
    let found = folders()
        .iter()
        .any(|folder| folder.join(program).is_file());
    if found {
        Ok(())
    } else {
        Err(LabError::NotInstalled { program, package })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_missing_is_told_with_its_package() {
        need("sh", "dash").unwrap();
        let missing = need("no-such-program", "no-such-package").unwrap_err();
        let text = missing.to_string();
        assert!(text.contains("`no-such-program`"), "{text}");
        assert!(text.contains("apt-get install no-such-package"), "{text}");
    }
}
