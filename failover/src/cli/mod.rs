//! The command line: what can be typed, and what each command does.

mod args;
mod by_hand;
mod check;
mod clean;
#[cfg(feature = "demo")]
mod demo;
mod doctor;
mod events;
mod exit;
mod explain;
mod flows;
mod flush;
mod generate;
mod import;
mod init;
mod notify;
mod output;
mod reload;
mod replay;
mod run;
mod status;
mod trace;
mod trust;

pub use args::{Arguments, Command};

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::exit::Failure;
use crate::logging;

/// Runs what was typed.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let log = logging::init(arguments.verbosity());
    let done = match &arguments.command {
        Command::Run(args) => run::run(args, log),
        Command::Check(args) => check::check(args),
        Command::Status(args) => status::status(args),
        Command::Flows(args) => flows::flows(args),
        Command::Events(args) => events::events(args),
        Command::Explain(args) => explain::explain(args),
        Command::Reload(args) => reload::reload(args),
        Command::Trust(args) => trust::trust(args),
        Command::Disable(args) => by_hand::disable(args),
        Command::Drain(args) => by_hand::drain(args),
        Command::Enable(args) => by_hand::enable(args),
        Command::Flush(args) => flush::flush(args),
        Command::Trace(args) => trace::trace(args),
        Command::Replay(args) => replay::replay(args),
        Command::Notify(command) => notify::notify(command),
        Command::Doctor(args) => doctor::doctor(args),
        Command::Generate(args) => generate::generate(args),
        Command::Init(args) => init::init(args),
        Command::Import(args) => import::import(args),
        Command::Clean(args) => clean::clean(args),
        #[cfg(feature = "demo")]
        Command::Demo(args) => return demo::demo(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => exit::report(&failure),
    }
}

type Outcome = Result<(), Failure>;

/// One thread: the work is waiting, and the kernel's slow answers are waited for beside it.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failure::no)
}
