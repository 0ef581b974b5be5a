//! The BPF file system: used where it is, mounted where it is not.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount, umount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use thiserror::Error;
use tracing::info;

use crate::state::MadeMount;

/// Where distributions mount it.
const USUAL: &str = "/sys/fs/bpf";
/// What our mounts have as source, so that they can be told from those of others.
const SOURCE: &str = "failover";

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
    #[error("cannot make the folder {path} to mount a BPF file system there: {source}")]
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

/// What is to be mounted so that `folder` lies on a BPF file system; nothing where it does.
///
/// # Errors
/// When nobody can tell.
pub fn missing(folder: &Path) -> Result<Option<MadeMount>, MountError> {
    if is_bpffs(nearest(folder)?)? {
        return Ok(None);
    }
    let place = if folder.starts_with(USUAL) {
        Path::new(USUAL)
    } else {
        folder
    };
    Ok(Some(MadeMount {
        place: place.to_owned(),
        made_folder: !place.exists(),
    }))
}

/// Mounts it.
///
/// # Errors
/// When the kernel refuses.
pub fn make(wanted: &MadeMount) -> Result<(), MountError> {
    let path = || wanted.place.clone();
    if wanted.made_folder {
        fs::create_dir_all(&wanted.place).map_err(|source| MountError::Make {
            path: path(),
            source,
        })?;
    }
    mount(
        Some(SOURCE),
        &wanted.place,
        Some("bpf"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=0700"),
    )
    .map_err(|error| MountError::Mount {
        path: path(),
        source: error.into(),
    })?;
    info!(place = %wanted.place.display(), "mounted a BPF file system");
    Ok(())
}

/// Unmounts what was mounted, unless others use it by now. The kernel would do it all the same,
/// and with it everything that they pinned there would be gone.
pub fn release(made: &MadeMount) {
    let stays = |reason: &dyn std::fmt::Display| {
        info!(place = %made.place.display(), %reason, "the BPF file system stays mounted");
    };
    match is_ours(&made.place) {
        Ok(true) => {}
        // Unmounted, or mounted by others since.
        Ok(false) => return,
        Err(error) => return stays(&error),
    }
    match is_unused(&made.place) {
        Ok(true) => {}
        Ok(false) => return stays(&"others have pinned something there"),
        Err(error) => return stays(&error),
    }
    if let Err(error) = umount(&made.place) {
        return stays(&error);
    }
    if made.made_folder
        && let Err(error) = fs::remove_dir(&made.place)
    {
        info!(folder = %made.place.display(), %error, "the folder stays");
    }
}

/// Whether nothing is pinned there. The kernel itself puts two files into each BPF file system
/// (`populate_bpffs` in kernel/bpf/inode.c).
fn is_unused(place: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(place)? {
        let name = entry?.file_name();
        if name != "maps.debug" && name != "progs.debug" {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the topmost file system at a place is one that we mounted (proc_pid_mountinfo(5)).
fn is_ours(place: &Path) -> io::Result<bool> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    Ok(source_at(&mounts, place) == Some(SOURCE))
}

/// The source of what was mounted last at a place.
fn source_at<'m>(mounts: &'m str, place: &Path) -> Option<&'m str> {
    let place = escaped(place);
    let last = mounts
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(place.as_str()))?;
    // The number of fields before the dash varies; behind it stand type, source and options.
    let mut behind = last.split(' ').skip_while(|word| *word != "-");
    behind.nth(2)
}

/// A path as it stands there.
fn escaped(path: &Path) -> String {
    path.to_string_lossy()
        .replace('\\', "\\134")
        .replace(' ', "\\040")
        .replace('\t', "\\011")
        .replace('\n', "\\012")
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

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
25 30 0:23 / /sys rw,nosuid shared:7 - sysfs sysfs rw
33 25 0:29 / /sys/fs/bpf rw,nosuid shared:9 master:3 - bpf bpf rw,mode=700
60 30 0:41 / /srv/my\\040pins rw - bpf failover rw,mode=700
61 25 0:42 / /sys/fs/bpf rw - bpf failover rw,mode=700
";

    #[test]
    fn what_was_mounted_last_counts() {
        let source = |place: &str| source_at(MOUNTS, Path::new(place));
        assert_eq!(source("/sys/fs/bpf"), Some("failover"));
        assert_eq!(source("/srv/my pins"), Some("failover"));
        assert_eq!(source("/sys"), Some("sysfs"));
        assert_eq!(source("/srv"), None);
    }
}
