//! One thing so many times, in both modes.

use std::time::{Duration, Instant};

use failover::family::Family;
use serde_json::{Value, json};

use super::cycle::all_up;
use super::{Options, Outcome};
use crate::addressing::targets_in_yaml;
use crate::chance::Chance;
use crate::churn::{self, Rounds};
use crate::daemon::{Failover, Mode};
use crate::error::LabError;
use crate::footprint::Footprint;
use crate::lab::Lab;
use crate::restarts::Kills;
use crate::terminal::Terminal;
use crate::traffic::{Stream, StreamPlan, Streamed};

/// Packets per second.
const RATE: u32 = 20_000;
/// How long the stream is watched while nothing happens.
const CALM: Duration = Duration::from_secs(10);

/// Three uplinks of the same weight.
const THREE: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2}
  three: {interface: wan3}
downlinks: [lan0]
";

/// What is repeated, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Kills and starts of the daemon.
    Restarts(usize),
    /// Rounds of changes of interfaces.
    Churn(usize),
}

/// Repeats it, in each mode; restarts of eBPF mode with another layout of the maps, too.
///
/// # Errors
/// When something could not be done or did not happen in time.
pub async fn repeat(
    terminal: &Terminal,
    what: What,
    options: &Options,
) -> Result<Outcome, LabError> {
    let seed = options.seed.unwrap_or_else(Chance::any_seed);
    terminal.line(format!("soak: {what:?}, --seed {seed}"));
    let mut runs = Vec::new();
    match what {
        What::Restarts(count) => {
            for (mode, upgrades) in [
                (Mode::Classic, false),
                (Mode::Ebpf, false),
                (Mode::Ebpf, true),
            ] {
                let kills = Kills {
                    count,
                    upgrades,
                    seed,
                };
                runs.push(restarts(terminal, mode, kills, options).await?);
            }
        }
        What::Churn(count) => {
            for mode in Mode::ALL {
                let rounds = Rounds { count, seed };
                runs.push(rounds_of_churn(terminal, mode, rounds, options).await?);
            }
        }
    }
    let held = runs.iter().all(|run| run.held);
    let runs: Vec<Value> = runs.into_iter().map(|run| run.json).collect();
    Ok(Outcome {
        held,
        json: json!({ "soak": format!("{what:?}"), "ok": held, "seed": seed, "runs": runs }),
    })
}

fn configured(lab: &Lab, text: &str, mode: Mode, options: &Options) -> Result<Failover, LabError> {
    let targets = targets_in_yaml();
    let text = format!("{text}\nmode: {mode}\nprobe: {{targets: {targets}, max_hold: 0s}}\n");
    Failover::chosen(lab, options.binary.as_deref(), &text)
}

async fn restarts(
    terminal: &Terminal,
    mode: Mode,
    kills: Kills,
    options: &Options,
) -> Result<Outcome, LabError> {
    let lab = Lab::builder().uplinks(3).build().await?;
    let daemon = configured(&lab, THREE, mode, options)?.run().await?;
    all_up(&daemon).await?;
    let plan = StreamPlan {
        flows: 100,
        families: Family::ALL.to_vec(),
        rate: RATE,
    };
    let stream = Stream::begin(&lab, lab.client(1)?, &plan).await?;
    tokio::time::sleep(CALM).await;
    let calm = stream.finish(&lab).await?;
    terminal.verdict(calm.is_whole(), format!("{mode}, no restart: {calm}"));

    let stream = Stream::begin(&lab, lab.client(1)?, &plan).await?;
    let what = if kills.upgrades {
        "restarts with another map layout"
    } else {
        "restarts"
    };
    let daemon = terminal
        .while_waiting(kills.run(&lab, daemon), |passed| {
            format!("  {mode}, {} {what}: {} s", kills.count, passed.as_secs())
        })
        .await?;
    all_up(&daemon).await?;
    let figures = stream.finish(&lab).await?;
    let text = format!("{mode}, {} {what}: {figures}", kills.count);
    terminal.verdict(figures.is_whole(), text);
    Ok(Outcome {
        held: calm.is_whole() && figures.is_whole(),
        json: json!({
            "mode": mode.to_string(),
            "restarts": kills.count,
            "another_layout": kills.upgrades,
            "calm": figures_json(&calm),
            "restarted": figures_json(&figures),
        }),
    })
}

fn figures_json(figures: &Streamed) -> Value {
    json!({
        "packets": figures.sent,
        "packets_per_second": figures.rate,
        "lost": figures.lost,
        "doubled": figures.doubled,
        "flows": figures.flows,
        "moved": figures.moved,
        "answers": figures.answers,
        "answers_lost": figures.answers_lost,
    })
}

async fn rounds_of_churn(
    terminal: &Terminal,
    mode: Mode,
    rounds: Rounds,
    options: &Options,
) -> Result<Outcome, LabError> {
    let lab = churn::lab().build().await?;
    let daemon = configured(&lab, &churn::config(), mode, options)?
        .run()
        .await?;
    all_up(&daemon).await?;
    let at_first = Footprint::of(&lab, &daemon).await?;
    let begin = Instant::now();
    let played = terminal
        .while_waiting(rounds.run(&lab, mode), |passed| {
            format!(
                "  {mode}, {} rounds of churn: {} s",
                rounds.count,
                passed.as_secs()
            )
        })
        .await;
    let mut broken: Vec<String> = played.err().iter().map(ToString::to_string).collect();
    if broken.is_empty() {
        all_up(&daemon).await?;
        broken = at_first.settled(&lab, &daemon).await?;
    }
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    terminal.verdict(
        broken.is_empty(),
        format!(
            "{mode}, {} rounds of churn in {minutes:.1} min",
            rounds.count
        ),
    );
    for text in &broken {
        terminal.line(format!("           {text}"));
    }
    if !broken.is_empty() {
        terminal.heading("The daemon's log");
        terminal.line(daemon.log());
    }
    Ok(Outcome {
        held: broken.is_empty(),
        json: json!({
            "mode": mode.to_string(),
            "rounds": rounds.count,
            "minutes": minutes,
            "broken": broken,
        }),
    })
}
