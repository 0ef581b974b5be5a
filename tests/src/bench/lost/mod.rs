//! What an uplink's death costs where very many connections are tracked: how long it takes until the
//! dead uplink's entries are gone, what the flows of another uplink feel of it meanwhile, and when
//! clients of lost connections are told.

mod entries;
mod trial;

use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::{Distribution, Machine};
use crate::terminal::{Align, Short, Style, Table, Terminal};

pub use trial::{Options, run};

/// How long the removal may take.
const REMOVAL: Duration = Duration::from_millis(300);
/// What 99 of 100 questions over another uplink may take meanwhile.
const ROUND_TRIP: Duration = Duration::from_millis(10);
/// How long after the detection the last client may be told, where only some are to be.
const TOLD: Duration = Duration::from_millis(200);

/// One failover.
#[derive(Clone, Debug, Serialize)]
pub struct Trial {
    /// The family.
    pub family: failover::family::Family,
    /// Entries of the dead uplink, besides those of the clients.
    pub dead_entries: usize,
    /// From the first entry that is gone to the last.
    #[serde(
        rename = "removal_ms",
        serialize_with = "super::distribution::milliseconds"
    )]
    pub removal: Duration,
    /// 99 of 100 questions over the other uplink took no longer, from the detection until the last
    /// client was told.
    #[serde(
        rename = "p99_ms",
        serialize_with = "super::distribution::milliseconds"
    )]
    pub p99: Duration,
    /// Questions that were asked meanwhile.
    pub questions: usize,
    /// Clients that only listened, and were told.
    pub clients: usize,
    /// From the detection to the first of them.
    #[serde(
        rename = "first_told_ms",
        serialize_with = "super::distribution::milliseconds"
    )]
    pub first_told: Duration,
    /// From the detection to the last of them.
    #[serde(
        rename = "last_told_ms",
        serialize_with = "super::distribution::milliseconds"
    )]
    pub last_told: Duration,
}

/// All failovers.
#[derive(Clone, Debug)]
pub struct Measured {
    /// On what it was measured.
    pub machine: Machine,
    /// With few connections and with very many, in turn.
    pub trials: Vec<Trial>,
}

impl Trial {
    /// Whether all that is demanded holds. With very many connections no demand is made on when the
    /// clients are told.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.removal <= REMOVAL
            && self.p99 < ROUND_TRIP
            && (self.dead_entries > 0 || self.last_told <= TOLD)
    }
}

impl Measured {
    /// Whether all that is demanded holds; without trials nothing is shown.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.trials.is_empty() && self.trials.iter().all(Trial::holds)
    }
}

/// Shows the result.
pub fn show(terminal: &Terminal, measured: &Measured) {
    terminal.heading("When an uplink dies that has very many connections");
    terminal.line(terminal.styled(Style::Faint, measured.machine.to_string()));
    let mut table = Table::new([
        ("FAMILY", Align::Left),
        ("DEAD ENTRIES", Align::Right),
        ("REMOVAL", Align::Right),
        ("P99 OF OTHERS", Align::Right),
        ("CLIENTS", Align::Right),
        ("FIRST TOLD", Align::Right),
        ("LAST TOLD", Align::Right),
    ]);
    for trial in &measured.trials {
        table.row([
            trial.family.to_string(),
            trial.dead_entries.to_string(),
            Short(trial.removal).to_string(),
            Short(trial.p99).to_string(),
            trial.clients.to_string(),
            Short(trial.first_told).to_string(),
            Short(trial.last_told).to_string(),
        ]);
    }
    terminal.line(table);
    for trial in &measured.trials {
        let told = if trial.dead_entries == 0 {
            format!(", clients told within {}", Short(TOLD))
        } else {
            String::new()
        };
        terminal.verdict(
            trial.holds(),
            format!(
                "{}, {} entries: removal up to {}, p99 of others below {}{told}",
                trial.family,
                trial.dead_entries,
                Short(REMOVAL),
                Short(ROUND_TRIP)
            ),
        );
    }
}

/// The result for scripts.
#[must_use]
pub fn json(measured: &Measured) -> Value {
    let told: Vec<Duration> = measured
        .trials
        .iter()
        .map(|trial| trial.last_told)
        .collect();
    json!({
        "benchmark": "lost",
        "measured": "removal of a dead uplink's connection tracking entries, and what others feel",
        "machine": measured.machine,
        "ok": measured.holds(),
        "trials": measured.trials,
        "last_told_ms": Distribution::of(&told),
    })
}
