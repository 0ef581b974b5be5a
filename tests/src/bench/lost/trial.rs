//! The failovers.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use failover::family::Family;
use jiff::Timestamp;

use super::{Measured, Trial, entries};
use crate::bench::Machine;
use crate::daemon::{Daemon, Failover, State, Status};
use crate::error::LabError;
use crate::lab::Lab;
use crate::node::{Node, ProgramSpec};
use crate::terminal::Terminal;
use crate::traffic::{Flow, Flows, Protocol, Traffic};

const CONFIG: &str = r#"uplinks:
  one: {interface: wan1, id: 1}
  two: {interface: wan2, id: 2}
downlinks: [lan0]
probe:
  targets: [icmp://203.0.113.1, icmp://203.0.113.2, "icmp://fd00:203::1", "icmp://fd00:203::2"]
  max_hold: 0s
"#;

/// Entries of the uplink that lives and of the one that dies.
const MANY: [u32; 2] = [150_000, 50_000];
const FEW: [u32; 2] = [0, 0];
/// Clients' connections over both uplinks.
const CLIENTS: usize = 100;
const WITHIN: Duration = Duration::from_secs(30);
/// How long is watched.
const WATCH: Duration = Duration::from_secs(8);

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many trials of each kind and family.
    pub trials: usize,
    /// The binary; by default the one that was built together with this program.
    pub binary: Option<PathBuf>,
}

/// Runs all trials.
///
/// # Errors
/// When a trial could not be carried out.
pub async fn run(terminal: &Terminal, options: &Options) -> Result<Measured, LabError> {
    let lab = Lab::builder().uplinks(2).capture(false).build().await?;
    let failover = Failover::chosen(&lab, options.binary.as_deref(), CONFIG)?;
    let daemon = failover.run().await?;
    let mut trials = Vec::new();
    for _ in 0..options.trials {
        for entries in [FEW, MANY] {
            for family in Family::ALL {
                let trial = trial(&lab, &daemon, family, entries);
                let shown = |passed: Duration| {
                    format!(
                        "  {family}, {} entries: {:.0} s",
                        entries[0] + entries[1],
                        passed.as_secs_f64()
                    )
                };
                trials.push(terminal.while_waiting(trial, shown).await?);
            }
        }
    }
    Ok(Measured {
        machine: Machine::this(),
        trials,
    })
}

async fn trial(
    lab: &Lab,
    daemon: &Daemon,
    family: Family,
    counts: [u32; 2],
) -> Result<Trial, LabError> {
    let up = |status: &Status| {
        let families = status
            .uplinks
            .iter()
            .flat_map(|uplink| [&uplink.ipv4, &uplink.ipv6]);
        families.into_iter().all(|found| found.state == State::Up)
    };
    daemon.wait_until("both uplinks are up", WITHIN, up).await?;
    let gateway = lab.gateway().node();
    gateway.must(ProgramSpec::line("conntrack -F")).await?;
    load(lab, family, counts).await?;

    let traffic = Traffic::new(Protocol::Tcp, family, CLIENTS).within(WITHIN);
    let clients = by_uplink(lab.client(1)?.open(traffic).await?, 2).await?;
    let traffic = Traffic::new(Protocol::Udp, family, 20).within(WITHIN);
    let others = by_uplink(lab.client(1)?.open(traffic).await?, 1).await?;
    let other = others.each_flow().first().cloned().ok_or_else(nothing)?;
    let before = tracked(gateway).await?;
    let logged = daemon.log().len();

    lab.uplink(2)?.black_hole().await?;
    let client = lab.client(1)?.node();
    let asking = client.run(move || async move {
        let mut flow = other.lock().await;
        questions(&mut flow).await
    });
    let (told, asked, samples) = tokio::try_join!(told(client, &clients), asking, sample(gateway))?;
    let log = daemon.log();
    let detected = detected(log.get(logged..).unwrap_or_default(), family).ok_or_else(nothing)?;
    let after = |moment: SystemTime| moment.duration_since(detected).unwrap_or_default();
    let first_told = told.iter().copied().map(after).min().ok_or_else(nothing)?;
    let last_told = told.iter().copied().map(after).max().ok_or_else(nothing)?;

    let mut meanwhile: Vec<Duration> = asked
        .into_iter()
        .filter(|(at, _)| after(*at) <= last_told.max(Duration::from_millis(500)))
        .filter(|(at, took)| *at + *took >= detected)
        .map(|(_, took)| took)
        .collect();
    meanwhile.sort_unstable();
    let rank = (meanwhile.len() * 99).div_ceil(100).saturating_sub(1);
    let dead = usize::try_from(counts[1]).unwrap_or_default();
    let trial = Trial {
        family,
        dead_entries: dead,
        removal: removal(&samples, before, dead),
        p99: meanwhile.get(rank).copied().ok_or_else(nothing)?,
        questions: meanwhile.len(),
        clients: told.len(),
        first_told,
        last_told,
    };
    lab.uplink(2)?.heal().await?;
    Ok(trial)
}

fn nothing() -> LabError {
    LabError::Io {
        what: "measure what an uplink's death costs".to_owned(),
        source: std::io::Error::other("nothing was seen of it"),
    }
}

async fn load(lab: &Lab, family: Family, counts: [u32; 2]) -> Result<(), LabError> {
    let mut text = String::new();
    for (uplink, count) in [1, 2].into_iter().zip(counts) {
        text += &entries::connections(lab.uplink(uplink)?, family, uplink, count)
            .ok_or_else(nothing)?;
    }
    if text.is_empty() {
        return Ok(());
    }
    let file = lab.files().join("entries");
    std::fs::write(&file, text).map_err(LabError::io("write entries"))?;
    let spec = ProgramSpec::new("conntrack").arguments(["--load-file".as_ref(), file.as_os_str()]);
    lab.gateway().node().must(spec).await?;
    Ok(())
}

/// Asks flows once, and keeps those of one uplink.
async fn by_uplink(flows: Flows, uplink: u8) -> Result<Flows, LabError> {
    let asked = flows.ask(WITHIN).await?;
    let on = |index: usize| {
        let answer = asked.get(index)?.as_ref().ok()?;
        answer.uplink()
    };
    flows.part_by(on).remove(&Some(uplink)).ok_or_else(nothing)
}

/// When each client was told.
async fn told(client: &Node, clients: &Flows) -> Result<Vec<SystemTime>, LabError> {
    let flows = clients.each_flow().to_vec();
    client
        .run(move || async move {
            let mut work = tokio::task::JoinSet::new();
            for flow in flows {
                work.spawn_local(async move {
                    let ended = flow.lock().await.wait_for_end(WITHIN).await;
                    ended.ok().map(|_| SystemTime::now())
                });
            }
            work.join_all().await.into_iter().flatten().collect()
        })
        .await
}

/// Asks one question after the other, each with when it was asked and how long it took.
async fn questions(flow: &mut Flow) -> Vec<(SystemTime, Duration)> {
    let begun = Instant::now();
    let mut asked = Vec::new();
    while begun.elapsed() < WATCH {
        let (at, since) = (SystemTime::now(), Instant::now());
        // One that is lost took as long as was waited for it.
        drop(flow.ask(Duration::from_secs(1)).await);
        asked.push((at, since.elapsed()));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    asked
}

async fn tracked(gateway: &Node) -> Result<usize, LabError> {
    gateway
        .run(|| async { count() })
        .await?
        .map_err(LabError::io("count tracked connections"))
}

/// How many entries there are, again and again.
async fn sample(gateway: &Node) -> Result<Vec<(Instant, usize)>, LabError> {
    gateway
        .run(|| async {
            let begun = Instant::now();
            let mut samples = Vec::new();
            while begun.elapsed() < WATCH {
                samples.extend(count().ok().map(|count| (Instant::now(), count)));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            samples
        })
        .await
}

/// Of the network namespace of the thread that asks.
fn count() -> std::io::Result<usize> {
    let text = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")?;
    text.trim().parse().map_err(std::io::Error::other)
}

/// From the last sample before entries vanish to the first after.
fn removal(samples: &[(Instant, usize)], before: usize, dead: usize) -> Duration {
    // A few come and go all the time.
    let some = dead / 100;
    let begun = samples
        .iter()
        .rev()
        .find(|(_, count)| count + some >= before);
    let ended = samples
        .iter()
        .find(|(_, count)| count + dead <= before + some);
    match (begun, ended) {
        _ if dead == 0 => Duration::ZERO,
        (Some((begun, _)), Some((ended, _))) => ended.saturating_duration_since(*begun),
        // It never was.
        _ => WATCH,
    }
}

/// When the daemon said that uplink two is down.
fn detected(log: &str, family: Family) -> Option<SystemTime> {
    let family = format!("family={family} ");
    log.lines()
        .filter(|line| line.contains("uplink changed its state"))
        .filter(|line| line.contains("uplink=two") && line.contains("to=\"down\""))
        .find(|line| line.contains(&family))
        .and_then(|line| line.split_whitespace().next()?.parse::<Timestamp>().ok())
        .map(SystemTime::from)
}
