//! `failover events`.
//!
//! It reads the journal's files and asks no daemon: what happened is needed most when none runs, and
//! the files tell it to everybody who may read them.

use std::io::{self, IsTerminal as _, Write as _, stdout};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Args;
use jiff::Zoned;
use jiff::tz::TimeZone;
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

use crate::cli::Outcome;
use crate::cli::args::ConfigArgs;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::config::{self, ConfigError};
use crate::journal::{Filter, JournalReader, Line, News, ReadError, Since, Table};
use crate::uplink::UplinkName;

/// Which events to show, and where they are.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Goes on with events as they happen, after the last 10 (or those that --last or --since ask for).
    #[arg(short, long)]
    pub follow: bool,

    /// Prints JSON, for scripts: one object per line.
    #[arg(long)]
    pub json: bool,

    /// Shows nothing older: 90s, 30m, 2h or 3d ago, a local time as in 22:30, 2026-11-21 or
    /// "2026-11-21 22:30", or RFC 3339.
    #[arg(long, value_name = "TIME")]
    pub since: Option<Since>,

    /// Shows only what is about this uplink.
    #[arg(long, value_name = "NAME")]
    pub uplink: Option<UplinkName>,

    /// Shows only the last so many of these.
    #[arg(long, value_name = "N")]
    pub last: Option<usize>,

    /// The configuration, which says where the state folder is.
    #[command(flatten)]
    pub config: ConfigArgs,

    /// The state folder itself; the configuration is not read then.
    #[arg(long, value_name = "FOLDER", conflicts_with = "config")]
    pub state_dir: Option<PathBuf>,
}

/// How often it is looked whether there is something new.
const POLL: Duration = Duration::from_millis(100);

/// Events of the past that are shown before what is followed, unless it is said how many.
const BEFORE: usize = 10;

/// The place of the journal is not known.
#[derive(Debug, Error)]
enum UnknownPlace {
    #[error("{0}, or the journal's folder with --state-dir")]
    Unreadable(ConfigError),
    #[error(
        "{}: the configuration, which says where the journal is, is wrong (`failover check` says where); --state-dir names the folder without it",
        .0.display()
    )]
    Rejected(PathBuf),
}

pub(super) fn events(args: &EventsArgs) -> Outcome {
    let folder = state_folder(args)?;
    let mut reader = JournalReader::new(&folder);
    let mut shown = Shown::new(args);
    let news = reader.all()?;
    complain(&news, reader.ends_within_a_line() && !args.follow);
    let nothing = news.lines.is_empty();
    let count = args.last.or(match (args.follow, &args.since) {
        (true, None) => Some(BEFORE),
        _ => None,
    });
    let text = shown.text(&news.lines, count);
    if !args.follow {
        let text = match (text.is_empty() && !args.json, nothing) {
            (false, _) => text,
            (true, true) => format!("no events yet in {}\n", folder.display()),
            (true, false) => "no such events\n".to_owned(),
        };
        return output::print(|out| out.write_all(text.as_bytes()));
    }
    follow(move || {
        output::print(|out| out.write_all(text.as_bytes()))?;
        while output::somebody_reads() {
            thread::sleep(POLL);
            let news = reader.news()?;
            complain(&news, false);
            let text = shown.text(&news.lines, None);
            output::print(|out| out.write_all(text.as_bytes()))?;
        }
        Ok(())
    })
}

/// Where the journal is.
fn state_folder(args: &EventsArgs) -> Result<PathBuf, Failure> {
    if let Some(folder) = &args.state_dir {
        return Ok(folder.clone());
    }
    match config::load(&args.config.config) {
        Ok(config) => Ok(config.state_dir),
        Err(ConfigError::Rejected(_)) => {
            let file = args.config.config.clone();
            Err(Failure::no(UnknownPlace::Rejected(file)))
        }
        Err(ConfigError::Unreadable { file, cause }) => {
            let denied = cause.kind() == io::ErrorKind::PermissionDenied;
            let unknown = UnknownPlace::Unreadable(ConfigError::Unreadable { file, cause });
            Err(if denied {
                Failure::not_permitted(unknown)
            } else {
                Failure::no(unknown)
            })
        }
    }
}

/// Does that in a thread until it ends, or somebody has had enough.
fn follow(work: impl FnOnce() -> Outcome + Send + 'static) -> Outcome {
    super::runtime()?.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::no)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::no)?;
        let (sender, done) = oneshot::channel();
        thread::spawn(move || sender.send(work()).ok());
        tokio::select! {
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
            done = done => done.map_err(Failure::no)?,
        }
    })
}

/// Says on standard error what is left out, so that what is on standard output stays as it is.
#[expect(
    clippy::print_stderr,
    reason = "what is wrong with the answer, beside it"
)]
fn complain(news: &News, torn: bool) {
    let left_out = match news.senseless + usize::from(torn) {
        0 => return,
        1 => "a line of the journal makes no sense and is left out".to_owned(),
        lines => format!("{lines} lines of the journal make no sense and are left out"),
    };
    eprintln!("failover: {left_out}: torn by a crash, or written by somebody else");
}

/// What of the journal is shown, and how.
struct Shown {
    filter: Filter,
    json: bool,
    follow: bool,
    table: Table,
}

impl Shown {
    fn new(args: &EventsArgs) -> Self {
        let now = Zoned::now();
        let width = output::terminal_width();
        Self {
            filter: Filter {
                since: args.since.as_ref().map(|since| since.moment(&now)),
                uplink: args.uplink.clone(),
            },
            json: args.json,
            follow: args.follow,
            table: Table::new(TimeZone::system(), width, stdout().is_terminal()),
        }
    }

    /// The text of those that pass, at most the last so many.
    fn text(&mut self, lines: &[Line], last: Option<usize>) -> String {
        for line in lines {
            self.table.see(&line.record);
        }
        let passing: Vec<&Line> = lines
            .iter()
            .filter(|line| self.filter.passes(&line.record))
            .collect();
        let from = passing.len().saturating_sub(last.unwrap_or(usize::MAX));
        let passing = passing.into_iter().skip(from);
        if self.json {
            passing.fold(String::new(), |text, line| text + &line.text + "\n")
        } else {
            let records = passing.map(|line| &line.record);
            self.table.render(records, self.follow)
        }
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotPermitted { .. } => Self::not_permitted(error),
            ReadError::Unreadable { .. } => Self::no(error),
        }
    }
}
