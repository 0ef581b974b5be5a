//! Programs on interfaces, for packets that come over a wire.

use std::mem;

use aya::programs::tc::qdisc_add_clsact;
use aya::programs::{ProgramError, SchedClassifier, TcAttachType, TcError};
use aya::util::KernelVersion;
use nix::libc;

/// The packets that a program sees at an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Those that come in.
    Ingress,
    /// Those that leave.
    Egress,
}

/// Attaches a program in the namespace of the calling thread, behind those that are attached there:
/// by TCX, or where the kernel has none as a filter, which stays until its namespace is gone.
///
/// # Errors
/// When there is no such interface, or the kernel refuses.
pub fn attach(
    program: &mut SchedClassifier,
    interface: &str,
    direction: Direction,
) -> Result<(), ProgramError> {
    let kind = match direction {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    };
    if has_tcx() {
        program.attach(interface, kind)?;
        return Ok(());
    }
    match qdisc_add_clsact(interface) {
        Err(TcError::NetlinkError(error)) if error.raw_os_error() == Some(libc::EEXIST) => {}
        other => other?,
    }
    let attached = program.attach(interface, kind)?;
    // Dropped elsewhere it would look for its filter in another namespace.
    mem::forget(program.take_link(attached)?);
    Ok(())
}

/// Whether this kernel has TCX, which came with Linux 6.6; aya decides by the same.
#[must_use]
pub fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|kernel| kernel >= KernelVersion::new(6, 6, 0))
}
