//! Who writes traces: for each a thread of its own, which nothing waits for. What does not fit its queue
//! is left out, counted, and followed by a new begin, so that what comes after is whole again. A disk
//! that refuses ends the trace.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use thiserror::Error;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::health::stored::nanoseconds;
use crate::replay::files::{FILE_SIZE, Files, file_of};
use crate::replay::format::{Begin, Clock, Entry, Line};
use crate::uplink::UplinkName;

/// Pieces that wait for the disk.
const QUEUE: usize = 1024;
/// How often the clock on the wall is told.
const CLOCK: Duration = Duration::from_secs(600);

/// The traces that are being written.
#[derive(Debug)]
pub struct Traces {
    state_dir: PathBuf,
    /// From when on a file is full.
    size: u64,
    running: BTreeMap<UplinkName, Trace>,
}

/// What became of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Given {
    /// They will be written.
    Taken,
    /// A new begin is wanted before more of them.
    WantsBegin,
}

/// A trace that was ended.
#[derive(Debug)]
pub struct Stopped {
    /// Where it is.
    pub file: PathBuf,
    /// Tells that it is written to its end; none where it was not being written.
    ended: Option<Receiver<()>>,
}

impl Stopped {
    /// Waits until it is written to its end, but no longer than `patience`. Returns whether it was
    /// being written until now.
    #[must_use]
    pub fn wait(&self, patience: Duration) -> bool {
        if let Some(ended) = &self.ended {
            // A disk that takes longer than that is told of in the log.
            ended.recv_timeout(patience).ok();
        }
        self.ended.is_some()
    }
}

/// No trace is written.
#[derive(Debug, Error)]
#[error("cannot write the trace {file}: {reason}")]
pub struct NotTraced {
    file: PathBuf,
    reason: String,
}

#[derive(Debug)]
struct Trace {
    queue: SyncSender<Message>,
    state: Arc<Shared>,
    ended: Receiver<()>,
    run: i64,
    part: u64,
    missed: u64,
    until: Option<Instant>,
}

/// What the thread says.
#[derive(Debug, Default)]
struct Shared {
    full: AtomicBool,
    failed: AtomicBool,
}

#[derive(Debug)]
enum Message {
    Begin(Box<Begin>),
    Entries(Vec<Entry>),
    End,
}

impl Traces {
    /// None yet; they will be written below this folder.
    #[must_use]
    pub fn new(state_dir: &Path) -> Self {
        Self {
            state_dir: state_dir.to_owned(),
            size: FILE_SIZE,
            running: BTreeMap::new(),
        }
    }

    /// Where an uplink's trace is.
    #[must_use]
    pub fn file_of(&self, uplink: &UplinkName) -> PathBuf {
        file_of(&self.state_dir, uplink)
    }

    /// Whose traces are being written.
    #[must_use]
    pub fn names(&self) -> Vec<UplinkName> {
        self.running.keys().cloned().collect()
    }

    /// Whether an uplink's is.
    #[must_use]
    pub fn is_running(&self, uplink: &UplinkName) -> bool {
        self.running.contains_key(uplink)
    }

    /// Until when an uplink's is to be written.
    pub fn set_end(&mut self, uplink: &UplinkName, until: Option<Instant>) {
        if let Some(trace) = self.running.get_mut(uplink) {
            trace.until = until;
        }
    }

    /// Begins one. What comes of opening the file is told later.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub fn start(
        &mut self,
        begin: Begin,
        until: Option<Instant>,
    ) -> Result<oneshot::Receiver<Result<(), NotTraced>>, NotTraced> {
        let uplink = begin.uplink.clone();
        let file = self.file_of(&uplink);
        let (queue, messages) = sync_channel(QUEUE);
        let (ending, ended) = channel();
        let (opening, opened) = oneshot::channel();
        let state = Arc::new(Shared::default());
        let said = Arc::clone(&state);
        let (path, size) = (file.clone(), self.size);
        thread::Builder::new()
            .name("trace".to_owned())
            .spawn(move || {
                work((&path, size), &messages, &said, opening);
                // Nobody waits any more when it took too long.
                ending.send(()).ok();
            })
            .map_err(|error| NotTraced {
                file,
                reason: error.to_string(),
            })?;
        let mut trace = Trace {
            queue,
            state,
            ended,
            run: begin.wall.as_microsecond(),
            part: 0,
            missed: 0,
            until,
        };
        trace.begin(begin);
        self.running.insert(uplink, trace);
        Ok(opened)
    }

    /// Whether an uplink's has nothing more to take.
    #[must_use]
    pub fn is_over(&self, uplink: &UplinkName, now: Instant) -> bool {
        self.running.get(uplink).is_none_or(|trace| {
            trace.until.is_some_and(|until| until <= now)
                || trace.state.failed.load(Ordering::Relaxed)
        })
    }

    /// Takes entries.
    pub fn write(&mut self, uplink: &UplinkName, entries: Vec<Entry>) -> Given {
        let trace = self.running.get_mut(uplink);
        trace.map_or(Given::Taken, |trace| trace.write(entries))
    }

    /// Takes the begin of a new part.
    pub fn begin(&mut self, begin: Begin) {
        if let Some(trace) = self.running.get_mut(&begin.uplink) {
            trace.begin(begin);
        }
    }

    /// Ends one.
    pub fn stop(&mut self, uplink: &UplinkName) -> Stopped {
        let file = self.file_of(uplink);
        let trace = self.running.remove(uplink);
        if trace.is_some() {
            info!(%uplink, file = %file.display(), "the trace has ended");
        }
        Stopped {
            file,
            ended: trace.map(|trace| trace.ended),
        }
    }

    /// Ends all, and waits until they are written, but no longer than `patience`.
    pub fn finish(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        for (uplink, trace) in std::mem::take(&mut self.running) {
            let told = trace.queue.try_send(Message::End).is_ok();
            let left = deadline.saturating_duration_since(Instant::now());
            if !(told && trace.ended.recv_timeout(left).is_ok()) {
                warn!(%uplink, "the trace is not written to its end: the disk is too slow");
            }
        }
    }
}

impl Trace {
    fn write(&mut self, entries: Vec<Entry>) -> Given {
        let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        if count == 0 {
            return Given::Taken;
        }
        // After a gap nothing makes sense before a new begin.
        if self.missed > 0 || self.queue.try_send(Message::Entries(entries)).is_err() {
            self.missed = self.missed.saturating_add(count);
            return Given::WantsBegin;
        }
        if self.state.full.swap(false, Ordering::Relaxed) {
            return Given::WantsBegin;
        }
        Given::Taken
    }

    fn begin(&mut self, mut begin: Begin) {
        begin.run = self.run;
        begin.part = self.part;
        begin.missed = self.missed;
        if self.queue.try_send(Message::Begin(Box::new(begin))).is_ok() {
            self.part += 1;
            self.missed = 0;
        } else {
            // It is wanted again with the next entries.
            self.missed = self.missed.max(1);
        }
    }
}

/// The thread.
fn work(
    (path, size): (&Path, u64),
    messages: &Receiver<Message>,
    state: &Shared,
    opening: oneshot::Sender<Result<(), NotTraced>>,
) {
    let failed = |error: &io::Error| NotTraced {
        file: path.to_owned(),
        reason: error.to_string(),
    };
    let (files, opened) = match Files::open(path, size) {
        Ok(files) => (Some(files), Ok(())),
        Err(error) => (None, Err(failed(&error))),
    };
    if opened.is_err() {
        state.failed.store(true, Ordering::Relaxed);
    }
    // Who asked may have gone.
    opening.send(opened).ok();
    let Some(files) = files else { return };
    if let Err(error) = write(files, messages, state) {
        warn!(file = %path.display(), %error, "cannot write the trace; it ends");
        state.failed.store(true, Ordering::Relaxed);
    }
}

fn write(mut files: Files, messages: &Receiver<Message>, state: &Shared) -> io::Result<()> {
    let mut clock: Option<Instant> = None;
    while let Ok(message) = messages.recv() {
        match message {
            Message::Begin(begin) => {
                if files.is_full() {
                    files.change()?;
                }
                clock = Some(Instant::now());
                files.append(&Line::Begin(begin).written()?)?;
            }
            Message::Entries(entries) => {
                let now = Instant::now();
                if clock.is_none_or(|told| now.saturating_duration_since(told) >= CLOCK) {
                    clock = Some(now);
                    let wall = Timestamp::now();
                    let clock = nanoseconds(now);
                    files.append(&Line::Clock(Clock { clock, wall }).written()?)?;
                }
                for entry in entries {
                    files.append(&Line::Entry(entry).written()?)?;
                }
                if files.is_full() {
                    state.full.store(true, Ordering::Relaxed);
                }
            }
            Message::End => break,
        }
        files.flush()?;
    }
    Ok(())
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
