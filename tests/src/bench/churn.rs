//! How long it takes until the kernel's state follows from what became of an interface: programs,
//! routes, rules and the nftables table.
//!
//! One change after the other, each when everything has settled. The clock starts when the kernel has
//! told that the change is made; that all is right is found out by asking again and again.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Distribution, Machine};
use crate::addressing::targets_in_yaml;
use crate::churn::{self, Kind, Subject, is_right};
use crate::daemon::{Daemon, Failover, Mode, State, Status};
use crate::error::LabError;
use crate::lab::Lab;
use crate::terminal::{Align, Short, Style, Table, Terminal};

/// How long a change may take.
const DEMANDED: Duration = Duration::from_millis(100);
/// How often is asked whether all is right.
const STEP: Duration = Duration::from_millis(1);
/// How long is waited for it at all.
const LIMIT: Duration = Duration::from_secs(10);
/// How long the daemon is left alone before the next change, so that nothing of the one before is
/// under way.
const REST: Duration = Duration::from_millis(400);

/// The trials of one change.
#[derive(Clone, Debug)]
pub struct Series {
    subject: &'static str,
    kind: Kind,
    /// From the change, and from its undoing, until all was right.
    changed: Vec<Duration>,
    undone: Vec<Duration>,
}

/// A whole benchmark.
#[derive(Clone, Debug)]
pub struct Measured {
    machine: Machine,
    series: Vec<Series>,
}

impl Measured {
    /// Whether no change took longer than is demanded.
    #[must_use]
    pub fn holds(&self) -> bool {
        let all = |times: &[Duration]| times.iter().all(|took| *took <= DEMANDED);
        self.series
            .iter()
            .all(|series| all(&series.changed) && all(&series.undone))
    }
}

/// Measures, in eBPF mode.
///
/// # Errors
/// When something could not be done or did not happen in time.
pub async fn run(
    terminal: &Terminal,
    trials: usize,
    binary: Option<&Path>,
) -> Result<Measured, LabError> {
    let lab = churn::lab().build().await?;
    let (config, targets) = (churn::config(), targets_in_yaml());
    let config = format!("{config}\nmode: ebpf\nprobe: {{targets: {targets}, max_hold: 0s}}\n");
    let daemon = Failover::chosen(&lab, binary, &config)?.run().await?;
    until_up(&daemon).await?;
    Subject::prepare(&lab).await?;
    let mut series = Vec::new();
    for (what, subject) in [
        ("uplink", Subject::uplink(&lab, 2)?),
        ("downlink", Subject::downlink(&lab, 1)?),
    ] {
        for kind in Kind::ALL {
            // Nothing follows from these.
            if what == "downlink" && matches!(kind, Kind::SetDown | Kind::Readdressed) {
                continue;
            }
            let mut of_kind = Series {
                subject: what,
                kind,
                changed: Vec::new(),
                undone: Vec::new(),
            };
            for trial in 1..=trials {
                let measured = async {
                    let at = subject.begin(kind).await?;
                    let changed = until_right(&lab, &subject, kind, true, at).await?;
                    tokio::time::sleep(REST).await;
                    let at = subject.end(kind).await?;
                    let undone = until_right(&lab, &subject, kind, false, at).await?;
                    until_up(&daemon).await?;
                    tokio::time::sleep(REST).await;
                    Ok::<_, LabError>((changed, undone))
                };
                let (changed, undone) = terminal
                    .while_waiting(measured, |_| {
                        format!("  {what} {kind}: trial {trial} of {trials}")
                    })
                    .await?;
                of_kind.changed.push(changed);
                of_kind.undone.push(undone);
            }
            series.push(of_kind);
        }
    }
    Ok(Measured {
        machine: Machine::this(),
        series,
    })
}

async fn until_up(daemon: &Daemon) -> Result<(), LabError> {
    let up = |status: &Status| status.all(State::Up);
    daemon
        .wait_until("all uplinks are up", LIMIT, up)
        .await
        .map(drop)
}

async fn until_right(
    lab: &Lab,
    subject: &Subject<'_>,
    kind: Kind,
    changed: bool,
    since: Instant,
) -> Result<Duration, LabError> {
    while !is_right(lab, Mode::Ebpf, subject, kind, changed).await? {
        if since.elapsed() > LIMIT {
            return Err(LabError::NotInTime {
                what: format!("all is right when {} is {kind}", subject.interface()),
                limit: LIMIT,
                detail: String::new(),
            });
        }
        tokio::time::sleep(STEP).await;
    }
    Ok(since.elapsed())
}

/// Shows the result.
pub fn show(terminal: &Terminal, measured: &Measured) {
    terminal.heading("From a change of an interface until the kernel's state is right");
    terminal.line(terminal.styled(Style::Faint, &measured.machine));
    terminal.line("");
    let mut table = Table::new([
        ("INTERFACE OF", Align::Left),
        ("CHANGE", Align::Left),
        ("TRIALS", Align::Right),
        ("MEDIAN", Align::Right),
        ("MAX", Align::Right),
        ("UNDONE: MEDIAN", Align::Right),
        ("MAX", Align::Right),
    ]);
    for series in &measured.series {
        let mut row = vec![
            series.subject.to_owned(),
            series.kind.to_string(),
            series.changed.len().to_string(),
        ];
        for times in [&series.changed, &series.undone] {
            if let Some(found) = Distribution::of(times) {
                row.extend([found.median, found.max].map(|figure| Short(figure).to_string()));
            }
        }
        table.row(row);
    }
    terminal.line(table);
    let text = format!("no change takes longer than {}", Short(DEMANDED));
    terminal.verdict(measured.holds(), text);
}

/// The result for scripts.
#[must_use]
pub fn json(measured: &Measured) -> Value {
    let series = measured.series.iter().map(|series| {
        json!({
            "interface_of": series.subject,
            "change": series.kind.to_string(),
            "changed_ms": Distribution::of(&series.changed),
            "undone_ms": Distribution::of(&series.undone),
        })
    });
    json!({
        "benchmark": "churn",
        "measured": "from a change of an interface until the kernel's state is right",
        "machine": measured.machine,
        "demanded_max_ms": DEMANDED.as_secs_f64() * 1e3,
        "ok": measured.holds(),
        "series": series.collect::<Vec<_>>(),
    })
}
