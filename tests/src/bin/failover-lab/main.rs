//! The lab's commands: a demo of the product, benchmarks and a soak test.

mod forwarding;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use failover::family::Family;
use failover_tests::bench::churn as churn_bench;
use failover_tests::bench::failover::{self as failover_bench, Fault};
use failover_tests::bench::forwarding as forwarding_bench;
use failover_tests::bench::lost as lost_bench;
use failover_tests::bench::overflow as overflow_bench;
use failover_tests::bench::probing as probing_bench;
use failover_tests::bench::program as program_bench;
use failover_tests::terminal::Terminal;
use failover_tests::{LabError, demo, package, soak};
use serde_json::Value;

use forwarding::ForwardingArguments;

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
        /// Looks on for one second instead of eight between two events
        #[arg(long)]
        brief: bool,
    },
    /// Measures
    #[command(subcommand)]
    Bench(Bench),
    /// The Debian package on a machine with systemd: installed, upgraded under traffic, purged
    Package {
        /// The package
        package: PathBuf,
        /// A newer one
        newer: PathBuf,
    },
    /// Random faults again and again; ends at the first thing that does not hold
    #[command(
        after_help = "Examples: failover-lab soak --minutes 30\n          failover-lab soak --what restarts --times 200"
    )]
    Soak {
        /// What happens
        #[arg(long, value_enum, default_value_t = WhatArgument::Faults)]
        what: WhatArgument,
        /// How many restarts, rounds of churn or sets of rules there are in each mode, or how many days
        /// of a line; 200, 500, 20 and 1000 by default
        #[arg(long, value_name = "NUMBER")]
        times: Option<usize>,
        /// How long faults are played
        #[arg(long, default_value_t = 10)]
        minutes: u32,
        /// Repeats the faults of an earlier run
        #[arg(long, value_name = "NUMBER")]
        seed: Option<u64>,
        /// The binary to test; by default the one that was built together with this program
        #[arg(long, value_name = "PATH")]
        failover: Option<PathBuf>,
        /// Writes the result to this file, too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// The time from a fault to the first new flow that is answered through a survivor
    #[command(
        after_help = "Example: failover-lab bench failover --fault carrier --trials 20 --json failover.json\n\n\
                      Exit status 1 when a demand is not met: black hole with default settings: median up to 1.5 s,\n\
                      no trial over 2.5 s; with --interval 100 up to 400 ms and 1 s; while users talk up to 700 ms;\n\
                      loss of carrier: median up to 10 ms."
    )]
    Failover(FailoverArguments),
    /// What one forwarded packet costs, beside other ways to forward it
    #[command(
        after_help = "Examples: failover-lab bench forwarding --quick\n          \
                      failover-lab bench forwarding --json forwarding.json --svg forwarding.svg\n          \
                      failover-lab bench forwarding --part known --variant masquerade --variant ebpf --flows 1000\n\n\
                      Exit status 1 when a ratio is not what is demanded (docs/benchmarks.md), or less than 99.9 % of\n\
                      the packets of a variant were forwarded."
    )]
    Forwarding(ForwardingArguments),
    /// The time from a change of an interface to when all that follows from it is in the kernel
    #[command(
        after_help = "Example: failover-lab bench churn --trials 20 --json churn.json\n\n\
                      Exit status 1 when a change takes longer than the 100 ms that are demanded."
    )]
    Churn {
        /// How many trials of each change
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
        trials: u16,
        /// The binary to measure; by default the one that was built together with this program
        #[arg(long, value_name = "PATH")]
        failover: Option<PathBuf>,
        /// Writes the result to this file, too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// What users get of two lines where the second takes what the first cannot carry
    #[command(
        after_help = "Example: failover-lab bench overflow --trials 5 --json overflow.json\n\n\
                      Exit status 1 when the first line carries less than the 80 % from which on it is full, or when\n\
                      more than 0.5 % is lost on one of them."
    )]
    Overflow {
        /// How many trials in each mode; one takes half a minute
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
        trials: u8,
        /// The binary to measure; by default the one that was built together with this program
        #[arg(long, value_name = "PATH")]
        failover: Option<PathBuf>,
        /// Writes the result to this file, too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// What the daemon takes of the machine while it probes 64 uplinks
    #[command(
        after_help = "Example: failover-lab bench probing --json probing.json\n\n\
                      Exit status 1 when it takes 5 % of a core or more, or 64 MiB of memory."
    )]
    Probing {
        /// The binary to measure; by default the one that was built together with this program
        #[arg(long, value_name = "PATH")]
        failover: Option<PathBuf>,
        /// Writes the result to this file, too
        #[arg(long, value_name = "FILE")]
        json: Option<PathBuf>,
    },
    /// What the TC programs cost per packet, measured by the kernel itself
    #[command(
        after_help = "Example: failover-lab bench program --json program.json\n\n\
                      Exit status 1 when a demand is not met, in the median of all runs: a packet of a known flow\n\
                      up to 150 ns, one of a new flow up to 600 ns."
    )]
    Program(ProgramArguments),
    /// What the death of an uplink with very many connections costs
    #[command(after_help = "Example: failover-lab bench lost --json lost.json\n\n\
                      Exit status 1 when a demand is not met: 50,000 of 200,000 connection tracking entries are\n\
                      removed within 300 ms, a flow on another uplink is answered within 10 ms in 99 of 100 cases\n\
                      meanwhile, and where there are few, clients are told within 200 ms of the detection.")]
    Lost(LostArguments),
}

#[derive(Debug, Args)]
struct LostArguments {
    /// How many trials of each kind and family; one takes some 20 s
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..))]
    trials: u8,
    /// The binary to measure; by default the one that was built together with this program
    #[arg(long, value_name = "PATH")]
    failover: Option<PathBuf>,
    /// Writes the result to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ProgramArguments {
    /// How many runs of each kind of packet; up to 6, so that the table has room for all new flows
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=6))]
    runs: u8,
    /// The eBPF object to measure; by default the embedded one
    #[arg(long, value_name = "PATH")]
    object: Option<PathBuf>,
    /// The binary whose rules and tables are measured with; by default the one that was built
    /// together with this program
    #[arg(long, value_name = "PATH")]
    failover: Option<PathBuf>,
    /// Writes the result to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct FailoverArguments {
    /// How many trials of each fault; 20 take about two minutes
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    trials: u16,
    /// What befalls the uplink
    #[arg(long, value_enum, default_value_t = FaultArgument::All)]
    fault: FaultArgument,
    /// The address family of the new flows
    #[arg(long, value_enum, default_value_t = FamilyArgument::Both)]
    family: FamilyArgument,
    /// Milliseconds from one round of probes to the next; the default is the daemon's
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(10..))]
    interval: u16,
    /// The binary to measure; by default the one that was built together with this program
    #[arg(long, value_name = "PATH")]
    failover: Option<PathBuf>,
    /// Writes the result to this file, too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes the daemon's log to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum WhatArgument {
    /// Uplinks fail and return
    Faults,
    /// The daemon is killed and started under 20,000 packets/s, also with another map layout
    Restarts,
    /// Interfaces of uplinks and downlinks come, go and change
    Churn,
    /// Packets of random rules leave as a plain model of the rules says
    Rules,
    /// Days of a rough line in virtual time: it must never be taken for dead
    Line,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FaultArgument {
    /// The provider swallows every packet; nothing tells the gateway
    BlackHole,
    /// The same while users talk over 20 connections to 5 hosts
    BusyBlackHole,
    /// The interface loses its carrier
    Carrier,
    /// The interface vanishes
    Interface,
    /// One after the other
    All,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FamilyArgument {
    /// IPv4
    Ipv4,
    /// IPv6
    Ipv6,
    /// In turn, from trial to trial
    Both,
}

impl FamilyArgument {
    fn families(self) -> Vec<Family> {
        match self {
            Self::Ipv4 => vec![Family::Ipv4],
            Self::Ipv6 => vec![Family::Ipv6],
            Self::Both => Family::ALL.to_vec(),
        }
    }
}

impl From<FailoverArguments> for failover_bench::Options {
    fn from(arguments: FailoverArguments) -> Self {
        Self {
            faults: match arguments.fault {
                FaultArgument::BlackHole => vec![Fault::BlackHole],
                FaultArgument::BusyBlackHole => vec![Fault::BusyBlackHole],
                FaultArgument::Carrier => vec![Fault::Carrier],
                FaultArgument::Interface => vec![Fault::Interface],
                FaultArgument::All => Fault::ALL.to_vec(),
            },
            families: arguments.family.families(),
            interval: Duration::from_millis(arguments.interval.into()),
            trials: arguments.trials.into(),
            binary: arguments.failover,
            log: arguments.log,
        }
    }
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

fn isolated(terminal: &Terminal, command: Command) -> Result<ExitCode, Box<dyn Error>> {
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    failover_tests::session(|| run(terminal, command))?.unwrap_or_else(|| {
        eprintln("\ninterrupted; nothing stays behind");
        Ok(ExitCode::from(130))
    })
}

async fn run(terminal: &Terminal, command: Command) -> Result<ExitCode, Box<dyn Error>> {
    match command {
        Command::Demo {
            failover,
            json,
            brief,
        } => {
            let options = demo::Options {
                binary: failover,
                brief,
            };
            let outcome = demo::run(terminal, &options).await?;
            write_json(json, &outcome.json)?;
            Ok(status(outcome.held))
        }
        Command::Package {
            package: older,
            newer,
        } => Ok(status(package::run(terminal, &older, &newer).await?)),
        Command::Bench(Bench::Failover(mut arguments)) => {
            let json = arguments.json.take();
            let measured = failover_bench::run(terminal, &arguments.into()).await?;
            failover_bench::show(terminal, &measured);
            write_json(json, &failover_bench::json(&measured))?;
            Ok(status(measured.holds()))
        }
        Command::Bench(Bench::Program(arguments)) => {
            let options = program_bench::Options {
                runs: arguments.runs.into(),
                object: arguments.object,
                binary: arguments.failover,
            };
            let measured = program_bench::run(terminal, &options).await?;
            program_bench::show(terminal, &measured);
            write_json(arguments.json, &program_bench::json(&measured))?;
            Ok(status(measured.holds()))
        }
        Command::Bench(Bench::Forwarding(arguments)) => {
            let measured = forwarding_bench::run(&arguments.options()).await?;
            forwarding_bench::show(terminal, &measured);
            write_json(arguments.json, &forwarding_bench::json(&measured))?;
            if let Some(chart) = forwarding_bench::svg(&measured) {
                write_file(arguments.svg, &chart)?;
            }
            Ok(status(measured.holds()))
        }
        Command::Bench(Bench::Lost(arguments)) => {
            let options = lost_bench::Options {
                trials: arguments.trials.into(),
                binary: arguments.failover,
            };
            let measured = lost_bench::run(terminal, &options).await?;
            lost_bench::show(terminal, &measured);
            write_json(arguments.json, &lost_bench::json(&measured))?;
            Ok(status(measured.holds()))
        }
        Command::Bench(Bench::Churn {
            trials,
            failover,
            json,
        }) => {
            let measured = churn_bench::run(terminal, trials.into(), failover.as_deref()).await?;
            churn_bench::show(terminal, &measured);
            write_json(json, &churn_bench::json(&measured))?;
            Ok(status(measured.holds()))
        }
        Command::Bench(Bench::Overflow {
            trials,
            failover,
            json,
        }) => {
            let measured =
                overflow_bench::run(terminal, trials.into(), failover.as_deref()).await?;
            overflow_bench::show(terminal, &measured);
            write_json(json, &overflow_bench::json(&measured))?;
            Ok(status(measured.holds()))
        }
        Command::Bench(Bench::Probing { failover, json }) => {
            let measured = probing_bench::run(terminal, failover.as_deref()).await?;
            probing_bench::show(terminal, &measured);
            write_json(json, &probing_bench::json(&measured))?;
            Ok(status(measured.holds()))
        }
        Command::Soak {
            what,
            times,
            minutes,
            seed,
            failover,
            json,
        } => {
            let options = soak::Options {
                duration: Duration::from_secs(60) * minutes,
                seed,
                binary: failover,
            };
            let outcome = match what {
                WhatArgument::Faults => soak::run(terminal, &options).await?,
                WhatArgument::Restarts => {
                    let what = soak::What::Restarts(times.unwrap_or(200));
                    soak::repeat(terminal, what, &options).await?
                }
                WhatArgument::Churn => {
                    let what = soak::What::Churn(times.unwrap_or(500));
                    soak::repeat(terminal, what, &options).await?
                }
                WhatArgument::Rules => soak::rules(terminal, times.unwrap_or(20), &options).await?,
                WhatArgument::Line => soak::line(terminal, times.unwrap_or(1000), &options)?,
            };
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
    write_file(file, &format!("{value:#}\n"))
}

fn write_file(file: Option<PathBuf>, text: &str) -> Result<(), LabError> {
    let Some(path) = file else { return Ok(()) };
    std::fs::write(&path, text).map_err(|source| LabError::Io {
        what: format!("write {}", path.display()),
        source,
    })
}
