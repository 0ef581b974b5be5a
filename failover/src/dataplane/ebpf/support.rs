//! Why eBPF does not work here, as far as that can be said before anything is loaded.

use std::io;

use aya::maps::{Array, MapData, MapError};
use aya::programs::{ProgramError, ProgramType};
use aya::sys::is_program_supported;
use nix::errno::Errno;
use thiserror::Error;

use crate::kernel::capabilities::{self, Capability, CapabilityError};

/// What keeps the programs from being used.
#[derive(Debug, Error)]
pub enum Unsupported {
    /// The process may not load programs.
    #[error(
        "CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN instead, are missing; run it as root, or let its service have them"
    )]
    Capabilities,
    /// Nobody can tell what the process may.
    #[error(transparent)]
    Unknown(CapabilityError),
    /// The kernel has no such system call.
    #[error(
        "there is no bpf(2): the kernel was built without CONFIG_BPF_SYSCALL, or a seccomp filter hides it from this process"
    )]
    NoBpf,
    /// Something refuses the system call to a process that has the capabilities.
    #[error(
        "bpf(2) is refused though the capabilities are there: {0}; a seccomp filter, a security module or a container's user namespace does that"
    )]
    Refused(io::Error),
    /// The kernel cannot make a map.
    #[error("cannot make an eBPF map: {0}")]
    NoMaps(#[source] io::Error),
    /// Maps cannot be used for another reason.
    #[error("cannot use eBPF maps")]
    Maps(#[source] MapError),
    /// Not even a program that does nothing is loaded.
    #[error("the kernel refuses every eBPF program: {0}")]
    NoPrograms(#[source] io::Error),
    /// The same for another reason.
    #[error("cannot load eBPF programs")]
    Programs(#[source] ProgramError),
    /// The kernel has no traffic control by programs.
    #[error("the kernel has no eBPF programs for traffic control (CONFIG_NET_CLS_BPF)")]
    NoTrafficControl,
    /// The kernel is too old.
    #[error("the kernel lets eBPF programs have no constants of their own (Linux 5.2 does)")]
    NoGlobals,
    /// The kernel does not take the description of the maps, without which they cannot be made.
    #[error(
        "the kernel takes no BTF, the description of the eBPF maps: it is older than Linux 4.18, or a seccomp filter keeps it from that"
    )]
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
                _ => Unsupported::NoMaps(io_error),
            });
        }
        Err(error) => return Err(Unsupported::Maps(error)),
    }
    match is_program_supported(ProgramType::SchedClassifier) {
        Ok(true) => {}
        Ok(false) => return Err(Unsupported::NoTrafficControl),
        Err(ProgramError::SyscallError(error)) => {
            return Err(Unsupported::NoPrograms(error.io_error));
        }
        Err(error) => return Err(Unsupported::Programs(error)),
    }
    if !aya::features().bpf_global_data() {
        return Err(Unsupported::NoGlobals);
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
