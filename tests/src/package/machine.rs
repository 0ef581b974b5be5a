//! A machine with systemd whose network is a lab's gateway.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::error::LabError;
use crate::eventually::eventually;
use crate::lab::Lab;
use crate::node::{Node, Output, Program, ProgramSpec};

const BOOT: &str = include_str!("boot.sh");
/// How long it may take to boot.
const BOOTED_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to be gone.
const ENDED_WITHIN: Duration = Duration::from_secs(20);
/// How long a command in it may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// The machine. It is gone when this is dropped.
#[derive(Debug)]
pub(super) struct Machine {
    node: Node,
    outside: Program,
    /// Its first process, as it is called outside.
    first: u32,
}

impl Machine {
    /// Boots it, with these files in /root.
    pub(super) async fn boot(lab: &Lab, files: &[&Path]) -> Result<Self, LabError> {
        let script = lab.files().join("boot.sh");
        fs::write(&script, BOOT).map_err(LabError::io("write the script that boots systemd"))?;
        let here = lab.files().join("machine");
        let node = lab.gateway().node().clone();
        let spec = ProgramSpec::line("unshare --mount sh")
            .arguments([script.as_path(), &here])
            .arguments(files);
        let outside = node.start(spec).await?;
        let first = eventually("systemd is started", BOOTED_WITHIN, || async {
            if outside.ended().is_some() {
                return Err(LabError::Io {
                    what: format!("boot systemd: {}", outside.stderr()),
                    source: std::io::ErrorKind::Other.into(),
                });
            }
            Ok(systemd_below(outside.pid()))
        })
        .await?;
        let machine = Self {
            node,
            outside,
            first,
        };
        eventually("systemd has booted", BOOTED_WITHIN, || async {
            let output = machine.run("systemctl is-system-running").await?;
            let state = output.stdout.trim();
            Ok(matches!(state, "running" | "degraded").then_some(()))
        })
        .await?;
        Ok(machine)
    }

    /// Switches it off, and leaves no control group behind.
    pub(super) async fn end(self) -> Result<(), LabError> {
        // Its processes cannot kill their first one. Where that has ended, all have.
        if let Ok(first) = i32::try_from(self.first) {
            kill(Pid::from_raw(first), Signal::SIGKILL).ok();
        }
        self.outside.wait(ENDED_WITHIN).await.map(drop)
    }

    /// Runs a command of the shell in it, whatever its exit status.
    pub(super) async fn run(&self, script: &str) -> Result<Output, LabError> {
        self.node.output(self.spec(script)).await
    }

    /// Runs a command of the shell that must end with status 0, and returns what it wrote to standard
    /// output.
    pub(super) async fn must(&self, script: &str) -> Result<String, LabError> {
        self.node.must(self.spec(script)).await
    }

    fn spec(&self, script: &str) -> ProgramSpec {
        ProgramSpec::new("nsenter")
            .arguments(["--target", &self.first.to_string(), "--all"])
            .arguments(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin"])
            .arguments(["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"])
            .arguments(["sh", "-c", &format!("cd /root; {script}")])
            .limit(COMMAND_LIMIT)
    }
}

/// The process of that name among the descendants of a process.
fn systemd_below(process: u32) -> Option<u32> {
    let children =
        fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|child| child.parse().ok())
        .find_map(|child: u32| {
            let name = fs::read_to_string(format!("/proc/{child}/comm")).unwrap_or_default();
            if name.trim() == "systemd" {
                Some(child)
            } else {
                systemd_below(child)
            }
        })
}
