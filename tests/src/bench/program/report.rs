//! The result as a table, and as JSON.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Measured, Series};
use crate::terminal::{Align, Style, Table, Terminal};

/// Shows the result.
pub fn show(terminal: &Terminal, measured: &Measured) {
    terminal.heading("What the TC programs cost per packet, in ns");
    terminal.line(terminal.styled(
        Style::Faint,
        format!(
            "{}; BPF_PROG_TEST_RUN, mean of each run, median of all runs;\n\
             \"loop\" is what the same loop takes around a program that does nothing, \"net\" the median without\n\
             it; \"daemon\" are the rules and tables that the daemon puts beside the gateway's own routes",
            measured.machine
        ),
    ));
    terminal.line("");
    terminal.line(table(measured));
    for series in &measured.series {
        if let Some(demand) = series.demand() {
            let demand = demand.as_nanos();
            let what = format!(
                "{} {}, {} {} routes: median up to {demand} ns",
                series.program,
                series.meeting,
                family(series),
                routes(series)
            );
            terminal.verdict(series.holds(), what);
        }
    }
}

fn family(series: &Series) -> String {
    series
        .family
        .map_or_else(|| "-".to_owned(), |family| family.to_string())
}

const fn routes(series: &Series) -> &'static str {
    if series.rules { "daemon" } else { "own" }
}

fn table(measured: &Measured) -> Table {
    let mut table = Table::new([
        ("PROGRAM", Align::Left),
        ("PACKET", Align::Left),
        ("FAMILY", Align::Left),
        ("ROUTES", Align::Left),
        ("MEDIAN", Align::Right),
        ("MIN", Align::Right),
        ("MAX", Align::Right),
        ("LOOP", Align::Right),
        ("NET", Align::Right),
    ]);
    let mut sorted: Vec<&Series> = measured.series.iter().collect();
    // What is compared stands together; programs and packets stay in their order.
    let place = |series: &Series| {
        let first = measured
            .series
            .iter()
            .position(|other| (other.program, other.meeting) == (series.program, series.meeting));
        (first, series.family, series.rules)
    };
    sorted.sort_by_key(|series| place(series));
    for series in sorted {
        let nanos = |duration: Duration| duration.as_nanos().to_string();
        let runs = || series.runs.iter().copied();
        table.row([
            series.program.to_owned(),
            series.meeting.to_string(),
            family(series),
            routes(series).to_owned(),
            nanos(series.median()),
            nanos(runs().min().unwrap_or_default()),
            nanos(runs().max().unwrap_or_default()),
            nanos(series.overhead),
            nanos(series.net()),
        ]);
    }
    table
}

/// The result for scripts.
#[must_use]
pub fn json(measured: &Measured) -> Value {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let series = measured.series.iter().map(|series| {
        json!({
            "program": series.program,
            "packet": series.meeting,
            "family": series.family,
            "daemon_rules": series.rules,
            "runs_ns": series.runs.iter().copied().map(nanos).collect::<Vec<_>>(),
            "median_ns": nanos(series.median()),
            "loop_ns": nanos(series.overhead),
            "net_ns": nanos(series.net()),
            "demanded_median_ns": series.demand().map(nanos),
            "ok": series.holds(),
        })
    });
    json!({
        "benchmark": "program",
        "measured": "ns per packet by BPF_PROG_TEST_RUN, mean of each run",
        "machine": measured.machine,
        "ok": measured.holds(),
        "series": series.collect::<Vec<_>>(),
    })
}
