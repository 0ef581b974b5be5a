//! A session with labs: the process set up, and a runtime until the work is done or a person has seen
//! enough.

use std::future::Future;

use crate::error::LabError;
use crate::isolation::isolate;

/// [Isolates](isolate) the process and does the work in a runtime of its own; `None` if it was
/// interrupted (Ctrl-C). Like [`isolate`] it is for a process without threads.
///
/// # Errors
/// As [`isolate`], or when no runtime can be started.
pub fn session<F: Future>(work: impl FnOnce() -> F) -> Result<Option<F::Output>, LabError> {
    // Before the first thread.
    isolate()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LabError::io("start a runtime"))?;
    Ok(runtime.block_on(async {
        tokio::select! {
            done = work() => Some(done),
            _ = tokio::signal::ctrl_c() => None,
        }
    }))
}
