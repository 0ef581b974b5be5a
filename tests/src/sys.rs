//! The raw system calls of the lab, for which there is no safe wrapper.
#![expect(
    unsafe_code,
    reason = "pre_exec and PACKET_STATISTICS have no safe form; everything else goes through nix and socket2"
)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::libc;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid, getppid};
use tokio::process::Command;

/// Makes the kernel kill the child when the thread that starts it ends, whatever the reason.
///
/// The thread, not the process, is what the kernel looks at: start children from threads that live
/// as long as the children may.
pub(crate) fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    // SAFETY: the hazard is a call between fork and exec that takes a lock which another thread
    // held at the fork (memory allocation, for one). The closure makes two system calls, prctl and
    // getppid, and builds an error from a number; none of them allocates or locks.
    unsafe {
        command.pre_exec(move || arm(parent));
    }
}

fn arm(parent: Pid) -> io::Result<()> {
    set_pdeathsig(Signal::SIGKILL)?;
    // The parent may have died between fork and prctl; then no signal would come any more.
    if getppid() == parent {
        Ok(())
    } else {
        Err(io::Error::from_raw_os_error(libc::ESRCH))
    }
}

/// How many packets an AF_PACKET socket lost since it was asked last (`PACKET_STATISTICS`, which
/// resets the counts).
pub(crate) fn packets_lost(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut statistics = MaybeUninit::<libc::tpacket_stats>::zeroed();
    let size = size_of::<libc::tpacket_stats>();
    let mut length = libc::socklen_t::try_from(size).map_err(io::Error::other)?;
    // SAFETY: the hazard is a write past the buffer. `length` is the size of `statistics`, the
    // kernel writes at most that much, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            statistics.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the hazard is reading memory that was never written. It was zeroed, and all bit
    // patterns are valid for its two integers.
    let statistics = unsafe { statistics.assume_init() };
    Ok(statistics.tp_drops)
}
