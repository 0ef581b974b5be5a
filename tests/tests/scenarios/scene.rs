//! Where a scenario plays: a lab with a daemon in its gateway.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::rc::Rc;
use std::time::{Duration, Instant};

use failover::family::Family;
use failover_tests::capture::SeenFlow;
use failover_tests::daemon::{FamilyStatus, Mode, State, Status};
use failover_tests::{
    Daemon, Failover, Host, Lab, LabError, ProgramSpec, Protocol, Tally, Traffic, Uplink,
    eventually, patient,
};

use crate::Outcome;
use crate::conversations::Conversations;
use crate::gateway;
use crate::steering::Steering;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// How long anything may take that is waited for. The machine may be busy.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);
/// How long an answer may take that must come.
pub(crate) const PATIENT: Duration = Duration::from_secs(5);
/// How long an answer is waited for that may not or must not come.
pub(crate) const BRIEF: Duration = Duration::from_millis(700);
/// How long the answers are waited for that a dead uplink does not bring: less, for all protocols one
/// after the other, than the daemon needs to find out.
pub(crate) const SILENCE: Duration = Duration::from_millis(150);

/// Whom the daemon asks in the lab, as many as by default.
const TARGETS: &str =
    r#"["icmp://203.0.113.1", "icmp://203.0.113.2", "icmp://fd00:203::1", "icmp://fd00:203::2"]"#;
/// How often it asks, and how long it waits for an answer, as by default. Both stretch together with
/// the limits: what a scenario does before an uplink counts as down, it can do on slow machines too.
const INTERVAL: Duration = Duration::from_millis(500);
const TIMEOUT: Duration = Duration::from_secs(1);

/// Three uplinks of the same weight.
pub(crate) const THREE: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2}
  three: {interface: wan3}
downlinks: [lan0]
";

/// Two uplinks of the same weight.
pub(crate) const TWO: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2}
downlinks: [lan0]
";

/// How much of a log is told.
const LOG_LINES: usize = 120;

/// A lab with a daemon.
pub(crate) struct Scene {
    pub(crate) lab: Lab,
    steering: Steering,
    daemon: RefCell<Option<Rc<Daemon>>>,
    /// What daemons logged that run no more.
    former_logs: RefCell<String>,
}

impl Scene {
    pub(crate) const fn new(lab: Lab, steering: Steering) -> Self {
        Self {
            lab,
            steering,
            daemon: RefCell::new(None),
            former_logs: RefCell::new(String::new()),
        }
    }

    /// Starts a daemon.
    pub(crate) async fn run_daemon(&self, config: &str) -> Outcome {
        let failover = Failover::new(&self.lab, &self.whole(config))?;
        let daemon = self.steering.prepare(failover).run().await?;
        let status = daemon.status().await?;
        assert_eq!(status.mode, self.mode().to_string());
        self.daemon.replace(Some(Rc::new(daemon)));
        Ok(())
    }

    /// Who picks the uplinks of new flows.
    pub(crate) const fn mode(&self) -> Mode {
        self.steering.mode()
    }

    /// How flows are steered.
    pub(crate) const fn steering(&self) -> Steering {
        self.steering
    }

    /// Takes the daemon out of the scene, to do with it what the scene has no words for. It comes back
    /// by [`Self::put_daemon`].
    pub(crate) fn take_daemon(&self) -> Result<Daemon> {
        let daemon = self.daemon.take().ok_or("no daemon runs")?;
        Ok(Rc::into_inner(daemon).ok_or("somebody else holds the daemon")?)
    }

    /// This is the running daemon from now on.
    pub(crate) fn put_daemon(&self, daemon: Daemon) {
        self.daemon.replace(Some(Rc::new(daemon)));
    }

    /// A configuration with the mode, and with the lab's probe targets where it says nothing of them.
    fn whole(&self, config: &str) -> String {
        let steering = self.steering.settings(config);
        if config.contains("\nprobe:") {
            return format!("{config}\n{steering}");
        }
        let interval = patient(INTERVAL);
        // Where an emulated machine needs long to answer, that is no silence of the line.
        let passive = if interval > INTERVAL {
            "passive: off, "
        } else {
            ""
        };
        format!(
            "{config}\n{steering}probe: {{targets: {TARGETS}, max_hold: 0s, {passive}interval: {}ms, timeout: {}ms}}\n",
            interval.as_millis(),
            patient(TIMEOUT).as_millis(),
        )
    }

    /// Changes the configuration and has the daemon follow it. Returns what it says.
    pub(crate) async fn reload(&self, config: &str) -> Result<String> {
        let daemon = self.daemon()?;
        let failover = daemon.failover();
        failover.rewrite(&self.whole(config))?;
        let output = failover.command("reload").await?;
        assert!(output.status.success(), "{output:?}");
        Ok(output.stdout)
    }

    /// Kills the daemon without giving it a chance.
    pub(crate) async fn kill_daemon(&self) -> Outcome {
        let log = self.take_daemon()?.kill().await?;
        self.former_logs.borrow_mut().push_str(&log);
        Ok(())
    }

    /// The running daemon.
    pub(crate) fn daemon(&self) -> Result<Rc<Daemon>> {
        let daemon = self.daemon.borrow().clone();
        Ok(daemon.ok_or("no daemon runs")?)
    }

    /// The first client.
    pub(crate) fn client(&self) -> Result<&Host> {
        Ok(self.lab.client(1)?)
    }

    /// An uplink of the lab.
    pub(crate) fn uplink(&self, number: u8) -> Result<&Uplink> {
        Ok(self.lab.uplink(number)?)
    }

    /// Waits until the daemon's status is as wanted.
    pub(crate) async fn until(
        &self,
        what: &str,
        wanted: impl Fn(&Status) -> bool,
    ) -> Result<Status> {
        Ok(self.daemon()?.wait_until(what, LIMIT, wanted).await?)
    }

    /// Whether an uplink is in a state in one family.
    pub(crate) async fn is(&self, number: u8, family: Family, state: State) -> Result<bool> {
        let status = self.daemon()?.status().await?;
        Ok(of(&status, number, family).is_some_and(|found| found.state == state))
    }

    /// Waits until an uplink is in a state in one family.
    pub(crate) async fn until_state(
        &self,
        number: u8,
        family: Family,
        state: State,
    ) -> Result<Status> {
        let what = format!("wan{number} is {state:?} in {family}");
        self.until(&what, |status| {
            of(status, number, family).is_some_and(|found| found.state == state)
        })
        .await
    }

    /// Waits until every configured uplink is up in each family that the lab gave it, and absent in
    /// the others.
    pub(crate) async fn until_all_up(&self) -> Outcome {
        self.until("all uplinks are up", |status| {
            self.lab.uplinks().iter().all(|uplink| {
                Family::ALL.into_iter().all(|family| {
                    let wanted = if uplink.has(family) {
                        State::Up
                    } else {
                        State::Absent
                    };
                    of(status, uplink.number(), family).is_none_or(|found| found.state == wanted)
                })
            })
        })
        .await?;
        Ok(())
    }

    /// Opens flows from the first client that are asked again and again, some of each protocol.
    pub(crate) async fn converse(
        &self,
        family: Family,
        counts: &[(Protocol, usize)],
    ) -> Result<Conversations> {
        Conversations::open(self.client()?, family, counts).await
    }

    /// New flows from the first client, each asked once. All must be answered.
    pub(crate) async fn new_flows(
        &self,
        protocol: Protocol,
        family: Family,
        count: usize,
    ) -> Result<Tally> {
        answered_flows(self.client()?, Traffic::new(protocol, family, count)).await
    }

    /// Flows that a provider saw begin after `since`; probes are none.
    pub(crate) fn begun_at(&self, number: u8, since: Instant) -> Result<Vec<SeenFlow>> {
        Ok(self.uplink(number)?.capture()?.new_flows_since(since)?)
    }

    /// No packet that came to a provider since a time had the address of another uplink.
    pub(crate) fn expect_no_strays_since(&self, since: Option<Instant>) -> Outcome {
        for uplink in self.lab.uplinks() {
            let capture = uplink.capture()?;
            let seen = match since {
                Some(since) => capture.active_since(since)?,
                None => capture.flows()?,
            };
            let strays: Vec<SeenFlow> = seen
                .into_iter()
                .filter(|flow| {
                    self.lab
                        .uplink_of(flow.key.source.ip())
                        .is_some_and(|owner| owner != uplink.number())
                })
                .collect();
            assert!(
                strays.is_empty(),
                "{} got packets with another uplink's address: {strays:#?}",
                uplink.interface()
            );
        }
        Ok(())
    }

    /// Marks of tracked users' flows of one family.
    pub(crate) async fn tracked(&self, family: Family) -> Result<BTreeMap<String, String>> {
        gateway::tracked(self.lab.gateway().node(), family).await
    }

    /// Waits until a check passes that asks other things than the daemon.
    pub(crate) async fn eventually<F>(&self, what: &str, check: impl Fn() -> F) -> Outcome
    where
        F: Future<Output = std::result::Result<bool, LabError>>,
    {
        let check = || {
            let checked = check();
            async { Ok(checked.await?.then_some(())) }
        };
        Ok(eventually(what, LIMIT, check).await?)
    }

    /// Runs a program in the gateway.
    pub(crate) async fn in_gateway(&self, line: &str) -> std::result::Result<String, LabError> {
        let gateway = self.lab.gateway().node();
        gateway.must(ProgramSpec::line(line)).await
    }

    /// All that helps to find out why a scenario failed.
    pub(crate) async fn report(&self) -> String {
        let mut text = String::new();
        let daemon = self.daemon.borrow().clone();
        let mut log = self.former_logs.borrow().clone();
        if let Some(daemon) = &daemon {
            log.push_str(&daemon.log());
        }
        // A line for each flow, hundreds of them, would leave no room for what the daemon did.
        let told = |line: &&str| !line.contains(" DEBUG new flow ");
        let lines: Vec<&str> = log.lines().filter(told).collect();
        let last = lines.get(lines.len().saturating_sub(LOG_LINES)..);
        // Writing to a string does not fail.
        writeln!(text, "--- log\n{}", last.unwrap_or_default().join("\n")).ok();
        if let Some(daemon) = &daemon {
            match daemon.status().await {
                Ok(status) => writeln!(text, "--- status\n{status}").ok(),
                Err(error) => writeln!(text, "--- no status: {error}").ok(),
            };
        }
        text.push_str(&gateway::state(self.lab.gateway().node()).await);
        text
    }
}

/// What a status says of an uplink of the lab and a family. Uplinks that share an interface have
/// their numbers as ids.
pub(crate) fn of(status: &Status, number: u8, family: Family) -> Option<&FamilyStatus> {
    let interface = format!("wan{number}");
    let shared = ["wan0", "lan0"];
    let uplink = status.uplinks.iter().find(|uplink| {
        uplink.interface == interface
            || shared.contains(&uplink.interface.as_str()) && uplink.id == number
    })?;
    Some(match family {
        Family::Ipv4 => &uplink.ipv4,
        Family::Ipv6 => &uplink.ipv6,
    })
}

/// New flows of a host, each asked once. All must be answered by an uplink's address.
pub(crate) async fn answered_flows(host: &Host, traffic: Traffic) -> Result<Tally> {
    let tally = Tally::of(&host.burst(traffic.within(PATIENT)).await?);
    assert_eq!(
        (tally.unanswered, tally.elsewhere),
        (0, 0),
        "new {traffic} flows: {tally}"
    );
    Ok(tally)
}
