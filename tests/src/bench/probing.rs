//! What the daemon takes of the machine while it probes very many uplinks.

use std::path::Path;
use std::time::Duration;

use failover::family::Family;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::Machine;
use crate::addressing::probe_targets;
use crate::daemon::{Daemon, Failover, State, Status};
use crate::error::LabError;
use crate::lab::Lab;
use crate::node::ProgramSpec;
use crate::terminal::{Style, Terminal};

const UPLINKS: u8 = 64;
/// Four of each family.
const TARGETS: usize = 8;
/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(20);
const UP_WITHIN: Duration = Duration::from_secs(60);
/// What it may take of one core, and of memory in KiB.
const CORE: f64 = 0.05;
const MEMORY_KIB: u64 = 64 * 1024;

/// What was measured.
#[derive(Clone, Debug)]
pub struct Measured {
    machine: Machine,
    /// Of one core, 0.0 to 1.0.
    core: f64,
    /// The most memory that was ever resident.
    peak_kib: u64,
}

impl Measured {
    /// Whether it takes no more than is demanded.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.core < CORE && self.peak_kib < MEMORY_KIB
    }
}

/// Measures with probes every 500 ms.
///
/// # Errors
/// When something could not be done or did not happen in time.
pub async fn run(terminal: &Terminal, binary: Option<&Path>) -> Result<Measured, LabError> {
    let lab = Lab::builder().uplinks(UPLINKS).capture(false);
    let lab = terminal
        .while_waiting(lab.build(), |passed| {
            format!("  {UPLINKS} providers are made: {} s", passed.as_secs())
        })
        .await?;
    let mut config = String::from("uplinks:\n");
    for number in 1..=UPLINKS {
        config.push_str(&format!("  u{number}: {{interface: wan{number}}}\n"));
    }
    let asked: Vec<String> = Family::ALL
        .into_iter()
        .flat_map(|family| probe_targets(family).into_iter().take(TARGETS / 2))
        .map(|target| format!("\"icmp://{target}\""))
        .collect();
    if asked.len() != TARGETS {
        return Err(LabError::Layout {
            reason: format!("{} targets, {TARGETS} are meant", asked.len()),
        });
    }
    config.push_str(&format!(
        "downlinks: [lan0]\nprobe: {{targets: [{}]}}\n",
        asked.join(", ")
    ));
    let daemon = Failover::chosen(&lab, binary, &config)?.run().await?;
    let up = |status: &Status| status.all(State::Up);
    let all = daemon.wait_until("all uplinks are up", UP_WITHIN, up);
    terminal
        .while_waiting(all, |passed| {
            format!("  all are up: {} s", passed.as_secs())
        })
        .await?;
    set_apart(&lab, &daemon).await?;
    let before = processor_time(&daemon)?;
    terminal
        .while_waiting(tokio::time::sleep(WATCHED), |passed| {
            format!("  watching for {} s", passed.as_secs())
        })
        .await;
    let took = processor_time(&daemon)?.saturating_sub(before);
    let status = daemon.status().await?;
    if !status.all(State::Up) {
        return Err(LabError::Layout {
            reason: format!("not all uplinks stayed up: {status}"),
        });
    }
    Ok(Measured {
        machine: Machine::this(),
        core: took.as_secs_f64() / WATCHED.as_secs_f64(),
        peak_kib: peak(&daemon)?,
    })
}

/// The daemon works on one processor, and the other ends of its lines on another: in the lab a packet
/// is carried through providers and internet, and back, by whoever sends it, and its time would count
/// as the daemon's (Documentation/networking/scaling.rst, RPS).
async fn set_apart(lab: &Lab, daemon: &Daemon) -> Result<(), LabError> {
    let mut first = CpuSet::new();
    let io = |error: nix::Error| LabError::Io {
        what: "bind the daemon to a processor".to_owned(),
        source: error.into(),
    };
    first.set(0).map_err(io)?;
    let pid = i32::try_from(daemon.pid()).unwrap_or_default();
    sched_setaffinity(Pid::from_raw(pid), &first).map_err(io)?;
    let script = "mount -t sysfs sysfs /sys && \
                  for queue in /sys/class/net/*/queues/rx-*/rps_cpus; do echo 2 > $queue; done";
    for node in lab.nodes() {
        let program = ProgramSpec::new("unshare").arguments(["--mount", "sh", "-c", script]);
        node.must(program).await?;
    }
    Ok(())
}

/// The time that all threads have taken (proc(5), `utime` and `stime`, in hundredths of a second).
fn processor_time(daemon: &Daemon) -> Result<Duration, LabError> {
    let path = format!("/proc/{}/stat", daemon.pid());
    let text = std::fs::read_to_string(&path).map_err(LabError::io(format!("read {path}")))?;
    // The name, in parentheses, may hold anything.
    let after_name = text.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 = after_name
        .split(' ')
        .skip(11)
        .take(2)
        .filter_map(|ticks| ticks.parse::<u64>().ok())
        .sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// The most memory that was resident (proc(5), `VmHWM`), in KiB.
fn peak(daemon: &Daemon) -> Result<u64, LabError> {
    let path = format!("/proc/{}/status", daemon.pid());
    let text = std::fs::read_to_string(&path).map_err(LabError::io(format!("read {path}")))?;
    text.lines()
        .find_map(|line| {
            line.strip_prefix("VmHWM:")?
                .trim()
                .strip_suffix(" kB")?
                .trim()
                .parse()
                .ok()
        })
        .ok_or_else(|| LabError::Layout {
            reason: format!("{path} has no VmHWM"),
        })
}

/// Shows the result.
pub fn show(terminal: &Terminal, measured: &Measured) {
    terminal.heading("What the daemon takes");
    terminal.line(terminal.styled(Style::Faint, &measured.machine));
    terminal.line("");
    let text = format!(
        "{UPLINKS} uplinks with {TARGETS} targets each, every 500 ms: {:.1}% of a core (under {:.0}%), \
         {:.1} MiB at most (under {} MiB)",
        measured.core * 100.0,
        CORE * 100.0,
        measured.peak_kib as f64 / 1024.0,
        MEMORY_KIB / 1024
    );
    terminal.verdict(measured.holds(), text);
}

/// The result for scripts.
#[must_use]
pub fn json(measured: &Measured) -> Value {
    json!({
        "benchmark": "probing",
        "measured": "processor time and peak resident memory of the daemon",
        "machine": measured.machine,
        "uplinks": UPLINKS,
        "targets": TARGETS,
        "core": measured.core,
        "demanded_core": CORE,
        "peak_kib": measured.peak_kib,
        "demanded_kib": MEMORY_KIB,
        "ok": measured.holds(),
    })
}
