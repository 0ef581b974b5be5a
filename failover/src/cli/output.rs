//! Standard output, of which somebody may read the beginning only.

use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write as _, stdout};

use crate::cli::Outcome;
use crate::cli::exit::Failure;

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
