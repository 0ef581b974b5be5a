//! The office: clients behind two routers, each with failover, keepalived and conntrackd.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use failover_tests::daemon::{Mode, State, Status, binary};
use failover_tests::unpacked::program;
use failover_tests::{Daemon, Failover, Lab, LabError, Node, Program, ProgramSpec, eventually};

use crate::page::{self, Which};

/// The office's next hop.
const NEXT_HOP: &str = "198.18.0.1";

/// How long a router may take to do what it is waited for: detection with default settings, and an
/// election.
const PATIENCE: Duration = Duration::from_secs(20);

type Made<T> = Result<T, Box<dyn std::error::Error>>;

/// A router with all that runs on it.
pub(crate) struct Router {
    node: Node,
    pub(crate) daemon: Daemon,
    conntrackd: Program,
    keepalived: Program,
    track: PathBuf,
}

/// Both, and the lab that they are in.
pub(crate) struct Office {
    pub(crate) first: Router,
    pub(crate) second: Router,
    pub(crate) lab: Lab,
}

impl Office {
    /// Builds it and waits until the first router serves it, and both know their lines.
    pub(crate) async fn open(mode: Mode) -> Made<Self> {
        let lab = Lab::builder().uplinks(2).clients(2).build().await?;
        let peer = lab.add_peer().await?;
        let gateway = lab.gateway().node().clone();
        let first = Router::start(&lab, gateway, Which::First, mode).await?;
        let second = Router::start(&lab, peer, Which::Second, mode).await?;
        for router in [&first, &second] {
            let all_up = |status: &Status| status.all(State::Up);
            router
                .daemon
                .wait_until("all lines are up", PATIENCE, all_up)
                .await?;
        }
        let office = Self { first, second, lab };
        office.served_by(&office.first).await?;
        Ok(office)
    }

    /// Waits until a router has the office's next hop, and the other one has not.
    pub(crate) async fn served_by(&self, router: &Router) -> Result<(), LabError> {
        let what = format!("{} serves the office", router.node.name());
        eventually(&what, PATIENCE, || async {
            let mut serving = 0;
            for other in [&self.first, &self.second] {
                serving += usize::from(other.serves().await?);
            }
            Ok((serving == 1 && router.serves().await?).then_some(()))
        })
        .await
    }

    /// What all programs wrote.
    pub(crate) fn told(&self) -> String {
        format!("{}{}", self.first.told(), self.second.told())
    }

    /// Waits until the second router's kernel knows so many connections of the users, with marks.
    pub(crate) async fn known_to(
        &self,
        router: &Router,
        connections: usize,
    ) -> Result<(), LabError> {
        let what = format!("{} knows {connections} connections", router.node.name());
        eventually(&what, PATIENCE, || async {
            let known = router.connections().await?;
            Ok((known >= connections).then_some(()))
        })
        .await
    }
}

impl Router {
    async fn start(lab: &Lab, node: Node, which: Which, mode: Mode) -> Made<Self> {
        node.set_sysctl("net/netfilter/nf_conntrack_tcp_be_liberal", "1")
            .await?;
        let name = node.name().to_owned();
        let (files, pins) = (lab.files().join(&name), lab.bpffs().join(&name));
        fs::create_dir_all(&files)?;
        fs::create_dir_all(&pins)?;
        let config = format!("{}mode: {mode}\n", page::failover(&files)?);
        let daemon = Failover::at(&node, &files, &pins, binary()?, &config)?
            .run()
            .await?;
        let written = |file: &str, text: String| {
            let path = files.join(file);
            fs::write(&path, text).map(|()| path)
        };
        let config = written("conntrackd.conf", page::conntrackd(which, &files)?)?;
        let spec = program("conntrackd")?.arguments(["-C"]).arguments([config]);
        let conntrackd = node.start(spec).await?;
        let config = written("keepalived.conf", page::keepalived(which, &files)?)?;
        let spec = program("keepalived")?
            .arguments(["--dont-fork", "--log-console", "--vrrp", "--use-file"])
            .arguments([config]);
        let keepalived = node.start(with_pid_files(spec, &files)).await?;
        Ok(Self {
            track: files.join("track"),
            node,
            daemon,
            conntrackd,
            keepalived,
        })
    }

    /// What the track file says.
    pub(crate) fn track(&self) -> std::io::Result<String> {
        fs::read_to_string(&self.track).map(|text| text.trim_end().to_owned())
    }

    async fn serves(&self) -> Result<bool, LabError> {
        let output = self
            .node
            .must(ProgramSpec::line("ip -4 -oneline address show dev lan0"))
            .await?;
        Ok(output.contains(&format!(" {NEXT_HOP}/")))
    }

    /// How many of the users' connections its kernel knows with a mark of ours.
    async fn connections(&self) -> Result<usize, LabError> {
        let mut found = 0;
        for family in ["ipv4", "ipv6"] {
            let line = format!("conntrack -L -f {family}");
            let output = self.node.must(ProgramSpec::line(&line)).await?;
            let marked = |line: &&str| {
                line.contains("dport=7007 ")
                    && !line.contains(" mark=0 ")
                    && line.contains(" mark=")
            };
            found += output.lines().filter(marked).count();
        }
        Ok(found)
    }

    /// What its programs wrote.
    fn told(&self) -> String {
        format!(
            "{}, keepalived:\n{}{}conntrackd:\n{}failover:\n{}",
            self.node.name(),
            self.keepalived.stdout(),
            self.keepalived.stderr(),
            self.conntrackd.stderr(),
            self.daemon.log()
        )
    }
}

/// Each router in the lab has its own, in the lab's folder.
fn with_pid_files(spec: ProgramSpec, files: &std::path::Path) -> ProgramSpec {
    spec.arguments(["--pid"])
        .arguments([files.join("keepalived.pid")])
        .arguments(["--vrrp_pid"])
        .arguments([files.join("vrrp.pid")])
}
