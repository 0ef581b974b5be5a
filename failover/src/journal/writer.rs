//! Who writes the journal: a thread of its own, so that a slow disk holds up no failover. Events wait
//! for it in a queue of bounded length.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::broadcast;
use tracing::{info, warn};

use crate::causes::in_one_line;
use crate::journal::event::{Event, Record};
use crate::journal::files::{FILE_SIZE, Files, Places};
use crate::journal::limit::Limit;
use crate::journal::read::JournalReader;

/// Events that wait for the disk. Others are counted only.
const QUEUE: usize = 1024;

/// Events that wait for those who listen.
const HEARD: usize = 1024;

/// After how long what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How long nothing may be due: then the thread just looks again.
const IDLE: Duration = Duration::from_secs(3600);

/// Takes events. Copies of it take them for the same journal.
#[derive(Clone, Debug)]
pub struct Journal {
    queue: Option<SyncSender<Message>>,
    listeners: broadcast::Sender<Noted>,
    missed: Arc<AtomicU64>,
}

/// Something that was noted, as it is told to who listens.
#[derive(Clone, Debug)]
pub struct Noted {
    /// What happened.
    pub event: Event,
    /// When.
    pub time: Timestamp,
}

/// The thread that writes.
#[derive(Debug)]
pub struct Writing {
    journal: Journal,
    folder: PathBuf,
    ended: Receiver<()>,
}

#[derive(Debug)]
enum Message {
    Noted {
        event: Event,
        at: Instant,
        wall: Timestamp,
    },
    End,
}

impl Journal {
    /// A journal that keeps nothing.
    #[must_use]
    pub fn nowhere() -> Self {
        Self {
            queue: None,
            listeners: broadcast::Sender::new(HEARD),
            missed: Arc::default(),
        }
    }

    /// Begins to write the journal of a state folder, which must exist. Nobody else may write it.
    #[must_use]
    pub fn start(folder: &Path) -> (Self, Writing) {
        let (queue, messages) = sync_channel(QUEUE);
        let (ending, ended) = channel();
        let missed = Arc::new(AtomicU64::new(0));
        let writer = Writer::new(folder, Arc::clone(&missed));
        let spawned = thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || {
                writer.work(&messages);
                // Nobody waits any more when it took too long.
                ending.send(()).ok();
            });
        let journal = match spawned {
            Ok(_) => Self {
                queue: Some(queue),
                listeners: broadcast::Sender::new(HEARD),
                missed,
            },
            Err(error) => {
                warn!(%error, "cannot start the thread that writes the journal; events are in the log only");
                Self::nowhere()
            }
        };
        let writing = Writing {
            journal: journal.clone(),
            folder: folder.to_owned(),
            ended,
        };
        (journal, writing)
    }

    /// Hears what is noted from now on, by whichever copy.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<Noted> {
        self.listeners.subscribe()
    }

    /// Notes that something has just happened. Waits for nothing; of what does not fit the queue it
    /// is written later how much it was.
    pub fn note(&self, event: Event) {
        let time = Timestamp::now();
        if self.listeners.receiver_count() > 0 {
            let event = event.clone();
            // Those who do not keep up learn how much they missed.
            self.listeners.send(Noted { event, time }).ok();
        }
        let noted = Message::Noted {
            event,
            at: Instant::now(),
            wall: time,
        };
        if let Some(queue) = &self.queue
            && queue.try_send(noted).is_err()
        {
            self.missed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Writing {
    /// Has everything written that was noted, and waits for that, but no longer than `patience`.
    pub fn finish(self, patience: Duration) {
        let Some(queue) = self.journal.queue else {
            return;
        };
        let told = queue.try_send(Message::End).is_ok();
        if !(told && self.ended.recv_timeout(patience).is_ok()) {
            warn!(
                folder = %self.folder.display(),
                "the journal is not written to its end: the disk is too slow or full"
            );
        }
    }
}

/// The thread.
struct Writer {
    folder: PathBuf,
    files: Files,
    limit: Limit,
    /// Events that did not fit the queue.
    missed: Arc<AtomicU64>,
    /// What the journal says so far; `None` until it was looked at.
    past: Option<Past>,
    /// The last try failed, and that was told.
    failing: bool,
}

/// What must be known of the journal to go on with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Past {
    /// The number of the last event.
    last: u64,
    /// A daemon began and did not say that it ended.
    running: bool,
}

impl Writer {
    fn new(folder: &Path, missed: Arc<AtomicU64>) -> Self {
        Self {
            folder: folder.to_owned(),
            files: Files::new(Places::of(folder), FILE_SIZE),
            limit: Limit::default(),
            missed,
            past: None,
            failing: false,
        }
    }

    fn work(mut self, messages: &Receiver<Message>) {
        loop {
            let now = Instant::now();
            let wait = self
                .limit
                .due()
                .map_or(IDLE, |due| due.saturating_duration_since(now));
            match messages.recv_timeout(wait) {
                Ok(Message::Noted { event, at, wall }) => {
                    if let Some(event) = self.limit.pass(event, at, wall) {
                        self.write(event, wall);
                    }
                }
                Ok(Message::End) | Err(RecvTimeoutError::Disconnected) => {
                    for event in self.limit.take_all() {
                        self.write(event, Timestamp::now());
                    }
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            for event in self.limit.take_due(Instant::now()) {
                self.write(event, Timestamp::now());
            }
            let missed = self.missed.swap(0, Ordering::Relaxed);
            if missed > 0 {
                self.write(Event::Missed { count: missed }, Timestamp::now());
            }
        }
    }

    /// Writes an event, as often as it takes: what comes meanwhile waits in the queue.
    fn write(&mut self, event: Event, time: Timestamp) {
        let mut record = Record {
            seq: 0,
            time,
            event,
        };
        while let Err(error) = self.try_write(&mut record) {
            if !self.failing {
                self.failing = true;
                warn!(
                    folder = %self.folder.display(),
                    error = %error,
                    "cannot write the journal (is the disk full or read-only?); events wait"
                );
            }
            thread::sleep(RETRY);
        }
        if std::mem::take(&mut self.failing) {
            info!("the journal is written again");
        }
    }

    fn try_write(&mut self, record: &mut Record) -> Result<(), String> {
        let mut past = match self.past {
            Some(past) => past,
            None => Past::read(&self.folder)?,
        };
        record.seq = past.last + 1;
        if let Event::Started { interrupted, .. } = &mut record.event {
            *interrupted = past.running;
        }
        let line = record.line().map_err(|error| error.to_string())?;
        self.files
            .append(&line)
            .map_err(|error| error.to_string())?;
        past.take(record);
        self.past = Some(past);
        Ok(())
    }
}

impl Past {
    fn read(folder: &Path) -> Result<Self, String> {
        let news = JournalReader::new(folder).all();
        let news = news.map_err(|error| in_one_line(&error))?;
        if news.senseless > 0 {
            warn!(
                folder = %folder.display(),
                lines = news.senseless,
                "lines of the journal make no sense and are left out"
            );
        }
        let mut past = Self::default();
        for line in &news.lines {
            past.take(&line.record);
        }
        Ok(past)
    }

    fn take(&mut self, record: &Record) {
        self.last = self.last.max(record.seq);
        match record.event {
            Event::Started { .. } => self.running = true,
            Event::Stopped { .. } => self.running = false,
            _ => {}
        }
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
pub(super) mod tests;
