//! Standard output, of which somebody may read the beginning only.

use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write as _, stdout};
use std::os::fd::AsFd as _;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::cli::Outcome;
use crate::cli::exit::Failure;
use crate::sys;

/// Standard output, written in large pieces.
pub(super) type Output = BufWriter<StdoutLock<'static>>;

/// Bytes that are written at once.
const BUFFER: usize = 64 * 1024;

/// Prints. That nobody reads on (`| head`) is no failure.
pub(super) fn print(write: impl FnOnce(&mut Output) -> io::Result<()>) -> Outcome {
    let mut out = BufWriter::with_capacity(BUFFER, stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(Failure::no),
    }
}

/// Whether what is printed next may be read by somebody. A reader that went away (`| head`) would
/// otherwise be noticed only when there is something to print.
pub(super) fn somebody_reads() -> bool {
    let out = stdout();
    // Errors are told without being asked for.
    let mut descriptors = [PollFd::new(out.as_fd(), PollFlags::empty())];
    match poll(&mut descriptors, PollTimeout::ZERO) {
        Ok(_) => descriptors
            .iter()
            .filter_map(PollFd::revents)
            .all(|events| !events.intersects(PollFlags::POLLERR | PollFlags::POLLNVAL)),
        // What cannot be asked is found out by printing.
        Err(_) => true,
    }
}

/// Characters in a line of the terminal; `None` where it is none, or does not say.
pub(super) fn terminal_width() -> Option<usize> {
    sys::terminal_columns(stdout().as_fd())
}
