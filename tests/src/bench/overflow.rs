//! What users get of two lines where the second takes what the first cannot carry (`strategy: overflow`).
//!
//! Flows of a known rate come one after the other, half as much again as the first line carries. When all
//! are there, it is counted what arrives of them by each line, and what is lost on it.

use std::path::Path;
use std::time::Duration;

use failover::family::Family;
use serde::Serialize;
use serde_json::{Value, json};

use super::Machine;
use crate::addressing::targets_in_yaml;
use crate::daemon::{Failover, Mode, State, Status};
use crate::error::LabError;
use crate::lab::Lab;
use crate::node::ProgramSpec;
use crate::terminal::{Align, Style, Table, Terminal};
use crate::traffic::viewer::{self, Viewed, Viewer};

/// What each line carries.
const MBIT: u32 = 20;
/// From this share on the first is full, in percent.
const SHARE: u32 = 80;
/// Flows of half a Mbit/s: 31 Mbit/s.
const FLOWS: usize = 60;
/// Those that are there at once.
const AT_ONCE: usize = 20;
/// From one of the others to the next. In the 4 s in which it is seen at the latest that the first is
/// full ten more come, which is what the share leaves room for.
const PACE: Duration = Duration::from_millis(400);
/// After the last flow has come, until counting begins; and how long is counted.
const SETTLED: Duration = Duration::from_secs(3);
const COUNTED: Duration = Duration::from_secs(10);
/// How long anything may take that is waited for.
const LIMIT: Duration = Duration::from_secs(30);
/// What may be lost on a line, in percent.
const LOST: f64 = 0.5;

/// What came by a line while it was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Carried {
    /// Flows.
    pub flows: usize,
    /// What arrived, in Mbit/s, with all headers.
    pub mbit: f64,
    /// What did not, in percent of what was sent.
    pub lost_percent: f64,
}

/// One trial.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// Who picked the uplinks.
    pub mode: String,
    /// By the first line.
    pub first: Carried,
    /// By the second.
    pub second: Carried,
}

/// All trials.
#[derive(Clone, Debug)]
pub struct Measured {
    machine: Machine,
    trials: Vec<Trial>,
}

impl Trial {
    /// What arrives by the first line, in percent of its capacity.
    fn share(&self) -> f64 {
        self.first.mbit * 100.0 / f64::from(MBIT)
    }

    fn holds(&self) -> bool {
        self.share() >= f64::from(SHARE)
            && [self.first, self.second]
                .iter()
                .all(|carried| carried.lost_percent <= LOST)
    }
}

impl Measured {
    /// Whether all that is demanded holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.trials.iter().all(Trial::holds)
    }
}

/// Measures, the modes in turn.
///
/// # Errors
/// When something could not be done or did not happen in time.
pub async fn run(
    terminal: &Terminal,
    trials: usize,
    binary: Option<&Path>,
) -> Result<Measured, LabError> {
    let mut measured = Vec::new();
    for number in 1..=trials {
        for mode in Mode::ALL {
            let trial = terminal
                .while_waiting(play(mode, binary), |_| {
                    format!("  {mode}: trial {number} of {trials}")
                })
                .await?;
            measured.push(trial);
        }
    }
    Ok(Measured {
        machine: Machine::this(),
        trials: measured,
    })
}

async fn play(mode: Mode, binary: Option<&Path>) -> Result<Trial, LabError> {
    let lab = Lab::builder().capture(false).build().await?;
    let config = format!(
        "uplinks:
  one: {{interface: wan1, capacity: {MBIT}Mbit, weight: 2}}
  two: {{interface: wan2}}
downlinks: [lan0]
mode: {mode}
strategy: {{overflow: {SHARE}%}}
probe: {{targets: {}, max_hold: 0s}}
",
        targets_in_yaml()
    );
    let shape =
        format!("tc qdisc add dev access root tbf rate {MBIT}mbit burst 64kb latency 200ms");
    for uplink in lab.uplinks() {
        uplink.provider().must(ProgramSpec::line(&shape)).await?;
    }
    viewer::serve(&lab).await?;
    let daemon = Failover::chosen(&lab, binary, &config)?.run().await?;
    let ready = |status: &Status| {
        let one = status.uplink("one");
        // It is measured what it carries.
        status.all(State::Up) && one.is_some_and(|one| one.full == Some(false))
    };
    daemon
        .wait_until("all uplinks are up", LIMIT, ready)
        .await?;

    let mut viewers = Vec::new();
    let mut next = tokio::time::Instant::now();
    for (number, family) in Family::ALL.into_iter().cycle().take(FLOWS).enumerate() {
        if number >= AT_ONCE {
            next += PACE;
            tokio::time::sleep_until(next).await;
        }
        viewers.push((family, Viewer::begin(lab.client(1)?, family).await?));
    }
    tokio::time::sleep(SETTLED).await;
    let before = look(&viewers);
    tokio::time::sleep(COUNTED).await;
    let after = look(&viewers);
    let carried = |uplink| {
        let of_uplink = before.iter().zip(&after);
        Carried::of(of_uplink.filter(|((_, before), _)| before.by.keys().eq([&uplink])))
    };
    Ok(Trial {
        mode: mode.to_string(),
        first: carried(1),
        second: carried(2),
    })
}

fn look(viewers: &[(Family, Viewer)]) -> Vec<(Family, Viewed)> {
    let look = |(family, viewer): &(Family, Viewer)| (*family, viewer.viewed());
    viewers.iter().map(look).collect()
}

type Counted = (Family, Viewed);

impl Carried {
    /// What came of flows between two looks at them.
    #[expect(
        clippy::cast_precision_loss,
        reason = "datagrams and bits of some seconds are far below 2^53"
    )]
    fn of<'c>(looks: impl Iterator<Item = (&'c Counted, &'c Counted)>) -> Self {
        let (mut flows, mut bits, mut sent, mut received) = (0, 0, 0, 0);
        for ((family, before), (_, after)) in looks {
            flows += 1;
            sent += after.sent - before.sent;
            received += after.received - before.received;
            bits += (after.received - before.received) * viewer::bits(*family);
        }
        Self {
            flows,
            mbit: bits as f64 / 1e6 / COUNTED.as_secs_f64(),
            lost_percent: 100.0 * (1.0 - received as f64 / (sent.max(1)) as f64),
        }
    }
}

/// Shows the result.
pub fn show(terminal: &Terminal, measured: &Measured) {
    terminal.heading(format!(
        "{FLOWS} flows of half a Mbit/s over two lines of {MBIT} Mbit/s, the first full at {SHARE} %"
    ));
    terminal.line(terminal.styled(Style::Faint, &measured.machine));
    terminal.line("");
    let mut table = Table::new([
        ("MODE", Align::Left),
        ("FIRST: FLOWS", Align::Right),
        ("MBIT/S", Align::Right),
        ("SHARE", Align::Right),
        ("LOST", Align::Right),
        ("SECOND: FLOWS", Align::Right),
        ("MBIT/S", Align::Right),
        ("LOST", Align::Right),
    ]);
    for trial in &measured.trials {
        let Trial {
            mode,
            first,
            second,
        } = trial;
        table.row([
            mode.clone(),
            first.flows.to_string(),
            format!("{:.1}", first.mbit),
            format!("{:.0} %", trial.share()),
            format!("{:.2} %", first.lost_percent),
            second.flows.to_string(),
            format!("{:.1}", second.mbit),
            format!("{:.2} %", second.lost_percent),
        ]);
    }
    terminal.line(table);
    let text = format!("the first carries {SHARE} % at least, and up to {LOST} % is lost on each");
    terminal.verdict(measured.holds(), text);
}

/// The result for scripts.
#[must_use]
pub fn json(measured: &Measured) -> Value {
    json!({
        "benchmark": "overflow",
        "measured": "what arrives by each of two lines, and what is lost, where the second takes what the first cannot carry",
        "machine": measured.machine,
        "flows": FLOWS,
        "capacity_mbit": MBIT,
        "share_percent": SHARE,
        "ok": measured.holds(),
        "trials": measured.trials,
    })
}
