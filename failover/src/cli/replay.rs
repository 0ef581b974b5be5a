//! `failover replay`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::tz::TimeZone;
use thiserror::Error;

use crate::cli::Outcome;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::config::{self, ProbeConfig};
use crate::health::Thresholds;
use crate::replay::{Begin, Line, Replay, Report, TraceError, TraceReader, not_replayed, render};
use crate::uplink::UplinkName;

/// Which trace, and with what.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The trace; the older file beside it (FILE.1) is played first.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,

    /// A configuration whose probe settings are tried.
    #[arg(long, value_name = "OTHER")]
    pub config: Option<PathBuf>,

    /// The uplink of that configuration whose settings they are; otherwise the one of the same name.
    #[arg(long, value_name = "NAME", requires = "config")]
    pub uplink: Option<UplinkName>,

    /// Prints JSON, for scripts.
    #[arg(long)]
    pub json: bool,
}

/// The other configuration does not have the uplink.
#[derive(Debug, Error)]
#[error(
    "{file} has no uplink `{uplink}`; --uplink names another one of its uplinks, which are {known}"
)]
struct NoSuchUplink {
    file: String,
    uplink: UplinkName,
    known: String,
}

/// The trace is not what the daemon saw, or it judged otherwise than this version does.
#[derive(Debug, Error)]
#[error(
    "played with the settings of the trace, the verdicts are not those that were recorded: lines are missing, or another version of failover wrote it"
)]
struct NotTheSame;

pub(super) fn replay(args: &ReplayArgs) -> Outcome {
    let mut reader = TraceReader::open(&args.file)?;
    let begin = first_begin(&mut reader, &args.file)?;
    let other = match &args.config {
        Some(file) => Some(settings(file, args.uplink.as_ref(), &begin)?),
        None => None,
    };
    let mut replay = Replay::new(other.as_ref().map(Thresholds::from));
    let missing = other
        .as_ref()
        .map_or_else(Vec::new, |other| not_replayed(&begin, other));
    replay.play(Line::Begin(Box::new(begin)));
    while let Some(line) = reader.next_line()? {
        replay.play(line);
    }
    let no_trace = || TraceError::NoTrace {
        file: args.file.clone(),
    };
    let report = Report::of(&replay, reader.senseless, missing).ok_or_else(no_trace)?;
    let text = if args.json {
        serde_json::to_string_pretty(&report).map_err(Failure::no)? + "\n"
    } else {
        let name = args.config.as_deref().map(name_of);
        render(&report, &TimeZone::system(), name.as_deref())
    };
    output::print(|out| out.write_all(text.as_bytes()))?;
    if report.same_as_recorded {
        Ok(())
    } else {
        Err(Failure::no(NotTheSame))
    }
}

/// The first begin, which says whose trace it is. Lines before it belong to one that is gone.
fn first_begin(reader: &mut TraceReader, file: &Path) -> Result<Begin, TraceError> {
    while let Some(line) = reader.next_line()? {
        if let Line::Begin(begin) = line {
            return Ok(*begin);
        }
    }
    Err(TraceError::NoTrace {
        file: file.to_owned(),
    })
}

fn settings(
    file: &Path,
    uplink: Option<&UplinkName>,
    begin: &Begin,
) -> Result<ProbeConfig, Failure> {
    let mut config = config::load(file).map_err(Failure::no)?;
    let uplink = uplink.unwrap_or(&begin.uplink);
    config
        .uplinks
        .remove(uplink)
        .map(|found| found.probe)
        .ok_or_else(|| {
            let known: Vec<&str> = config.uplinks.keys().map(UplinkName::as_str).collect();
            Failure::no(NoSuchUplink {
                file: file.display().to_string(),
                uplink: uplink.clone(),
                known: known.join(", "),
            })
        })
}

/// The file's name, for the head of a column.
fn name_of(file: &Path) -> String {
    let name = file.file_name().unwrap_or(file.as_os_str());
    name.to_string_lossy().into_owned()
}

impl From<TraceError> for Failure {
    fn from(error: TraceError) -> Self {
        match &error {
            TraceError::Unreadable { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Self::not_permitted(error)
            }
            TraceError::Unreadable { .. } | TraceError::NoTrace { .. } => Self::no(error),
        }
    }
}
