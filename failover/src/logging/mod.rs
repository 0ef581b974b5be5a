//! The log of the program: on standard error, in the journal of systemd with fields, or in a file
//! that is rotated.
//!
//! It begins before the configuration is read. Until then, and where that says nothing, it goes to
//! the journal if standard error does, else to standard error.

mod file;
mod journald;
mod rotation;
mod writer;

use std::io::{IsTerminal as _, stderr};
use std::os::fd::AsFd as _;
use std::time::Duration;

use nix::sys::stat::fstat;
use tracing::level_filters::LevelFilter;
use tracing::warn;
use tracing_subscriber::layer::{Layered, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

use self::journald::Journald;
use self::writer::Writer;
use crate::config::LogTo;

/// How long the end of the program waits for the last lines to be in the file.
const LAST_WORDS: Duration = Duration::from_secs(1);

type Filtered = Layered<EnvFilter, Registry>;
type Sink = Box<dyn Layer<Filtered> + Send + Sync>;

/// Where the log goes.
pub struct Logging {
    sink: reload::Handle<Sink, Filtered>,
    writer: Option<Writer>,
}

/// Begins to log at `level`, or as `RUST_LOG` says. Libraries speak up only when something is wrong:
/// what they do in detail is not what an operator asks for with `-v`.
pub fn init(level: LevelFilter) -> Logging {
    let libraries = level.min(LevelFilter::WARN);
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("{libraries},failover={level}")));
    let (layer, sink) = reload::Layer::new(usual());
    tracing_subscriber::registry()
        .with(filter)
        .with(layer)
        .init();
    Logging { sink, writer: None }
}

impl Logging {
    /// Goes on where the configuration says.
    pub fn follow(&mut self, to: &LogTo) {
        let sink = match to {
            LogTo::Auto => return,
            LogTo::Stderr => to_stderr(),
            LogTo::Journal => Journald::new().map_or_else(
                |error| {
                    warn!(%error, "the log goes to standard error: there is no socket for the journal");
                    to_stderr()
                },
                Layer::boxed,
            ),
            LogTo::File(file) => match Writer::start(file) {
                Ok(writer) => {
                    let lines = writer.lines();
                    self.writer = Some(writer);
                    fmt::layer()
                        .with_writer(move || lines.clone())
                        .with_ansi(false)
                        .with_target(false)
                        .boxed()
                }
                Err(error) => {
                    warn!(%error, "the log goes to standard error: there is no thread for the file");
                    to_stderr()
                }
            },
        };
        // It fails only when there is no subscriber any more.
        self.sink.reload(sink).ok();
    }

    /// Whether who starts the program sees nothing of the log.
    #[must_use]
    pub const fn is_apart(&self) -> bool {
        self.writer.is_some()
    }

    /// Has everything written that was logged, and waits for that, but not long.
    pub fn finish(self) {
        if let Some(writer) = self.writer {
            writer.finish(LAST_WORDS);
        }
    }
}

fn usual() -> Sink {
    if goes_to_the_journal()
        && let Ok(journald) = Journald::new()
    {
        journald.boxed()
    } else {
        to_stderr()
    }
}

fn to_stderr() -> Sink {
    fmt::layer()
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        .boxed()
}

/// Whether standard error is the journal's: systemd tells its device and inode (`systemd.exec(5)`).
/// A redirection hands the variable on, but not the stream.
fn goes_to_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    fstat(stderr().as_fd()).is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}
