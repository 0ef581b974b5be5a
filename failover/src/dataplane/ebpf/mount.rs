//! The BPF file system: used where it is, mounted where it is not.

use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount, umount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use thiserror::Error;
use tracing::info;

/// Where distributions mount it.
const USUAL: &str = "/sys/fs/bpf";

/// Why there is no folder on a BPF file system.
#[derive(Debug, Error)]
pub enum MountError {
    /// Nobody can tell what is there.
    #[error("cannot look at {path}: {source}")]
    Look {
        /// What was looked at.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder cannot be made.
    #[error("cannot make {path} on the BPF file system: {source}")]
    Make {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot be mounted.
    #[error("cannot mount a BPF file system at {path}: {source}; `bpffs` names another place")]
    Mount {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Sees to it that `folder` can be made on a BPF file system. Returns where one was mounted for
/// that, if it was.
///
/// # Errors
/// When nothing can be mounted.
pub fn ensure(folder: &Path) -> Result<Option<PathBuf>, MountError> {
    if is_bpffs(nearest(folder)?)? {
        return Ok(None);
    }
    let place = if folder.starts_with(USUAL) {
        Path::new(USUAL)
    } else {
        std::fs::create_dir_all(folder).map_err(|source| MountError::Make {
            path: folder.to_owned(),
            source,
        })?;
        folder
    };
    mount(
        Some("bpf"),
        place,
        Some("bpf"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=0700"),
    )
    .map_err(|error| MountError::Mount {
        path: place.to_owned(),
        source: error.into(),
    })?;
    info!(place = %place.display(), "mounted a BPF file system");
    Ok(Some(place.to_owned()))
}

/// Unmounts what was mounted, unless others use it by now.
pub fn release(place: &Path) {
    if let Err(error) = umount(place) {
        info!(place = %place.display(), %error, "the BPF file system stays mounted");
    }
}

/// Whether a folder that exists lies on a BPF file system.
///
/// # Errors
/// When it cannot be looked at.
pub fn is_bpffs(folder: &Path) -> Result<bool, MountError> {
    let found = statfs(folder).map_err(|error| MountError::Look {
        path: folder.to_owned(),
        source: error.into(),
    })?;
    Ok(found.filesystem_type() == BPF_FS_MAGIC)
}

/// The folder itself or the first one above it that exists.
fn nearest(folder: &Path) -> Result<&Path, MountError> {
    folder
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .ok_or_else(|| MountError::Look {
            path: folder.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        })
}
