//! The lab's commands: a demo of the product, benchmarks and a soak test.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use failover_tests::terminal::Terminal;
use failover_tests::{LabError, demo};
use serde_json::Value;

/// Shows and measures failover in a lab of network namespaces. Needs root; changes nothing on this
/// machine and leaves nothing behind.
#[derive(Debug, Parser)]
#[command(
    name = "failover-lab",
    version,
    after_help = "Exit codes: 0 all that is promised holds; 1 something does not, or could not be done;\n\
                  2 the command line is wrong; 130 interrupted."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Three uplinks, a client and its flows; one uplink dies and returns. Takes half a minute.
    #[command(after_help = "Example: failover-lab demo --json demo.json")]
    Demo {
        /// The binary to show; by default the one that was built together with this program
        #[arg(long, value_name = "PATH")]
        failover: Option<PathBuf>,
        /// Writes the result to this file, too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let terminal = Terminal::new();
    match isolated(&terminal, arguments.command) {
        Ok(status) => status,
        Err(error) => {
            eprintln(&format!("failover-lab: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// What goes wrong is told on standard error, whether or not anybody reads it.
fn eprintln(text: &str) {
    use std::io::Write as _;
    writeln!(std::io::stderr(), "{text}").ok();
}

fn isolated(terminal: &Terminal, command: Command) -> Result<ExitCode, LabError> {
    // Before the first thread.
    failover_tests::isolate()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| LabError::Io {
            what: "start a runtime".to_owned(),
            source,
        })?;
    runtime.block_on(async {
        tokio::select! {
            status = run(terminal, command) => status,
            _ = tokio::signal::ctrl_c() => {
                eprintln("\ninterrupted; nothing stays behind");
                Ok(ExitCode::from(130))
            }
        }
    })
}

async fn run(terminal: &Terminal, command: Command) -> Result<ExitCode, LabError> {
    match command {
        Command::Demo { failover, json } => {
            let outcome = demo::run(terminal, failover).await?;
            write_json(json, &outcome.json)?;
            Ok(status(outcome.held))
        }
    }
}

fn status(held: bool) -> ExitCode {
    if held {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn write_json(file: Option<PathBuf>, value: &Value) -> Result<(), LabError> {
    let Some(path) = file else { return Ok(()) };
    std::fs::write(&path, format!("{value:#}\n")).map_err(|source| LabError::Io {
        what: format!("write {}", path.display()),
        source,
    })
}
