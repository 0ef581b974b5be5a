//! What the service manager is told, at a socket as systemd's.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use failover_tests::daemon::State;
use failover_tests::{Daemon, Failover, Lab, LabError, eventually};
use tokio::net::UnixDatagram;

use crate::{CONFIG, SystemTest, TestResult, VERDICT};

/// After this time without a sign the manager takes a daemon for hung.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long anything may take that is waited for.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("the_service_manager_is_told_how_the_daemon_is", course),
        SystemTest::new("a_loop_that_hangs_gives_no_sign_of_life", hung),
    ]
}

/// The socket of a service manager.
struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    fn listen(lab: &Lab) -> std::io::Result<Self> {
        let path = lab.files().join("notify");
        let socket = UnixDatagram::bind(&path)?;
        Ok(Self { socket, path })
    }

    /// Starts the daemon as a service that is watched; `folder` comes first in its `PATH`.
    async fn start(&self, failover: &Failover, folder: &Path) -> Result<Daemon, LabError> {
        let path = std::env::var("PATH").unwrap_or_default();
        let spec = failover
            .program("run")
            .variable("NOTIFY_SOCKET", &self.path)
            .variable("WATCHDOG_USEC", PATIENCE.as_micros().to_string())
            .variable("PATH", format!("{}:{path}", folder.display()));
        failover.run_as(spec).await
    }

    /// The next message, line by line.
    async fn next(&self) -> Result<String, String> {
        let mut buffer = [0; 4096];
        let received = tokio::time::timeout(LIMIT, self.socket.recv(&mut buffer)).await;
        match received {
            Ok(Ok(length)) => Ok(text(&buffer, length)),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("the daemon says nothing any more".to_owned()),
        }
    }

    /// The first message with a line that begins so.
    async fn until(&self, begin: &str) -> Result<String, String> {
        loop {
            let message = self
                .next()
                .await
                .map_err(|error| format!("{begin}: {error}"))?;
            if message.lines().any(|line| line.starts_with(begin)) {
                return Ok(message);
            }
        }
    }

    /// Takes what is there; returns whether signs of life were among it.
    fn take_all(&self) -> bool {
        let mut buffer = [0; 4096];
        let mut alive = false;
        while let Ok(length) = self.socket.try_recv(&mut buffer) {
            alive |= text(&buffer, length).contains("WATCHDOG=1");
        }
        alive
    }
}

fn text(buffer: &[u8], length: usize) -> String {
    String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned()
}

async fn course() -> TestResult {
    let lab = Lab::builder().build().await?;
    let manager = Manager::listen(&lab)?;
    let failover = Failover::new(&lab, CONFIG)?;
    let daemon = manager.start(&failover, lab.files()).await?;

    let first = manager.next().await?;
    assert!(first.starts_with("READY=1\nSTATUS="), "{first}");
    manager.until("WATCHDOG=1").await?;
    manager.until("STATUS=2 of 2 uplinks up: one, two").await?;
    manager.until("WATCHDOG=1").await?;

    lab.uplink(2)?.carrier_loss().await?;
    manager
        .until("STATUS=1 of 2 uplinks up: one; two is down")
        .await?;

    daemon.hang_up();
    let reloading = manager.until("RELOADING=1").await?;
    assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
    let ready = manager.until("READY=1").await?;
    assert!(ready.contains("STATUS=1 of 2"), "{ready}");

    // A reload that is refused ends, too.
    failover.rewrite("uplinks: {}")?;
    daemon.hang_up();
    manager.until("RELOADING=1").await?;
    manager.until("READY=1").await?;

    daemon.terminate().await?;
    manager.until("STOPPING=1").await?;
    Ok(())
}

/// Where the kernel does not get done, the runtime and its timers live on: the loop does not.
async fn hung() -> TestResult {
    let lab = Lab::builder().build().await?;
    let manager = Manager::listen(&lab)?;
    let failover = Failover::new(&lab, CONFIG)?;
    let folder = lab.files().join("bin");
    let (hang, hanging) = (folder.join("hang"), folder.join("hanging"));
    fs::create_dir(&folder)?;
    let nft = folder.join("nft");
    let script = format!(
        "#!/bin/sh\nwhile [ -e {0} ]; do : >{1}; sleep 0.02; done\nPATH=${{PATH#*:}}:/usr/sbin:/sbin\nexec nft \"$@\"\n",
        hang.display(),
        hanging.display()
    );
    fs::write(&nft, script)?;
    fs::set_permissions(&nft, fs::Permissions::from_mode(0o755))?;
    let daemon = manager.start(&failover, &folder).await?;
    let up = |status: &failover_tests::daemon::Status| status.all(State::Up);
    daemon.wait_until("both are up", VERDICT, up).await?;
    manager.until("WATCHDOG=1").await?;

    fs::write(&hang, "")?;
    failover.rewrite(&format!("{CONFIG}\nnat: none\n"))?;
    daemon.hang_up();
    eventually("nft is called and hangs", LIMIT, || async {
        Ok(hanging.exists().then_some(()))
    })
    .await?;
    manager.take_all();
    tokio::time::sleep(PATIENCE).await;
    assert!(!manager.take_all(), "the loop hangs and is said to live");

    fs::remove_file(&hang)?;
    manager.until("WATCHDOG=1").await?;
    daemon.terminate().await?;
    Ok(())
}
