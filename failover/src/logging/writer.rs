//! Who writes the log file: a thread of its own, so that a slow disk holds up nothing. Lines wait for
//! it in a queue of bounded length.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use tracing::warn;

use super::file::LogFile;
use super::rotation::Rotation;
use crate::config::LogFile as LogFileConfig;

/// Lines that wait for the disk. Others are counted only.
const QUEUE: usize = 4096;

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    End,
}

/// The thread that writes.
#[derive(Debug)]
pub(super) struct Writer {
    lines: Lines,
    ended: Receiver<()>,
}

/// Takes lines, and waits for nothing.
#[derive(Clone, Debug)]
pub(super) struct Lines {
    queue: SyncSender<Message>,
    missed: Arc<AtomicU64>,
}

impl Writer {
    /// Begins to write the file.
    pub(super) fn start(config: &LogFileConfig) -> io::Result<Self> {
        let rotation = Rotation {
            size: config.size,
            keep: config.keep,
        };
        let file = LogFile::new(config.path.clone(), rotation);
        let (queue, messages) = sync_channel(QUEUE);
        let (ending, ended) = channel();
        let missed = Arc::new(AtomicU64::new(0));
        let lines = Lines {
            queue,
            missed: Arc::clone(&missed),
        };
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || {
                work(file, &messages, &missed);
                // Nobody waits any more when it took too long.
                ending.send(()).ok();
            })?;
        Ok(Self { lines, ended })
    }

    /// Where lines are to be put.
    pub(super) fn lines(&self) -> Lines {
        self.lines.clone()
    }

    /// Has everything written that was logged, and waits for that, but no longer than `patience`.
    pub(super) fn finish(self, patience: Duration) {
        if self.lines.queue.try_send(Message::End).is_ok() {
            self.ended.recv_timeout(patience).ok();
        }
    }
}

fn work(mut file: LogFile, messages: &Receiver<Message>, missed: &AtomicU64) {
    let mut stderr = io::stderr();
    let mut failing = false;
    while let Ok(Message::Line(line)) = messages.recv() {
        match file.append(&line) {
            Ok(()) => {
                if failing {
                    failing = false;
                    warn!("what is missing here went to standard error");
                }
                let missed = missed.swap(0, Ordering::Relaxed);
                if missed > 0 {
                    warn!(missed, "lines are missing here: the disk was too slow");
                }
            }
            Err(error) => {
                if !failing {
                    failing = true;
                    writeln!(
                        stderr,
                        "failover: {error}; until it can, the log goes to standard error"
                    )
                    .ok();
                }
                stderr.write_all(&line).ok();
            }
        }
    }
}

impl Write for Lines {
    /// Takes a whole line.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.queue.try_send(Message::Line(line.to_owned())).is_err() {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
