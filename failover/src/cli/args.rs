//! What can be typed.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

/// Where the configuration is by default.
const CONFIG: &str = "/etc/failover/failover.yaml";
/// Where the control socket is by default.
const CONTROL: &str = "/run/failover/control.sock";

/// Keeps a network online over several uplinks: new flows use the good ones, known flows stay where
/// they are.
#[derive(Debug, Parser)]
#[command(
    name = "failover",
    version,
    propagate_version = true,
    after_help = "Example:\n  failover check --config /etc/failover/failover.yaml && failover run\n\n\
                  Exit codes: 0 good; 1 the answer is no, or the configuration or the kernel does not allow it;\n\
                  2 the command line is wrong; 3 the daemon cannot be reached; 4 not permitted."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// More log: once for debug, twice for trace.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,

    /// Less log: once for warnings, twice for errors only.
    #[arg(short, long, action = clap::ArgAction::Count, global = true, conflicts_with = "verbose")]
    quiet: u8,
}

impl Arguments {
    /// The log level that was asked for; `RUST_LOG` overrides it.
    #[must_use]
    pub const fn verbosity(&self) -> LevelFilter {
        match (self.quiet, self.verbose) {
            (0, 0) => LevelFilter::INFO,
            (0, 1) => LevelFilter::DEBUG,
            (0, _) => LevelFilter::TRACE,
            (1, _) => LevelFilter::WARN,
            _ => LevelFilter::ERROR,
        }
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Runs the daemon in the foreground.
    ///
    /// What it put into the kernel stays when it ends, so that traffic goes on; `failover clean`
    /// takes it out.
    #[command(after_help = "Example:\n  failover run --config ./failover.yaml -v")]
    Run(ConfigArgs),

    /// Reads the configuration and says what is wrong with it. Touches nothing, needs no root.
    #[command(after_help = "Example:\n  failover check --config ./failover.yaml")]
    Check(ConfigArgs),

    /// Shows what the running daemon knows.
    #[command(
        after_help = "Example:\n  failover status --json | jq '.uplinks[] | {name, state, reason}'"
    )]
    Status(StatusArgs),

    /// Takes out of the kernel everything that failover ever put there.
    #[command(after_help = "Example:\n  systemctl stop failover && failover clean")]
    Clean(ConfigArgs),
}

/// Where the configuration is.
#[derive(Debug, Args)]
pub struct ConfigArgs {
    /// The configuration.
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    pub config: PathBuf,
}

/// What to show, and of which daemon.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Prints JSON, for scripts.
    #[arg(long)]
    pub json: bool,

    /// The daemon's control socket.
    #[arg(long, value_name = "SOCK", default_value = CONTROL)]
    pub control: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
