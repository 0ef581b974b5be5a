//! The result as a table with histograms, and as JSON.

use serde_json::{Value, json};

use super::{Measured, Series};
use crate::bench::Histogram;
use crate::terminal::{Align, Short, Style, Table, Terminal};

/// Shows the result.
pub fn show(terminal: &Terminal, measured: &Measured) {
    terminal.heading("From the fault to the first new flow that is answered through the survivor");
    terminal.line(terminal.styled(
        Style::Faint,
        format!(
            "{}; a new UDP flow every 3 ms; default settings",
            measured.machine
        ),
    ));
    terminal.line("");
    terminal.line(table(measured));
    for series in &measured.series {
        terminal.line(series.fault);
        terminal.line(Histogram::of(&series.durations()));
    }
    for series in &measured.series {
        if let Some(text) = demanded(series) {
            terminal.verdict(series.failovers_hold(), text);
        }
        let soonest = Short(series.no_return_before());
        let text = format!("{}: no return before {soonest}", series.fault);
        terminal.verdict(series.returns_hold(), text);
    }
}

fn table(measured: &Measured) -> Table {
    let mut table = Table::new([
        ("FAULT", Align::Left),
        ("TRIALS", Align::Right),
        ("MIN", Align::Right),
        ("MEDIAN", Align::Right),
        ("P90", Align::Right),
        ("MAX", Align::Right),
        ("SOONEST RETURN", Align::Right),
    ]);
    for series in &measured.series {
        let mut row = vec![series.fault.to_string(), series.trials.len().to_string()];
        if let Some(found) = series.distribution() {
            let figures = [found.min, found.median, found.p90, found.max];
            row.extend(figures.map(|figure| Short(figure).to_string()));
            row.extend(
                series
                    .soonest_return()
                    .map(|soonest| Short(soonest).to_string()),
            );
        }
        table.row(row);
    }
    table
}

fn demanded(series: &Series) -> Option<String> {
    let demand = series.demand()?;
    let mut text = format!("{}: median up to {}", series.fault, Short(demand.median));
    if let Some(max) = demand.max {
        text += &format!(", no trial over {}", Short(max));
    }
    Some(text)
}

/// The result for scripts.
#[must_use]
pub fn json(measured: &Measured) -> Value {
    let series = measured.series.iter().map(|series| {
        let demand = series.demand();
        json!({
            "fault": series.fault,
            "trials": series.trials,
            "distribution_ms": series.distribution(),
            "demanded_median_ms": demand.map(|demand| demand.median.as_secs_f64() * 1e3),
            "demanded_max_ms": demand.and_then(|demand| demand.max).map(|max| max.as_secs_f64() * 1e3),
            "no_return_before_ms": series.no_return_before().as_secs_f64() * 1e3,
            "ok": series.holds(),
        })
    });
    json!({
        "benchmark": "failover",
        "measured": "from the fault to the first new UDP flow answered through the survivor",
        "machine": measured.machine,
        "ok": measured.holds(),
        "series": series.collect::<Vec<_>>(),
    })
}
