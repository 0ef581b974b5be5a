//! Why eBPF does not work here, as far as that can be said before anything is loaded.

use std::io;

use aya::maps::{Array, MapData, MapError};
use nix::errno::Errno;
use thiserror::Error;

use crate::kernel::capabilities::{self, Capability, CapabilityError};

/// What keeps the programs from being used.
#[derive(Debug, Error)]
pub enum Unsupported {
    /// The process may not load programs.
    #[error("CAP_SYS_ADMIN, or CAP_BPF together with CAP_PERFMON, is missing")]
    Capabilities,
    /// Nobody can tell what the process may.
    #[error(transparent)]
    Unknown(CapabilityError),
    /// The kernel has no such system call.
    #[error("this kernel has no bpf(2) (CONFIG_BPF_SYSCALL)")]
    NoBpf,
    /// Something refuses the system call to a process that has the capabilities.
    #[error(
        "bpf(2) is refused ({0}) though the capabilities are there: a seccomp filter or a security module does that"
    )]
    Refused(io::Error),
    /// The kernel cannot make a map.
    #[error("the kernel makes no BPF map: {0}")]
    NoMaps(MapError),
    /// The kernel takes no type information, without which nobody could read the maps.
    #[error("the kernel takes no BTF, so that nobody could read the maps")]
    NoBtf,
}

/// Whether programs can be loaded at all.
///
/// # Errors
/// The first thing that keeps them from it.
pub fn check() -> Result<(), Unsupported> {
    if !may_load()? {
        return Err(Unsupported::Capabilities);
    }
    match Array::<MapData, u32>::create(1, 0) {
        Ok(_) => {}
        Err(MapError::CreateError { io_error, .. }) => {
            return Err(match io_error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::ENOSYS) => Unsupported::NoBpf,
                Some(Errno::EPERM | Errno::EACCES) => Unsupported::Refused(io_error),
                _ => Unsupported::NoMaps(MapError::CreateError {
                    name: "probe".to_owned(),
                    io_error,
                }),
            });
        }
        Err(error) => return Err(Unsupported::NoMaps(error)),
    }
    if aya::features().btf().is_none() {
        return Err(Unsupported::NoBtf);
    }
    Ok(())
}

fn may_load() -> Result<bool, Unsupported> {
    let has = |needed: &[Capability]| match capabilities::require(needed) {
        Ok(()) => Ok(true),
        Err(CapabilityError::Missing { .. }) => Ok(false),
        Err(error @ CapabilityError::Unknown(_)) => Err(Unsupported::Unknown(error)),
    };
    Ok(has(&[Capability::SysAdmin])? || has(&[Capability::Bpf, Capability::Perfmon])?)
}
