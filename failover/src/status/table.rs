//! The status as a table that a person reads at a glance: a line per uplink and family.

use std::fmt::Write as _;

use jiff::{Timestamp, Zoned};

use crate::family::Family;
use crate::fastpath::standing::FastPathStatus;
use crate::status::document::{FamilyStatus, State, StatusDocument, UplinkStatus};

const HEADINGS: [&str; 10] = [
    "UPLINK", "VIA", "PRIORITY", "FAMILY", "STATE", "SHARE", "RTT", "LOSS", "FLOWS", "WHY",
];

/// The column whose cells are coloured by state.
const STATE_COLUMN: usize = 4;

/// Renders the document, with colours if `coloured`, as seen at `now` by the clock on the wall.
#[must_use]
pub fn render(document: &StatusDocument, clock: &Zoned, coloured: bool) -> String {
    let now = clock.timestamp();
    let mut rows: Vec<(Option<State>, [String; 10])> = vec![(None, HEADINGS.map(str::to_owned))];
    for uplink in &document.uplinks {
        for family in Family::ALL {
            let status = uplink.family(family);
            rows.push((Some(status.state), cells(uplink, family, status, now)));
        }
    }
    let mut widths = [0_usize; 10];
    for (_, row) in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = format!(
        "mode {}, running for {}\n\n",
        document.mode,
        age(document.since, now)
    );
    for (state, row) in &rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(widths).enumerate() {
            let padding = " ".repeat(width - cell.chars().count());
            match state {
                Some(state) if coloured && column == STATE_COLUMN => {
                    line.push_str(colour_of(*state));
                    line.push_str(cell);
                    line.push_str("\x1b[0m");
                }
                _ => line.push_str(cell),
            }
            line.push_str(&padding);
            line.push_str("  ");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    for family in Family::ALL {
        if tries_dead_ones(document, family) {
            // Writing to a String cannot fail.
            let _infallible = write!(
                text,
                "\nNo uplink is up over {family}: new flows try all that have a route.\n"
            );
        }
    }
    for uplink in &document.uplinks {
        text.push_str(&by_hand(uplink, clock));
    }
    for uplink in &document.uplinks {
        if let (Some(bytes), Some(budget)) = (uplink.probe_bytes_today, uplink.probe_budget_bytes) {
            let then = if bytes >= budget {
                "; asked rarely until midnight UTC"
            } else {
                ""
            };
            // Writing to a String cannot fail.
            let _infallible = write!(
                text,
                "\nProbes of {} took {} of {} today{then}.\n",
                uplink.name,
                size(bytes),
                size(budget)
            );
        }
    }
    if let Some(table) = &document.flow_table {
        // Writing to a String cannot fail.
        let _infallible = write!(
            text,
            "\nFlow table: {} of {} entries in use, {} alive; {} evicted so far.\n",
            table.entries, table.capacity, table.live, table.evicted
        );
    }
    text.push_str(&fast_path(document));
    for broken in &document.broken_sets {
        // Writing to a String cannot fail.
        let _infallible = write!(
            text,
            "\nPROBLEM: the set {} is as it was: {}\n",
            broken.name, broken.problem
        );
    }
    for channel in &document.notify {
        if let Some(problem) = &channel.problem {
            // Writing to a String cannot fail.
            let _infallible = write!(
                text,
                "\nPROBLEM: nothing is told by {}: {problem}\n",
                channel.name
            );
        }
    }
    if let Some(problem) = &document.problem {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "\nPROBLEM: {problem}\n");
    }
    text
}

/// How the fast path stands, where there could be one.
fn fast_path(document: &StatusDocument) -> String {
    let FastPathStatus {
        on,
        reason,
        flows,
        capacity,
        counted: _,
    } = &document.fastpath;
    match reason {
        _ if *on => format!("\nFast path: {flows} of {capacity} flows.\n"),
        Some(reason) if document.flow_table.is_some() => format!("\nFast path: off: {reason}.\n"),
        _ => String::new(),
    }
}

/// What somebody did by hand, and what ends it.
fn by_hand(uplink: &UplinkStatus, clock: &Zoned) -> String {
    let Some(by_hand) = uplink.by_hand else {
        return String::new();
    };
    let name = &uplink.name;
    let then = if by_hand.disables() {
        ""
    } else if uplink.ipv4.share > 0.0 || uplink.ipv6.share > 0.0 {
        ", and new flows use it as long as no other is usable"
    } else {
        ", and new flows go elsewhere"
    };
    format!(
        "\n{name} is {}{then}; `failover enable {name}` ends that.\n",
        by_hand.by_the_clock(clock)
    )
}

/// Whether new flows use uplinks that are down, because there is nothing better.
fn tries_dead_ones(document: &StatusDocument, family: Family) -> bool {
    document.uplinks.iter().any(|uplink| {
        let status = uplink.family(family);
        status.state == State::Down && status.share > 0.0
    })
}

fn cells(
    uplink: &UplinkStatus,
    family: Family,
    status: &FamilyStatus,
    now: Timestamp,
) -> [String; 10] {
    // What belongs to the uplink as a whole stands in its first line only.
    let first = |text: String| match family {
        Family::Ipv4 => text,
        Family::Ipv6 => String::new(),
    };
    let via = match (family, status.gateway) {
        (Family::Ipv4, Some(gateway)) => format!("{} {gateway}", uplink.interface),
        (Family::Ipv4, None) => uplink.interface.to_string(),
        (Family::Ipv6, Some(gateway)) => gateway.to_string(),
        (Family::Ipv6, None) => String::new(),
    };
    let drains_by_hand = uplink.by_hand.is_some_and(|by_hand| !by_hand.disables());
    let state = match status.draining_until {
        None if drains_by_hand && status.state != State::Absent => {
            format!("{}, draining", status.state.as_str())
        }
        None => status.state.as_str().to_owned(),
        Some(until) => {
            let left = until.as_second().saturating_sub(now.as_second());
            format!("{}, draining {}", status.state.as_str(), left_over(left))
        }
    };
    [
        first(uplink.name.to_string()),
        via,
        first(uplink.priority.to_string()),
        family.to_string(),
        state,
        percent(status.share),
        status
            .rtt_ms
            .map(|rtt| format!("{rtt:.1} ms"))
            .unwrap_or_default(),
        status.loss.map(percent).unwrap_or_default(),
        first(
            uplink
                .flows
                .map(|flows| flows.to_string())
                .unwrap_or_default(),
        ),
        match family {
            Family::Ipv4 => format!(
                "{} ({} for {})",
                status.reason,
                uplink.state.as_str(),
                age(uplink.since, now)
            ),
            Family::Ipv6 => status.reason.clone(),
        },
    ]
}

/// A number of bytes in its unit, such as `1.2 MB`.
#[must_use]
pub fn size(bytes: u64) -> String {
    let units = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB")];
    let fits = units.into_iter().find(|(least, _)| bytes >= *least);
    fits.map_or_else(
        || format!("{bytes} B"),
        |(unit, name)| {
            // Rounded down, so that what is not used up does not look so.
            let tenths = bytes / (unit / 10);
            match tenths % 10 {
                0 => format!("{} {name}", tenths / 10),
                tenth => format!("{}.{tenth} {name}", tenths / 10),
            }
        },
    )
}

fn percent(fraction: f64) -> String {
    format!("{:.0} %", fraction * 100.0)
}

/// What begins the colour of a state on a terminal.
#[must_use]
pub const fn colour_of(state: State) -> &'static str {
    match state {
        State::Up => "\x1b[32m",
        State::Degraded | State::Unknown => "\x1b[33m",
        State::Down => "\x1b[31m",
        State::Disabled | State::Absent => "\x1b[2m",
    }
}

/// What is left of a time, such as `4m12s`.
fn left_over(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (hours, minutes, seconds) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds:02}s"),
        (hours, minutes) => format!("{hours}h{minutes:02}m"),
    }
}

/// The two largest units of an age.
fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
