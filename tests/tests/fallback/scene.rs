//! A gateway on a machine on which something is missing.

use std::path::PathBuf;
use std::time::Duration;

use failover::dataplane::ebpf::pins::Pins;
use failover_tests::Pinning as _;
use failover_tests::daemon::State;
use failover_tests::{Daemon, Failover, KernelState, Lab, LabError, ProgramSpec};

use crate::kept;
use crate::situations::Situation;

/// Two uplinks for the client behind `lan0`.
const CONFIG: &str = r#"
uplinks:
  one: {interface: wan1, id: 1}
  two: {interface: wan2, id: 2}
downlinks: [lan0]
probe:
  targets: [icmp://203.0.113.1, icmp://203.0.113.2, "icmp://fd00:203::1", "icmp://fd00:203::2"]
"#;

/// How long anything may take that is waited for.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// A lab through which flows go already.
pub(crate) struct Scene {
    pub(crate) lab: Lab,
    pins: Pins,
}

impl Scene {
    pub(crate) async fn build(situation: &Situation) -> Result<Self, LabError> {
        let lab = Lab::builder().build().await?;
        kept::let_through(&lab).await?;
        for line in situation.prepared_by {
            lab.gateway().node().must(ProgramSpec::line(line)).await?;
        }
        let pins = if situation.bpffs {
            lab.pins()
        } else {
            Pins::new(&lab.files().join("pins"))
        };
        Ok(Self { lab, pins })
    }

    /// The daemon's binary with a mode and a folder for pins.
    pub(crate) fn failover(&self, mode: &str) -> Result<Failover, Box<dyn std::error::Error>> {
        let failover = Failover::new(&self.lab, &format!("{CONFIG}\nmode: {mode}\n"))?;
        let path = failover.config();
        let text: Vec<String> = std::fs::read_to_string(path)?
            .lines()
            .filter(|line| !line.starts_with("bpffs:"))
            .map(str::to_owned)
            .chain([format!("bpffs: {}\n", self.pins.root().display())])
            .collect();
        std::fs::write(path, text.join("\n"))?;
        Ok(failover)
    }

    /// Starts the daemon and waits until all uplinks are up.
    pub(crate) async fn start(
        &self,
        mode: &str,
        situation: &Situation,
    ) -> Result<Daemon, Box<dyn std::error::Error>> {
        let failover = self.failover(mode)?;
        let spec = failover.program("run").variable("RUST_LOG", "info");
        let daemon = failover.run_as(situation.applied(spec)).await?;
        let up = |state: State| state == State::Up;
        daemon
            .wait_until("all uplinks are up", LIMIT, |status| {
                let mut uplinks = status.uplinks.iter();
                uplinks.all(|uplink| up(uplink.ipv4.state) && up(uplink.ipv6.state))
            })
            .await?;
        Ok(daemon)
    }

    /// What the kernel holds.
    pub(crate) async fn kernel(&self) -> Result<KernelState, LabError> {
        KernelState::of(self.lab.gateway().node()).await
    }

    /// That nothing of eBPF mode is in the kernel.
    pub(crate) async fn expect_no_ebpf(&self) -> Result<(), LabError> {
        assert!(
            !self.pinned().exists(),
            "{} is there",
            self.pinned().display()
        );
        let kernel = self.kernel().await?.to_string();
        for part in ["fo_lan_", "fo_wan_"] {
            assert!(!kernel.contains(part), "{part} in\n{kernel}");
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let files = self.lab.files().display().to_string();
        assert!(!mounts.contains(&format!("{files}/")), "{mounts}");
        Ok(())
    }

    /// Where maps and links are pinned.
    pub(crate) fn pinned(&self) -> PathBuf {
        self.pins.folder()
    }

    /// The folder that the configuration names.
    pub(crate) fn bpffs(&self) -> &std::path::Path {
        self.pins.root()
    }
}
