//! `failover run`.

use crate::cli::Outcome;
use crate::cli::args::ConfigArgs;
use crate::cli::exit::Failure;
use crate::config;
use crate::controller::start;
use crate::kernel::capabilities;

pub(super) fn run(args: &ConfigArgs) -> Outcome {
    let config = config::load(&args.config).map_err(Failure::no)?;
    capabilities::require(&capabilities::DAEMON).map_err(Failure::not_permitted)?;
    super::runtime()?
        .block_on(start::start(config))
        .map_err(Failure::no)
}
