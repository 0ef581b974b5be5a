//! The Debian package on a machine with systemd: installed, started, upgraded under traffic, removed
//! and purged.

mod machine;
mod sandbox;

use std::path::Path;
use std::time::{Duration, Instant};

use failover::family::Family;

use self::machine::Machine;
use crate::addressing::targets_in_yaml;
use crate::daemon::{State, Status};
use crate::error::LabError;
use crate::eventually::eventually;
use crate::lab::Lab;
use crate::snapshot::KernelState;
use crate::terminal::Terminal;
use crate::traffic::{Protocol, Stream, StreamPlan, Tally, Traffic};

/// Packets per second of known flows.
const RATE: u32 = 2_000;
/// How long traffic flows on each side of what happens to the daemon.
const AROUND: Duration = Duration::from_secs(2);
/// How long uplinks may take to be up.
const UP_WITHIN: Duration = Duration::from_secs(20);
/// How long systemd may take to notice a daemon that hangs: what the unit says, and some more.
const NOTICED_WITHIN: Duration = Duration::from_secs(90);

/// What dpkg and others write where they please; and what a package that was there before is told of.
const NOT_OURS: &str = "^/(run|tmp|proc|sys|dev|root|mnt)/|^/var/(cache|log/(journal|apt|dpkg|alternatives)|lib/(dpkg|apt|systemd/catalog))|^/etc/(machine-id|ld.so.cache)";

/// Does all of that with two packages, of which the second is the newer one; returns whether everything
/// was as it has to be.
///
/// # Errors
/// When something could not be done, or did not happen in time.
pub async fn run(terminal: &Terminal, package: &Path, newer: &Path) -> Result<bool, LabError> {
    let lab = Lab::builder().uplinks(2).capture(true).build().await?;
    let machine = Machine::boot(&lab, &[package, newer]).await?;
    // systemd changes some of the kernel's settings, too.
    let untouched = KernelState::of(lab.gateway().node()).await?;
    let check = Check {
        terminal,
        machine,
        lab: &lab,
    };
    let files = check.files().await?;
    let mut held = true;
    terminal.heading("Installed");
    held &= check.install(package, &untouched).await?;
    held &= check.start().await?;
    terminal.heading("The unit");
    held &= sandbox::holds(terminal, &check.machine).await?;
    terminal.heading("Upgraded");
    held &= check.upgrade(newer).await?;
    terminal.heading("Hung");
    held &= check.watchdog().await?;
    terminal.heading("Removed and purged");
    held &= check.remove(&untouched, &files).await?;
    check.machine.end().await?;
    Ok(held)
}

struct Check<'a> {
    terminal: &'a Terminal,
    machine: Machine,
    lab: &'a Lab,
}

impl Check<'_> {
    fn verdict(&self, met: bool, text: &str) -> bool {
        self.terminal.verdict(met, text);
        met
    }

    /// Files that the machine has of its own.
    async fn files(&self) -> Result<String, LabError> {
        let list = "cd /mnt/lab-changes && find . ! -type d -printf '/%P\\n' | sort";
        self.machine
            .must(&format!("{list} | grep -Ev '{NOT_OURS}' || :"))
            .await
    }

    async fn install(&self, package: &Path, untouched: &KernelState) -> Result<bool, LabError> {
        let machine = &self.machine;
        let name = name(package);
        machine.must(&format!("dpkg --install ./{name}")).await?;
        let enabled = machine.run("systemctl is-enabled failover").await?;
        let active = machine.run("systemctl is-active failover").await?;
        let same = KernelState::of(self.lab.gateway().node()).await? == *untouched;
        let mut held = self.verdict(
            enabled.stdout.trim() == "enabled" && active.stdout.trim() == "inactive" && same,
            "without a configuration it is enabled, does not run, and has changed nothing",
        );
        let pages = machine
            .run("man --where failover && man --where failover-status && ls /usr/share/bash-completion/completions/failover /usr/share/zsh/vendor-completions/_failover /usr/share/fish/vendor_completions.d/failover.fish")
            .await?;
        held &= self.verdict(
            pages.status.success(),
            "man pages and completions are there",
        );
        let completed = machine
            .run("bash -c '. /usr/share/bash-completion/completions/failover; COMP_WORDS=(failover sta); COMP_CWORD=1; _failover failover sta failover; echo ${COMPREPLY[*]}'")
            .await?;
        held &= self.verdict(
            completed.stdout.trim() == "status",
            "bash completes `failover sta` to `status`",
        );
        Ok(held)
    }

    async fn start(&self) -> Result<bool, LabError> {
        let config = format!(
            "uplinks:\n  one: {{interface: wan1}}\n  two: {{interface: wan2}}\ndownlinks: [lan0]\nmode: ebpf\nprobe: {{targets: {}}}\n",
            targets_in_yaml()
        );
        self.machine
            .must(&format!(
                "printf '%s' '{config}' >/etc/failover/failover.yaml && systemctl start failover"
            ))
            .await?;
        let status = self.up().await?;
        let text = self
            .machine
            .must("systemctl show -P StatusText failover")
            .await?;
        let held = self.verdict(
            status.mode == "ebpf" && text.trim() == "2 of 2 uplinks up: one, two",
            &format!(
                "runs in mode {}; systemctl says: {}",
                status.mode,
                text.trim()
            ),
        );
        let fields =
            "journalctl --unit failover FAILOVER_UPLINK=one FAILOVER_FAMILY=IPv4 --output cat";
        let line = self.machine.run(fields).await?;
        Ok(self.verdict(
            line.stdout
                .contains("uplink changed its state uplink=one family=IPv4"),
            "the journal finds a line by FAILOVER_UPLINK and FAILOVER_FAMILY",
        ) && held)
    }

    /// Waits until both uplinks are up.
    async fn up(&self) -> Result<Status, LabError> {
        eventually("both uplinks are up", UP_WITHIN, || async {
            let output = self.machine.run("failover status --json").await?;
            let status: Option<Status> = serde_json::from_str(&output.stdout).ok();
            Ok(status.filter(|status| status.all(State::Up)))
        })
        .await
    }

    /// Traffic of known flows, and new ones one after the other, while something happens.
    async fn amid_traffic(
        &self,
        what: &str,
        happens: impl Future<Output = Result<(), LabError>>,
    ) -> Result<bool, LabError> {
        let client = self.lab.client(1)?;
        let plan = StreamPlan {
            flows: 100,
            families: Family::ALL.to_vec(),
            rate: RATE,
        };
        let stream = Stream::begin(self.lab, client, &plan).await?;
        let new_flows = async {
            tokio::time::sleep(AROUND).await;
            happens.await?;
            tokio::time::sleep(AROUND).await;
            Ok(())
        };
        tokio::pin!(new_flows);
        let (mut opened, mut answered) = (0, 0);
        let mut protocols = [Protocol::Tcp, Protocol::Udp].into_iter().cycle();
        loop {
            let protocol = protocols.next().unwrap_or(Protocol::Tcp);
            for family in Family::ALL {
                let tally = Tally::of(&client.burst(Traffic::new(protocol, family, 10)).await?);
                opened += 10;
                answered += tally.answered();
            }
            tokio::select! {
                done = &mut new_flows => {
                    done?;
                    break;
                }
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
        let streamed = stream.finish(self.lab).await?;
        let known = self.verdict(
            streamed.is_whole(),
            &format!("{what}, known flows: {streamed}"),
        );
        let new = self.verdict(
            opened == answered,
            &format!("{what}, new flows: {opened} opened, {answered} answered"),
        );
        Ok(known && new)
    }

    async fn pid(&self) -> Result<String, LabError> {
        self.machine
            .must("systemctl show -P MainPID failover")
            .await
    }

    async fn upgrade(&self, newer: &Path) -> Result<bool, LabError> {
        let before = self.pid().await?;
        let held = self
            .amid_traffic("upgrade", async {
                let install = format!("dpkg --install ./{}", name(newer));
                self.machine.must(&install).await.map(drop)
            })
            .await?;
        self.up().await?;
        let after = self.pid().await?;
        Ok(self.verdict(
            before != after && after.trim() != "0",
            "the new program runs, and the configuration is as it was",
        ) && held)
    }

    async fn watchdog(&self) -> Result<bool, LabError> {
        let restarts = "systemctl show -P NRestarts failover";
        let before = self.machine.must(restarts).await?;
        let began = Instant::now();
        let held = self
            .amid_traffic("hung and restarted", async {
                self.machine
                    .must("systemctl kill --signal STOP failover")
                    .await?;
                eventually("systemd restarts the daemon", NOTICED_WITHIN, || async {
                    let now = self.machine.must(restarts).await?;
                    Ok((now != before).then_some(()))
                })
                .await
            })
            .await?;
        self.up().await?;
        self.terminal.line(format!(
            "           all up again {:.0} s after it was stopped",
            began.elapsed().as_secs_f64()
        ));
        Ok(held)
    }

    async fn remove(&self, untouched: &KernelState, files: &str) -> Result<bool, LabError> {
        let machine = &self.machine;
        machine.must("dpkg --remove failover").await?;
        let running = machine.run("pgrep --exact failover").await?;
        let pins = machine
            .must("find /sys/fs/bpf -mindepth 1 ! -name '*.debug'")
            .await?;
        let left = KernelState::of(self.lab.gateway().node()).await?;
        let mut held = self.verdict(
            running.stdout.is_empty() && pins.is_empty() && left == *untouched,
            &format!(
                "removed: nothing runs, nothing is pinned, the kernel is as it was {}",
                untouched.difference(&left).unwrap_or_default()
            ),
        );
        let kept = machine.run("ls /etc/failover/failover.yaml").await?;
        held &= self.verdict(
            kept.status.success(),
            "the configuration stays until the purge",
        );

        machine.must("dpkg --purge failover").await?;
        let after = self.files().await?;
        let new: Vec<&str> = after
            .lines()
            .filter(|file| !files.lines().any(|before| before == *file))
            .collect();
        let elsewhere = machine
            .must("find /run /tmp /var/lib /var/log /etc /usr/lib/systemd -iname '*failover*' ! -path '/var/lib/dpkg/*'; getent passwd failover || :; systemctl list-unit-files --no-legend 'failover*' || :")
            .await?;
        held &= self.verdict(
            new.is_empty() && elsewhere.is_empty(),
            &format!("purged: no file is left {}{elsewhere}", new.join(" ")),
        );
        Ok(held)
    }
}

fn name(package: &Path) -> String {
    package
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
