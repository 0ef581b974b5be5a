//! The soak tests: the same again and again, and what must always hold.
//!
//! [`run`] plays random faults. In every cycle one or two of three uplinks fail, each in a way of its own, and return. Flows over
//! all uplinks are asked all the time. What must hold: no flow of an uplink that did not fail moves
//! or loses an answer; while uplinks are dead new flows are answered by the others; when all is
//! healed the daemon says so, its rules, routes and nftables table are as at first, and it holds no
//! more files open than at first.

//!
//! [`repeat`] repeats one thing so many times: kills and starts of the daemon, or changes of
//! interfaces. [`line`](line()) plays days of a rough line in virtual time. [`rules`](rules()) compares
//! where packets leave with what random rules say.

mod cycle;
mod line;
mod repeat;
mod rules;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chance::Chance;
use crate::daemon::Failover;
use crate::demo::CONFIG;
use crate::error::LabError;
use crate::footprint::Footprint;
use crate::lab::Lab;
use crate::terminal::Terminal;

use cycle::{Cycle, Verdict};

pub use line::line;
pub use repeat::{What, repeat};
pub use rules::rules;

/// What is to be done.
#[derive(Clone, Debug)]
pub struct Options {
    /// How long; the cycle that runs then is finished.
    pub duration: Duration,
    /// Repeats the choices of an earlier run.
    pub seed: Option<u64>,
    /// The binary; by default the one that was built together with this program.
    pub binary: Option<PathBuf>,
}

/// How it ended.
#[derive(Debug)]
pub struct Outcome {
    /// Whether all held in every cycle.
    pub held: bool,
    /// The result for scripts.
    pub json: Value,
}

/// Runs cycles until the time is over or something does not hold.
///
/// # Errors
/// When something could not be done or did not happen in time; then the daemon's log has been
/// shown.
pub async fn run(terminal: &Terminal, options: &Options) -> Result<Outcome, LabError> {
    let seed = options.seed.unwrap_or_else(Chance::any_seed);
    terminal.line(format!("soak: three uplinks, random faults, --seed {seed}"));
    let lab = Lab::builder().uplinks(3).clients(1).build().await?;
    // The same uplinks fail again and again.
    let config = format!("{CONFIG}  max_hold: 0s\n");
    let failover = Failover::chosen(&lab, options.binary.as_deref(), &config)?;
    let daemon = failover.run().await?;
    let mut chance = Chance::from_seed(seed);
    let begin = Instant::now();
    let (mut cycles, mut questions) = (0_u64, 0_u64);
    let mut broken = Vec::new();
    let outcome = async {
        cycle::all_up(&daemon).await?;
        let at_first = Footprint::of(&lab, &daemon).await?;
        while broken.is_empty() && begin.elapsed() < options.duration {
            let cycle = Cycle::draw(&mut chance);
            cycles += 1;
            let Verdict {
                asked,
                broken: found,
            } = terminal
                .while_waiting(cycle.run(&lab, &daemon, &at_first), |passed| {
                    format!("  cycle {cycles}, {cycle}: {} s", passed.as_secs())
                })
                .await?;
            questions += asked;
            terminal.verdict(found.is_empty(), format!("cycle {cycles}: {cycle}"));
            for text in &found {
                terminal.line(format!("           {text}"));
            }
            broken = found;
        }
        Ok::<(), LabError>(())
    }
    .await;
    if outcome.is_err() || !broken.is_empty() {
        terminal.heading("The daemon's log");
        terminal.line(daemon.log());
    }
    outcome?;
    let held = broken.is_empty();
    let minutes = begin.elapsed().as_secs_f64() / 60.0;
    terminal.line(format!(
        "\n{cycles} cycles in {minutes:.1} min, {questions} questions to flows that had to live: {}",
        if held { "all held" } else { "not all held" }
    ));
    Ok(Outcome {
        held,
        json: json!({
            "soak": "failover",
            "ok": held,
            "seed": seed,
            "minutes": minutes,
            "cycles": cycles,
            "questions": questions,
            "broken": broken,
        }),
    })
}
