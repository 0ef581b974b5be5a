//! `failover demo`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use failover_netlab::demo::{self, Options, Outcome};
use failover_netlab::terminal::Terminal;
use failover_netlab::{LabError, session};

use crate::cli::exit::{self, Failure};

/// What to show, and how long.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// Shows another binary than this one.
    #[arg(long, value_name = "PATH")]
    pub failover: Option<PathBuf>,

    /// Writes the result to this file, too.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,

    /// Looks on for one second instead of eight between two events.
    #[arg(long)]
    pub brief: bool,
}

/// What a shell says of a program that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

#[expect(clippy::print_stderr, reason = "the answer to Ctrl-C")]
pub(super) fn demo(args: &DemoArgs) -> ExitCode {
    match show(args) {
        Ok(Some(Outcome { held: true, .. })) => ExitCode::SUCCESS,
        Ok(Some(_)) => ExitCode::FAILURE,
        Ok(None) => {
            eprintln!("\ninterrupted; nothing stays behind");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => exit::report(&match error {
            LabError::NotRoot => Failure::not_permitted(error),
            other => Failure::no(other),
        }),
    }
}

/// `None` when it was interrupted.
fn show(args: &DemoArgs) -> Result<Option<Outcome>, LabError> {
    let binary = match &args.failover {
        Some(binary) => binary.clone(),
        None => std::env::current_exe().map_err(LabError::io("find the path of this program"))?,
    };
    let options = Options {
        binary: Some(binary),
        brief: args.brief,
    };
    let terminal = Terminal::new();
    let outcome = session(|| demo::run(&terminal, &options))?.transpose()?;
    if let (Some(file), Some(outcome)) = (&args.json, &outcome) {
        write(file, outcome)?;
    }
    Ok(outcome)
}

fn write(file: &Path, outcome: &Outcome) -> Result<(), LabError> {
    std::fs::write(file, format!("{:#}\n", outcome.json))
        .map_err(LabError::io(format!("write {}", file.display())))
}
