//! Where the log goes: standard error, in colour on a terminal only.

use std::io::{IsTerminal as _, stderr};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// Begins to log at `level`, or as `RUST_LOG` says. Libraries speak up only when something is wrong:
/// what they do in detail is not what an operator asks for with `-v`.
pub(super) fn init(level: LevelFilter) {
    let libraries = level.min(LevelFilter::WARN);
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("{libraries},failover={level}")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_ansi(stderr().is_terminal())
        .with_target(false)
        .init();
}
