//! `failover check`.

use crate::cli::Outcome;
use crate::cli::args::ConfigArgs;
use crate::cli::exit::Failure;
use crate::config;

#[expect(clippy::print_stdout, reason = "the answer of the command")]
pub(super) fn check(args: &ConfigArgs) -> Outcome {
    config::load(&args.config).map_err(Failure::no)?;
    println!("ok");
    Ok(())
}
