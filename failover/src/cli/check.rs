//! `failover check`.

use crate::cli::Outcome;
use crate::cli::args::ConfigArgs;
use crate::cli::exit::Failure;
use crate::config;
use crate::policy::{conflicts, loading};

#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the answer of the command"
)]
pub(super) fn check(args: &ConfigArgs) -> Outcome {
    let config = config::load(&args.config).map_err(Failure::no)?;
    let sets = loading::read_all(&config).map_err(Failure::no)?;
    for conflict in conflicts::told(&config, &sets, &args.config) {
        eprintln!("warning: {conflict}");
    }
    for channel in config.notify.values() {
        for warning in channel.carrier.warnings() {
            eprintln!("warning: {warning}");
        }
    }
    println!("ok");
    Ok(())
}
