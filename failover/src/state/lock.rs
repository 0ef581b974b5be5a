//! The lock on the state folder: one daemon at a time, and no `clean` beside one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;
use tracing::warn;

/// Held as long as it lives; the kernel releases it when the process ends, however it ends.
#[derive(Debug)]
pub struct StateLock {
    _file: Flock<File>,
}

/// Why the lock was not taken.
#[derive(Debug, Error)]
pub enum LockError {
    /// Somebody holds it.
    #[error("a daemon is running on the state folder {folder} (process {holder}): stop it first")]
    Held {
        /// The state folder.
        folder: PathBuf,
        /// The process that holds it, as it wrote itself into the file.
        holder: String,
    },
    /// The folder or the file cannot be used.
    #[error("cannot {what} {path}: set `state_dir` to a folder that this user may write")]
    Unusable {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl StateLock {
    /// Makes the folder if need be and takes the lock, without waiting for it.
    ///
    /// # Errors
    /// When another process holds it, or the folder cannot be made or written.
    pub fn take(folder: &Path) -> Result<Self, LockError> {
        let unusable = |what, path: &Path| {
            let path = path.to_owned();
            move |source| LockError::Unusable { what, path, source }
        };
        fs::create_dir_all(folder).map_err(unusable("create the state folder", folder))?;
        let path = folder.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .map_err(unusable("open the lock", &path))?;
        let mut held = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(held) => held,
            Err((_, Errno::EWOULDBLOCK)) => {
                let holder = fs::read_to_string(&path).unwrap_or_default();
                let holder = holder.trim();
                return Err(LockError::Held {
                    folder: folder.to_owned(),
                    holder: if holder.is_empty() { "unknown" } else { holder }.to_owned(),
                });
            }
            Err((_, error)) => return Err(unusable("lock", &path)(error.into())),
        };
        // Only who holds it is told by what is in the file.
        if let Err(error) = held
            .set_len(0)
            .and_then(|()| writeln!(held, "{}", std::process::id()))
        {
            warn!(path = %path.display(), %error, "cannot write this process's number into the lock");
        }
        Ok(Self { _file: held })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_refused_and_told_who_holds_it() {
        let folder = std::env::temp_dir().join(format!("failover-lock-{}", std::process::id()));
        let first = StateLock::take(&folder).unwrap();
        let refusal = StateLock::take(&folder).unwrap_err();
        assert!(
            refusal
                .to_string()
                .contains(&format!("process {}", std::process::id()))
        );
        drop(first);
        StateLock::take(&folder).unwrap();
        fs::remove_dir_all(&folder).unwrap();
    }
}
