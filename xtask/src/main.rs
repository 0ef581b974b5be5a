//! What a developer of failover runs: `cargo xtask --help`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "progress goes to standard error and results to standard output: that is what this is for"
)]

mod command;
#[cfg(test)]
mod documentation;
mod ebpf;
mod kernels;
mod lab;
mod package;
mod privilege;
mod setup;
mod test;
mod workspace;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::ebpf::toolchain::Kind;
use crate::kernels::Series;
use crate::workspace::Workspace;

/// Set-up, tests, demo and benchmarks of failover.
#[derive(Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "Each installs the Debian packages that it needs, and uses sudo where it needs root and is not."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Installs the programs that tests and demo need, where they are missing
    #[command(after_help = "Example: cargo xtask setup")]
    Setup,
    /// Rebuilds the eBPF object that is checked in, and records what built it
    #[command(
        after_help = "Example: cargo xtask build-ebpf\n\nTakes a rustup nightly with rust-src and bpf-linker if both are there or can be had, else Debian's \
                      packages rustc-web, cargo-web, rust-web-src and llvm-22-dev, which it installs."
    )]
    BuildEbpf {
        /// Take only this toolchain
        #[arg(long, value_enum)]
        toolchain: Option<Kind>,
    },
    /// Sets up, checks and tests everything; the last line is `N passed, N failed`
    #[command(
        after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --filter silent   only tests whose names hold `silent`, and no checks\n  \
                      cargo xtask test --kernel 6.12     what depends on the kernel, on Debian's 6.12\n\n\
                      Other kernels run in an emulated machine; without options 6.1 is one of the steps."
    )]
    Test {
        /// Run only the tests whose names hold this text, and leave out the checks
        #[arg(long, value_name = "TEXT")]
        filter: Option<String>,
        /// Run only what depends on the kernel, on Debian's kernel of this series
        #[arg(long, value_enum)]
        kernel: Option<Series>,
        /// Play every scenario in every way: in eBPF mode also without the fast path; on another kernel
        /// in both families
        #[arg(long)]
        all: bool,
    },
    /// Shows failover at work: one of three uplinks dies and returns under real traffic
    #[command(
        after_help = "Examples:\n  cargo xtask demo\n  cargo xtask demo -- --help   the options of the demo itself"
    )]
    Demo {
        /// Options of the demo
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Measures, with the release build
    #[command(
        after_help = "Examples:\n  cargo xtask bench failover --trials 20 --json failover.json\n  \
                      cargo xtask bench program\n  \
                      cargo xtask bench -- --help   which benchmarks there are"
    )]
    Bench {
        /// The benchmark and its options
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            required = true,
            value_name = "BENCHMARK"
        )]
        arguments: Vec<OsString>,
    },
    /// Builds the Debian package, with man pages and completions
    #[command(
        after_help = "Examples:\n  cargo xtask package\n  cargo xtask package --check\n  \
                      cargo xtask package --target x86_64-unknown-linux-musl   linked statically"
    )]
    Package {
        /// For this target of rustup, which is added to the toolchain where it is missing
        #[arg(long, value_name = "TARGET")]
        target: Option<String>,
        /// Installs, upgrades and purges it on a machine with systemd, in namespaces
        #[arg(long)]
        check: bool,
    },
    /// Random faults again and again, until something does not hold or the time is over
    #[command(
        after_help = "Examples:\n  cargo xtask soak --minutes 30\n  cargo xtask soak -- --help   its options"
    )]
    Soak {
        /// Options of the soak test
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let workspace = Workspace::of_this_build();
    let outcome: Result<ExitCode, Box<dyn std::error::Error>> = match command {
        Command::Setup => setup::run(&workspace)
            .map(|()| ExitCode::SUCCESS)
            .map_err(Into::into),
        Command::BuildEbpf { toolchain } => ebpf::build(&workspace, toolchain)
            .map(|()| ExitCode::SUCCESS)
            .map_err(Into::into),
        Command::Test {
            filter,
            kernel,
            all,
        } => Ok(test::run(&workspace, filter.as_deref(), kernel, all)),
        Command::Demo { arguments } => {
            lab::run(&workspace, lab::Show::Demo, &arguments).map_err(Into::into)
        }
        Command::Bench { arguments } => {
            lab::run(&workspace, lab::Show::Bench, &arguments).map_err(Into::into)
        }
        Command::Package { target, check } => {
            package::run(&workspace, target.as_deref(), check).map_err(Into::into)
        }
        Command::Soak { arguments } => {
            lab::run(&workspace, lab::Show::Soak, &arguments).map_err(Into::into)
        }
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
