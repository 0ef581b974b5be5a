//! The trials: a fault, new flows all the time, and the uplink's return.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use failover::family::Family;
use failover_common::maps;
use jiff::Timestamp;

use super::{Fault, Measured, Series, Trial};
use crate::Pinning as _;
use crate::bench::Machine;
use crate::chance::Chance;
use crate::daemon::{Daemon, Failover, State, Status};
use crate::error::LabError;
use crate::eventually::eventually;
use crate::lab::Lab;
use crate::node::ProgramSpec;
use crate::programs::{empty, flow_map};
use crate::terminal::{Short, Terminal};
use crate::traffic::{Keep, Protocol, Tally, Traffic};

const CONFIG: &str = r#"uplinks:
  main:   {interface: wan1, priority: 1}
  backup: {interface: wan2, priority: 2}
downlinks: [lan0]
probe:
  targets: [icmp://203.0.113.1, icmp://203.0.113.2, "icmp://fd00:203::1", "icmp://fd00:203::2"]
  max_hold: 0s
"#;

const MAIN: u8 = 1;
const BACKUP: u8 = 2;

/// The time from one new flow to the next.
const EVERY: Duration = Duration::from_millis(3);
/// How long each of them is waited for. Answers take less than a millisecond.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);
/// After this time there is no failover.
const FAILOVER_WITHIN: Duration = Duration::from_secs(15);
/// How long the uplink's return may take.
const HEALED_WITHIN: Duration = Duration::from_secs(20);
/// The connections of users: 20, of which each asks so often.
const BUSY: Keep = Keep {
    each: 20,
    every: Duration::from_millis(50),
};
/// How many new flows must go by the main uplink before a trial begins.
const BEFORE: usize = 20;

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// The faults, in this order.
    pub faults: Vec<Fault>,
    /// The families of the new flows, in turn from trial to trial.
    pub families: Vec<Family>,
    /// From one round of probes to the next.
    pub interval: Duration,
    /// How many trials of each fault.
    pub trials: usize,
    /// The binary; by default the one that was built together with this program.
    pub binary: Option<PathBuf>,
    /// Where the daemon's log is to be written.
    pub log: Option<PathBuf>,
}

/// Runs all trials.
///
/// # Errors
/// When a trial could not be carried out; the error says which.
pub async fn run(terminal: &Terminal, options: &Options) -> Result<Measured, LabError> {
    let lab = Lab::builder().uplinks(2).capture(false).build().await?;
    let config = format!("{CONFIG}  interval: {}ms\n", options.interval.as_millis());
    let failover = Failover::chosen(&lab, options.binary.as_deref(), &config)?;
    let daemon = failover.run().await?;
    let bench = Bench {
        lab: &lab,
        daemon: &daemon,
        interval: options.interval,
    };
    let mut chance = Chance::from_seed(Chance::any_seed());
    let mut measured = Measured {
        machine: Machine::this(),
        series: Vec::new(),
    };
    for fault in &options.faults {
        terminal.line(format!("{fault}, {} trials", options.trials));
        let mut series = Series {
            fault: *fault,
            interval: options.interval,
            trials: Vec::new(),
        };
        let families = options.families.iter().cycle().take(options.trials);
        for (number, family) in (1..).zip(families) {
            let trial = bench.trial(*fault, *family, &mut chance);
            let trial = terminal
                .while_waiting(trial, |passed| {
                    format!("  trial {number}, {family}: {:.0} s", passed.as_secs_f64())
                })
                .await
                .inspect_err(|_| {
                    terminal.line(format!("  trial {number} failed; the daemon's log:"));
                    terminal.line(daemon.log());
                })?;
            terminal.line(format!(
                "  trial {number:>2} of {}  {family}  {:>7}",
                options.trials,
                Short(trial.took)
            ));
            series.trials.push(trial);
        }
        measured.series.push(series);
    }
    if let Some(path) = &options.log {
        std::fs::write(path, daemon.log())
            .map_err(LabError::io(format!("write {}", path.display())))?;
    }
    Ok(measured)
}

struct Bench<'l> {
    lab: &'l Lab,
    daemon: &'l Daemon,
    interval: Duration,
}

impl Bench<'_> {
    async fn trial(
        &self,
        fault: Fault,
        family: Family,
        chance: &mut Chance,
    ) -> Result<Trial, LabError> {
        self.ready(family).await?;
        let client = self.lab.client(1)?;
        let busy = if fault == Fault::BusyBlackHole {
            let (families, protocols) = ([family], [Protocol::Tcp]);
            let talk = client.keep_of(&families, &protocols, BUSY, &[MAIN]);
            Some(talk.await?)
        } else {
            None
        };
        // The fault may come at any time between two rounds of probes.
        tokio::time::sleep(chance.up_to(self.interval)).await;
        let traffic = Traffic::new(Protocol::Udp, family, 1).within(ANSWER_WITHIN);
        let watch = client.first_answer(traffic, EVERY, FAILOVER_WITHIN, |answer| {
            answer.uplink() == Some(BACKUP)
        });
        let strike = async {
            // Before it is in place, so that what is measured is too long rather than too short.
            let begin = Instant::now();
            self.strike(fault).await.map(|_in_place| begin)
        };
        let (answer, begin) = tokio::try_join!(watch, strike)?;
        let took = answer.answered.saturating_duration_since(begin);
        // The daemon has done all that belongs to the failover when it says so, and only then the
        // uplink returns.
        let down = |status: &Status| status.is("main", State::Down);
        self.daemon
            .wait_until("the main uplink is down", FAILOVER_WITHIN, down)
            .await?;
        let repair = Timestamp::now();
        self.heal(fault).await?;
        let returned = self.returned(repair).await?;
        if let Some(busy) = busy {
            busy.finish().await;
        }
        Ok(Trial {
            family,
            took,
            returned,
        })
    }

    /// How long after the repair began the uplink is trusted again, in the family that is the first.
    async fn returned(&self, repair: Timestamp) -> Result<Duration, LabError> {
        let up = |status: &Status| status.is("main", State::Up);
        let status = self
            .daemon
            .wait_until("the main uplink is up again", HEALED_WITHIN, up)
            .await?;
        let main = status.uplink("main");
        let since = main.and_then(|main| main.since.parse::<Timestamp>().ok());
        let since = since.ok_or_else(|| LabError::Io {
            what: "read since when the main uplink is up".to_owned(),
            source: std::io::Error::other(status.to_string()),
        })?;
        // It is negative where the uplink was trusted before that.
        Ok(Duration::try_from(since.duration_since(repair)).unwrap_or_default())
    }

    /// Both uplinks are up over both families, and new flows go by the main one.
    async fn ready(&self, family: Family) -> Result<(), LabError> {
        let up = |status: &Status| {
            status
                .uplinks
                .iter()
                .all(|uplink| uplink.ipv4.state == State::Up && uplink.ipv6.state == State::Up)
        };
        self.daemon
            .wait_until("both uplinks are up", HEALED_WITHIN, up)
            .await?;
        // A new flow that happens to have the port of one of the trial before would be taken for
        // that one, which went by the backup.
        self.lab
            .gateway()
            .node()
            .must(ProgramSpec::line("conntrack -F"))
            .await?;
        let pins = self.lab.pins();
        // In classic mode there is none.
        if pins.map(maps::FLOWS).exists() {
            flow_map(&pins)
                .and_then(empty)
                .map_err(|error| LabError::Io {
                    what: "empty the flow table".to_owned(),
                    source: std::io::Error::other(error),
                })?;
        }
        let client = self.lab.client(1)?;
        let traffic = Traffic::new(Protocol::Udp, family, BEFORE).within(ANSWER_WITHIN);
        eventually("new flows go by the main uplink", HEALED_WITHIN, || async {
            let tally = Tally::of(&client.burst(traffic).await?);
            Ok((tally.on(MAIN) == BEFORE).then_some(()))
        })
        .await
    }

    async fn strike(&self, fault: Fault) -> Result<Instant, LabError> {
        let uplink = self.lab.uplink(MAIN)?;
        match fault {
            Fault::BlackHole | Fault::BusyBlackHole => uplink.black_hole().await,
            Fault::Carrier => uplink.carrier_loss().await,
            Fault::Interface => uplink.remove_interface().await,
        }
    }

    async fn heal(&self, fault: Fault) -> Result<Instant, LabError> {
        let uplink = self.lab.uplink(MAIN)?;
        match fault {
            Fault::BlackHole | Fault::BusyBlackHole | Fault::Carrier => uplink.heal().await,
            Fault::Interface => uplink.remake_interface().await,
        }
    }
}
