//! The result of the demo as a table and as JSON.

use failover_common::family::Family;
use serde_json::{Value, json};

use super::expectations::{Expectation, expectations};
use super::figures::{Figures, NewFlows, UplinkPlan};
use crate::terminal::{Align, Short, Table};

/// New flows per uplink before, during and after, by family.
#[must_use]
pub(super) fn new_flows(figures: &Figures) -> Table {
    let mut table = Table::new([
        ("NEW FLOWS", Align::Left),
        ("WEIGHT", Align::Right),
        ("BEFORE  IPv4", Align::Right),
        ("IPv6", Align::Right),
        ("", Align::Right),
        ("DURING  IPv4", Align::Right),
        ("IPv6", Align::Right),
        ("", Align::Right),
        ("AFTER  IPv4", Align::Right),
        ("IPv6", Align::Right),
        ("", Align::Right),
    ]);
    let phases = [&figures.before, &figures.during, &figures.after];
    for plan in &figures.uplinks {
        let mut row = vec![
            format!("{} (wan{})", plan.name, plan.number),
            plan.weight.to_string(),
        ];
        for flows in phases {
            row.extend(Family::ALL.map(|family| flows.on(plan.number, Some(family)).to_string()));
            row.push(format!("{:.0} %", flows.share(plan.number) * 100.0));
        }
        table.row(row);
    }
    let mut total = vec!["total".to_owned(), String::new()];
    for flows in phases {
        total.extend(Family::ALL.map(|family| flows.answered(Some(family)).to_string()));
        total.push(String::new());
    }
    table.row(total);
    table
}

/// What else was measured, a line each.
#[must_use]
pub(super) fn measures(figures: &Figures) -> Table {
    let dead = figures.dead_name();
    let Figures {
        survivors,
        connections,
        ..
    } = figures;
    let mut table = Table::new([
        ("MEASURED", Align::Left),
        ("", Align::Right),
        ("", Align::Left),
    ]);
    for (what, value, how) in [
        (
            "detection time",
            Short(figures.slowest_detection()).to_string(),
            "from the fault until `failover status` says down for both families".to_owned(),
        ),
        (
            "new flows safe again",
            Short(figures.newcomers.last_lost).to_string(),
            "from the fault until the last new flow that was lost; one every 20 ms".to_owned(),
        ),
        (
            "return",
            Short(figures.recognised).to_string(),
            "from the end of the fault until `failover status` says up".to_owned(),
        ),
        (
            "answers lost per surviving flow",
            survivors.most_lost_by_one.to_string(),
            format!(
                "the most of {} flows, {} questions",
                survivors.flows, survivors.questions
            ),
        ),
        (
            "packets of new flows",
            figures.provider.packets_of_new_flows.to_string(),
            format!("sent to {dead} after the detection, counted at its provider"),
        ),
        (
            "TCP connections ended",
            format!("{} of {}", connections.ended, connections.flows),
            format!(
                "those of {dead}: its address was theirs, so they cannot go on; clients connect anew"
            ),
        ),
    ] {
        table.row([what.to_owned(), value, how]);
    }
    table
}

/// The result for scripts.
#[must_use]
pub(super) fn json(figures: &Figures) -> Value {
    let promises: Vec<Expectation> = expectations(figures);
    json!({
        "ok": promises.iter().all(|promise| promise.met),
        "took_s": figures.took.as_secs_f64(),
        "uplinks": figures.uplinks,
        "dead": figures.dead_name(),
        "new_flows": {
            "before": phase(figures, &figures.before),
            "during": phase(figures, &figures.during),
            "after": phase(figures, &figures.after),
        },
        "detection_s": {
            "ipv4": figures.detection.ipv4.as_secs_f64(),
            "ipv6": figures.detection.ipv6.as_secs_f64(),
        },
        "return_s": figures.recognised.as_secs_f64(),
        "new_flows_around_the_fault": figures.newcomers,
        "seen_at_provider_after_detection": figures.provider,
        "surviving_flows": figures.survivors,
        "udp_and_icmp_flows_of_the_dead": figures.refugees,
        "tcp_flows_of_the_dead": figures.connections,
        "expectations": promises,
    })
}

fn phase(figures: &Figures, flows: &NewFlows) -> Value {
    let by_uplink = |plan: &UplinkPlan| {
        let counts = flows.0.iter().map(|burst| {
            json!({
                "protocol": burst.protocol.to_string(),
                "family": burst.family,
                "flows": burst.tally.on(plan.number),
            })
        });
        json!({
            "name": plan.name,
            "share": flows.share(plan.number),
            "flows": counts.collect::<Vec<_>>(),
        })
    };
    json!({
        "answered": flows.answered(None),
        "unanswered": flows.unanswered(),
        "uplinks": figures.uplinks.iter().map(by_uplink).collect::<Vec<_>>(),
    })
}
