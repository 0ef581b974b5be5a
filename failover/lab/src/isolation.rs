//! Sets up the process so that nothing of the lab can stay behind: a mount namespace of its own
//! with a memory file system and a BPF file system, which vanish with the last process in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Uid;

use crate::error::LabError;
use crate::eventually::read_patience;

/// Where the lab's files are; set once [`isolate`] has succeeded.
static ROOT: OnceLock<PathBuf> = OnceLock::new();
static NEXT_DIRECTORY: AtomicU32 = AtomicU32::new(1);

/// Open files that a lab with thousands of connections needs, clients and servers together.
const OPEN_FILES: u64 = 1 << 18;

/// The places that can be covered by a file system of ours, in the order in which they are tried.
/// With `/run` the locks and sockets of the machine's own services (xtables.lock, netns) are out
/// of the way too.
const MOUNT_POINTS: [&str; 4] = ["/run", "/mnt", "/srv", "/media"];

/// Sets up the process: to be called first thing in `main`, before any thread or runtime is
/// started. A second call does nothing.
///
/// # Errors
/// Without root, when `FAILOVER_TEST_PATIENCE` is no factor, when the process has threads already, or when the kernel refuses a mount.
pub fn isolate() -> Result<(), LabError> {
    if ROOT.get().is_some() {
        return Ok(());
    }
    read_patience()?;
    if !Uid::effective().is_root() {
        return Err(LabError::NotRoot);
    }
    let threads = fs::read_dir("/proc/self/task")
        .map_err(LabError::io("read /proc/self/task"))?
        .count();
    if threads != 1 {
        return Err(LabError::TooManyThreads { threads });
    }
    let mount_point = free_mount_point()?;
    unshare(CloneFlags::CLONE_NEWNS).map_err(|errno| match errno {
        nix::Error::EPERM => LabError::NotRoot,
        other => LabError::Io {
            what: "make a mount namespace".to_owned(),
            source: other.into(),
        },
    })?;
    let nothing: Option<&str> = None;
    mount(
        nothing,
        "/",
        nothing,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        nothing,
    )
    .map_err(LabError::io("make the mounts private"))?;
    mount(
        Some("failover-lab"),
        mount_point,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("mode=0755"),
    )
    .map_err(LabError::io(format!(
        "mount a tmpfs at {}",
        mount_point.display()
    )))?;
    let root = mount_point.join("failover-lab");
    let bpffs = root.join("bpf");
    fs::create_dir_all(&bpffs).map_err(LabError::io(format!("make {}", bpffs.display())))?;
    mount(
        Some("failover-lab"),
        &bpffs,
        Some("bpf"),
        MsFlags::empty(),
        nothing,
    )
    .map_err(LabError::io(format!(
        "mount a bpf file system at {}",
        bpffs.display()
    )))?;
    raise_open_files()?;
    // Another thread cannot have set it: there is none.
    ROOT.set(root).ok();
    Ok(())
}

/// A mount point that is there and holds neither this program nor the current folder, which must
/// stay visible.
fn free_mount_point() -> Result<&'static Path, LabError> {
    let program = std::env::current_exe().map_err(LabError::io("find the path of this program"))?;
    let folder = std::env::current_dir().map_err(LabError::io("find the current folder"))?;
    MOUNT_POINTS
        .iter()
        .map(Path::new)
        .find(|place| {
            fs::symlink_metadata(place).is_ok_and(|found| found.is_dir())
                && !program.starts_with(place)
                && !folder.starts_with(place)
        })
        .ok_or(LabError::NoMountPoint)
}

/// Raises the limit of open files as far as the process may: above the hard limit only with
/// CAP_SYS_RESOURCE, which root in a container often lacks.
fn raise_open_files() -> Result<(), LabError> {
    let (_, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(LabError::io("read the limit of open files"))?;
    if hard < OPEN_FILES {
        match setrlimit(Resource::RLIMIT_NOFILE, OPEN_FILES, OPEN_FILES) {
            Ok(()) => return Ok(()),
            Err(error) => {
                tracing::debug!(hard, %error, "the limit of open files cannot be raised further");
            }
        }
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(LabError::io(format!(
        "raise the limit of open files to {hard}"
    )))
}

/// The folders of one lab.
#[derive(Debug)]
pub(crate) struct Directory {
    /// For state, sockets and configuration files.
    pub(crate) files: PathBuf,
    /// On the BPF file system.
    pub(crate) bpffs: PathBuf,
}

impl Directory {
    /// Makes the folders of one more lab.
    pub(crate) fn make() -> Result<Self, LabError> {
        let root = ROOT.get().ok_or(LabError::NotIsolated)?;
        let name = NEXT_DIRECTORY.fetch_add(1, Ordering::Relaxed).to_string();
        let made = Self {
            files: root.join(&name),
            bpffs: root.join("bpf").join(&name),
        };
        for path in [&made.files, &made.bpffs] {
            fs::create_dir_all(path).map_err(LabError::io(format!("make {}", path.display())))?;
        }
        Ok(made)
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        for path in [&self.files, &self.bpffs] {
            if let Err(error) = fs::remove_dir_all(path) {
                tracing::warn!(path = %path.display(), %error, "a folder of the lab stays until the process ends");
            }
        }
    }
}
