//! Kills and starts of the daemon amid a stream of packets.

use std::fs;
use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::Pinning as _;
use crate::chance::Chance;
use crate::daemon::Daemon;
use crate::error::LabError;
use crate::lab::Lab;
use crate::node::ProgramSpec;

/// The longest life of a daemon after it answered, and of one that is killed before it does.
const LIFE: Duration = Duration::from_millis(150);
/// The longest time without daemon.
const GAP: Duration = Duration::from_millis(80);
/// How long the kernel may take to end a killed process.
const END_WITHIN: Duration = Duration::from_secs(10);
/// The first version of layouts that no daemon ever has.
const OTHER_VERSION: usize = 900_000;

/// How the daemon is killed.
#[derive(Clone, Copy, Debug)]
pub struct Kills {
    /// How often.
    pub count: usize,
    /// After each kill what it left is made that of a daemon with another map layout.
    pub upgrades: bool,
    /// Repeats the moments of an earlier run.
    pub seed: u64,
}

impl Kills {
    /// Kills the daemon and starts it again, each time at another moment of its life: every third
    /// one dies before it is ready. Returns the last one, which answers.
    ///
    /// # Errors
    /// When a daemon does not end or does not start.
    pub async fn run(&self, lab: &Lab, daemon: Daemon) -> Result<Daemon, LabError> {
        let mut chance = Chance::from_seed(self.seed);
        let failover = daemon.failover().clone();
        let mut running = Some(daemon);
        for number in 0..self.count {
            match running.take() {
                Some(daemon) => {
                    tokio::time::sleep(chance.up_to(LIFE)).await;
                    daemon.kill().await?;
                }
                None => {
                    let level: ProgramSpec = failover
                        .program("run")
                        .variable("RUST_LOG", "failover=warn");
                    let program = lab.gateway().node().start(level).await?;
                    tokio::time::sleep(chance.up_to(LIFE)).await;
                    program.signal(Signal::SIGKILL);
                    program.wait(END_WITHIN).await?;
                }
            }
            if self.upgrades {
                age(lab, number)?;
            }
            tokio::time::sleep(chance.up_to(GAP)).await;
            if number % 3 != 1 || number + 1 == self.count {
                running = Some(failover.run().await?);
            }
        }
        match running {
            Some(daemon) => Ok(daemon),
            None => failover.run().await,
        }
    }
}

/// What is pinned becomes what a daemon of another version left. That is all that a new daemon sees
/// of another layout: it never opens maps of another version.
fn age(lab: &Lab, number: usize) -> Result<(), LabError> {
    let folder = lab.pins().folder();
    let other = lab
        .pins()
        .root()
        .join(format!("v{}", OTHER_VERSION + number));
    match fs::rename(&folder, &other) {
        // Killed before it pinned anything.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        renamed => renamed.map_err(LabError::io(format!("rename {}", folder.display()))),
    }
}
