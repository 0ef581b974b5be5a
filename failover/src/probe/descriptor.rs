//! Lends the socket inside a ping client, which gives out only the number of its descriptor.

use std::os::fd::{BorrowedFd, RawFd};

use surge_ping::AsyncSocket;

/// Calls `work` with the descriptor of the socket, to set options that the ping client has no words
/// for.
#[expect(
    unsafe_code,
    reason = "surge-ping has no safe way to its socket, and the mark must be set on it"
)]
pub(super) fn lend<T>(socket: &AsyncSocket, work: impl FnOnce(BorrowedFd<'_>) -> T) -> T {
    let number: RawFd = socket.get_native_sock();
    // SAFETY: the hazard is a descriptor that is closed, and perhaps given to another file, while it
    // is borrowed. `socket` owns it (through an `Arc`) and is borrowed for as long as `work` runs;
    // nothing takes the descriptor out of it.
    let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
    work(descriptor)
}
