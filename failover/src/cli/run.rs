//! `failover run`.

use crate::cli::Outcome;
use crate::cli::args::ConfigArgs;
use crate::cli::exit::Failure;
use crate::config::{self, ConfigError};
use crate::controller::start;
use crate::kernel::capabilities;

pub(super) fn run(args: &ConfigArgs) -> Outcome {
    let config = config::load(&args.config).map_err(Failure::no)?;
    // It is read again for a reload, from wherever the daemon stands then.
    let file = std::path::absolute(&args.config).map_err(|cause| {
        let file = args.config.clone();
        Failure::no(ConfigError::Unreadable { file, cause })
    })?;
    capabilities::require(&capabilities::DAEMON).map_err(Failure::not_permitted)?;
    super::runtime()?
        .block_on(start::start(config, file))
        .map_err(Failure::no)
}
