//! The two things for which libraries leave a promise about descriptors to their caller. The only
//! module of the daemon with unsafe code.
#![expect(
    unsafe_code,
    reason = "tokio and surge-ping have no safe form of these two calls"
)]

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd, RawFd};

use surge_ping::AsyncSocket;
use tokio::io::unix::AsyncFd;

/// Gives a socket that does not block to the present runtime.
pub(crate) fn register(socket: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the hazard is a descriptor that is closed, and taken by another file, while the
    // runtime still polls it. An `OwnedFd` is open until it is dropped, its number never changes,
    // and `AsyncFd` owns it and takes it out of the poll before it drops it.
    unsafe { AsyncFd::register(socket) }.map_err(io::Error::from)
}

/// Calls `work` with the descriptor of a ping client's socket, to set options that the client has no
/// words for: it gives out only the descriptor's number.
pub(crate) fn lend<T>(socket: &AsyncSocket, work: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    let number: RawFd = socket.get_native_sock();
    // SAFETY: the hazard is a descriptor that is closed, and perhaps given to another file, while it
    // is borrowed. `socket` owns it (through an `Arc`) and is borrowed for as long as `work` runs;
    // nothing takes the descriptor out of it.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    work(descriptor)
}
