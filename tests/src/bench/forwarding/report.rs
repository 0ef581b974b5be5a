//! The result as tables, and as JSON.

use serde_json::{Value, json};

use super::bulk::name;
use super::demands::kind;
use super::{Bulk, Case, Measured, Memory, Series, Spread, Variant, demands};
use crate::terminal::{Align, Style, Table, Terminal};

/// Shows the result.
pub fn show(terminal: &Terminal, measured: &Measured) {
    terminal.heading("What one forwarded packet costs, in ns of one processor");
    terminal.line(terminal.styled(
        Style::Faint,
        format!(
            "{}\nmedian of the rounds, the generator's own cost taken off; least and most; beside masquerade",
            measured.machine
        ),
    ));
    for case in cases(measured) {
        terminal.line(format!("\n{}", title(case)));
        terminal.line(packets(measured, case));
    }
    if !measured.bulk.is_empty() {
        terminal.heading("One long transfer by TCP, all of it on one processor");
        terminal.line(transfers(&measured.bulk));
    }
    if !measured.memory.is_empty() {
        terminal.heading("Memory of the kernel per flow, in bytes");
        terminal.line(memory(&measured.memory));
    }
    for reason in &measured.skipped {
        terminal.line(format!("not measured: {reason}"));
    }
    for series in &measured.series {
        if let Some(reason) = &series.void {
            let text = format!("{}, {}: {reason}", series.variant, title(series.case));
            terminal.verdict(false, text);
        }
    }
    for demand in demands(measured) {
        let bound = if demand.at_most {
            "at most"
        } else {
            "at least"
        };
        let text = format!("{}: {bound} {:.2}", demand.text, demand.limit);
        match (demand.ratio, demand.holds()) {
            (Some(ratio), Some(holds)) => {
                terminal.verdict(holds, format!("{text}, it is {ratio:.2}"));
            }
            _ => {
                let why = demand.unknown.as_deref().unwrap_or("not measured");
                terminal.line(format!("  unknown  {text}: {why}"));
            }
        }
    }
}

/// The cases, in the order in which they were measured.
pub(super) fn cases(measured: &Measured) -> Vec<Case> {
    let mut cases = Vec::new();
    for series in &measured.series {
        if !cases.contains(&series.case) {
            cases.push(series.case);
        }
    }
    cases
}

pub(super) fn title(case: Case) -> String {
    let what = kind(case.family, case.protocol);
    if case.new {
        format!("New flows: {} a round, {what}", case.flows)
    } else {
        format!(
            "{} known flows, frames of {} bytes, {what}",
            case.flows, case.size
        )
    }
}

/// How many times masquerade's figure one is.
fn beside(series: &Series, measured: &Measured) -> Option<f64> {
    let other = measured.series_of(Variant::Masquerade, series.case)?;
    Some(series.cost()?.median / other.cost()?.median)
}

fn packets(measured: &Measured, case: Case) -> Table {
    let mut table = Table::new([
        ("VARIANT", Align::Left),
        ("MEDIAN", Align::Right),
        ("MIN", Align::Right),
        ("MAX", Align::Right),
        ("RATIO", Align::Right),
        ("PER SECOND", Align::Right),
    ]);
    for series in measured.series.iter().filter(|one| one.case == case) {
        let name = series.variant.to_string();
        if series.variant == Variant::Generator {
            // What was taken off.
            let alone = Spread::of(&series.gross);
            let cells = alone.map(|found| [found.median, found.min, found.max]);
            let cells = cells.unwrap_or_default().map(|cost| format!("{cost:.0}"));
            let none = [String::new(), String::new()];
            table.row([name].into_iter().chain(cells).chain(none));
            continue;
        }
        let Some(cost) = series.cost() else {
            table.row([name, "void".to_owned()]);
            continue;
        };
        table.row([
            name,
            format!("{:.0}", cost.median),
            format!("{:.0}", cost.min),
            format!("{:.0}", cost.max),
            beside(series, measured).map_or_else(String::new, |ratio| format!("{ratio:.2}")),
            format!("{:.0}", 1e9 / cost.median),
        ]);
    }
    table
}

/// The gateway's share of a gigabyte, in seconds: without what the end hosts take by themselves.
fn share(all: &[Bulk], bulk: &Bulk) -> Option<f64> {
    let alone = all
        .iter()
        .find(|other| other.variant.is_none() && other.offload == bulk.offload)?;
    Some(Spread::of(&bulk.seconds)?.median - Spread::of(&alone.seconds)?.median)
}

fn transfers(all: &[Bulk]) -> Table {
    let mut table = Table::new([
        ("VARIANT", Align::Left),
        ("OFFLOADS", Align::Left),
        ("GBIT/S", Align::Right),
        ("MIN", Align::Right),
        ("MAX", Align::Right),
        ("CPU S/GB", Align::Right),
        ("GATEWAY'S", Align::Right),
    ]);
    for bulk in all {
        let Some((speed, work)) = Spread::of(&bulk.gigabits).zip(Spread::of(&bulk.seconds)) else {
            continue;
        };
        table.row([
            name(bulk.variant),
            if bulk.offload { "on" } else { "off" }.to_owned(),
            format!("{:.2}", speed.median),
            format!("{:.2}", speed.min),
            format!("{:.2}", speed.max),
            format!("{:.3}", work.median),
            share(all, bulk).map_or_else(String::new, |share| format!("{share:.3}")),
        ]);
    }
    table
}

fn memory(all: &[Memory]) -> Table {
    let mut table = Table::new([
        ("VARIANT", Align::Left),
        ("FLOWS", Align::Right),
        ("SLABS", Align::Right),
        ("TABLES", Align::Right),
    ]);
    for memory in all {
        let tables = memory.tables.map(|bytes| format!("{bytes:.0}"));
        table.row([
            memory.variant.to_string(),
            memory.flows.to_string(),
            format!("{:.0}", memory.slabs),
            tables.unwrap_or_default(),
        ]);
    }
    table
}

/// The result for scripts.
#[must_use]
pub fn json(measured: &Measured) -> Value {
    let series = measured.series.iter().map(|series| {
        json!({
            "variant": series.variant,
            "case": series.case,
            "gross_ns": series.gross,
            "net_ns": series.net,
            "cost_ns": series.cost(),
            "to_masquerade": beside(series, measured),
            "void": series.void,
        })
    });
    let bulk = measured.bulk.iter().map(|bulk| {
        json!({
            "variant": bulk.variant,
            "offload": bulk.offload,
            "gigabits_per_s": bulk.gigabits,
            "cpu_s_per_gigabyte": bulk.seconds,
            "median_gigabits_per_s": Spread::of(&bulk.gigabits),
            "gateways_cpu_s_per_gigabyte": share(&measured.bulk, bulk),
        })
    });
    let demands = demands(measured).into_iter().map(|demand| {
        let holds = demand.holds();
        json!({
            "text": demand.text,
            "ratio": demand.ratio,
            "unknown": demand.unknown,
            "limit": demand.limit,
            "at_most": demand.at_most,
            "ok": holds,
        })
    });
    json!({
        "benchmark": "forwarding",
        "measured": "ns of one processor per forwarded frame, without the generator's own",
        "machine": measured.machine,
        "ok": measured.holds(),
        "skipped": measured.skipped,
        "series": series.collect::<Vec<_>>(),
        "transfers": bulk.collect::<Vec<_>>(),
        "memory": measured.memory,
        "demands": demands.collect::<Vec<_>>(),
    })
}
