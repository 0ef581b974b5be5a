//! `failover run`.

use tracing::error;

use crate::causes::in_one_line;
use crate::cli::Outcome;
use crate::cli::args::ConfigArgs;
use crate::cli::exit::Failure;
use crate::config::{self, ConfigError};
use crate::controller::start;
use crate::kernel::capabilities;
use crate::logging::Logging;

pub(super) fn run(args: &ConfigArgs, mut log: Logging) -> Outcome {
    let config = config::load(&args.config).map_err(Failure::no)?;
    // It is read again for a reload, from wherever the daemon stands then.
    let file = std::path::absolute(&args.config).map_err(|cause| {
        let file = args.config.clone();
        Failure::no(ConfigError::Unreadable { file, cause })
    })?;
    log.follow(&config.log);
    let done = capabilities::require(&capabilities::DAEMON)
        .map_err(Failure::not_permitted)
        .and_then(|()| {
            let runtime = super::runtime()?;
            let done = runtime.block_on(start::start(config, file));
            // What waits for a slow disk or a program has nothing more to say.
            runtime.shutdown_background();
            done.map_err(|error| {
                // Who starts it reads it from standard error.
                if log.is_apart() {
                    error!("not started: {}", in_one_line(&error));
                }
                Failure::no(error)
            })
        });
    log.finish();
    done
}
