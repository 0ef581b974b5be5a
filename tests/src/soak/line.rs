//! Days of a rough line in virtual time: it must never be taken for dead.

use std::time::Duration;

use failover::config::ProbeConfig;
use failover::health::Health;
use serde_json::json;

use super::{Options, Outcome};
use crate::chance::Chance;
use crate::error::LabError;
use crate::terminal::Terminal;
use crate::virtual_line::{rough, run};

const DAY: Duration = Duration::from_secs(86_400);

/// Plays so many days of a line that loses one of twenty probes, and everything for 0.8 s in every
/// hour, with the default settings.
///
/// # Errors
/// Never; as the other soak tests.
pub fn line(terminal: &Terminal, days: usize, options: &Options) -> Result<Outcome, LabError> {
    let seed = options.seed.unwrap_or_else(Chance::any_seed);
    terminal.line(format!("soak: {days} days of a rough line, --seed {seed}"));
    let mut chance = Chance::from_seed(seed);
    let config = ProbeConfig::default();
    let (mut rounds, mut down, mut degraded) = (0, 0, 0);
    for day in 1..=days {
        let course = run(&config, vec![rough], DAY, chance.number());
        rounds += course.rounds;
        down += course.to(Health::Down).count();
        degraded += course.to(Health::Degraded).count();
        if day % 50 == 0 {
            terminal.line(format!("  day {day}: {rounds} rounds, {down} times down"));
        }
    }
    let held = down == 0 && degraded == 0;
    let text = format!("{days} days, {rounds} rounds: {down} times down, {degraded} degraded");
    terminal.verdict(held, text);
    Ok(Outcome {
        held,
        json: json!({
            "soak": "line",
            "ok": held,
            "seed": seed,
            "days": days,
            "rounds": rounds,
            "down": down,
            "degraded": degraded,
        }),
    })
}
