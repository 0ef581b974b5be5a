//! How the programs of eBPF mode get into the kernel and out of it: where they hang and what is
//! pinned, beside what others have there, over restarts, and when something is in the way.
//!
//! Most of it is tried with both hooks: for `clsact` the kernel refuses TCX to the daemon, as one
//! before 6.6 does. On such a kernel there is only `clsact`.
//!
//! These tests need root and say so when they have none.

mod choice;
mod clean;
mod detached;
mod hanging;
mod interfaces;
mod mounts;
mod others;
mod pins;
mod refused;
mod replacing;
#[path = "../trial/mod.rs"]
mod trial;
mod users;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use failover_tests::daemon::{State, Status};
use failover_tests::programs::has_tcx;
use failover_tests::{Daemon, Failover, Lab, LabError, Refusal};

use trial::{SystemTest, TestResult};

/// Two uplinks for the client behind `lan0`.
const CONFIG: &str = r#"
uplinks:
  one: {interface: wan1, id: 1}
  two: {interface: wan2, id: 2}
downlinks: [lan0]
mode: ebpf
probe:
  targets: [icmp://203.0.113.1, icmp://203.0.113.2, "icmp://fd00:203::1", "icmp://fd00:203::2"]
  max_hold: 0s
"#;

/// Longer than the daemon needs for anything but what it looks at only now and then.
const VERDICT: Duration = Duration::from_secs(10);

/// How programs hang on interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    Tcx,
    Clsact,
}

impl Hook {
    /// Those that this kernel has.
    fn all() -> Vec<Self> {
        if has_tcx() {
            vec![Self::Tcx, Self::Clsact]
        } else {
            vec![Self::Clsact]
        }
    }

    /// The binary with a configuration, on a kernel that has this hook as its best.
    fn failover(self, lab: &Lab, config: &str) -> Result<Failover, LabError> {
        let failover = Failover::new(lab, config)?;
        Ok(match self {
            Self::Tcx => failover,
            Self::Clsact => failover.refused(Refusal::tcx()),
        })
    }

    /// Starts the daemon and waits until all uplinks are up.
    async fn start(self, lab: &Lab) -> Result<Daemon, LabError> {
        started(&self.failover(lab, CONFIG)?).await
    }
}

/// As `bpftool net` and the daemon's log begin with.
impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

/// Starts the daemon and waits until all uplinks are up.
async fn started(failover: &Failover) -> Result<Daemon, LabError> {
    let daemon = failover.run().await?;
    let all_up = |status: &Status| status.mode == "ebpf" && status.all(State::Up);
    let what = "all uplinks are up in eBPF mode";
    daemon.wait_until(what, VERDICT, all_up).await?;
    Ok(daemon)
}

/// Has the configuration name another folder for maps and links.
fn set_bpffs(failover: &Failover, folder: &Path) -> std::io::Result<()> {
    let text = std::fs::read_to_string(failover.config())?;
    let others = text.lines().filter(|line| !line.starts_with("bpffs:"));
    let own = format!("bpffs: {}", folder.display());
    let lines: Vec<&str> = others.chain([own.as_str()]).collect();
    std::fs::write(failover.config(), lines.join("\n"))
}

fn main() -> ExitCode {
    trial::run(|| {
        let of_hooks = Hook::all().into_iter().flat_map(|hook| {
            [
                choice::tests(hook),
                clean::tests(hook),
                detached::tests(hook),
                interfaces::tests(hook),
                mounts::tests(hook),
                others::tests(hook),
                pins::tests(hook),
                refused::tests(hook),
                replacing::tests(hook),
            ]
        });
        of_hooks.flatten().collect()
    })
}
