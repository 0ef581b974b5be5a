//! The status as a table that a person reads at a glance: a line per uplink and family.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::family::Family;
use crate::status::document::{FamilyStatus, State, StatusDocument, UplinkStatus};

const HEADINGS: [&str; 10] = [
    "UPLINK", "VIA", "PRIORITY", "FAMILY", "STATE", "SHARE", "RTT", "LOSS", "FLOWS", "WHY",
];

/// The column whose cells are coloured by state.
const STATE_COLUMN: usize = 4;

/// Renders the document, with colours if `coloured`, as seen at `now`.
#[must_use]
pub fn render(document: &StatusDocument, now: Timestamp, coloured: bool) -> String {
    let mut rows: Vec<(Option<State>, [String; 10])> = vec![(None, HEADINGS.map(str::to_owned))];
    for uplink in &document.uplinks {
        for family in Family::ALL {
            let status = of(uplink, family);
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
    if let Some(problem) = &document.problem {
        // Writing to a String cannot fail.
        let _infallible = write!(text, "\nPROBLEM: {problem}\n");
    }
    text
}

/// Whether new flows use uplinks that are down, because there is nothing better.
fn tries_dead_ones(document: &StatusDocument, family: Family) -> bool {
    document.uplinks.iter().any(|uplink| {
        let status = of(uplink, family);
        status.state == State::Down && status.share > 0.0
    })
}

const fn of(uplink: &UplinkStatus, family: Family) -> &FamilyStatus {
    match family {
        Family::Ipv4 => &uplink.ipv4,
        Family::Ipv6 => &uplink.ipv6,
    }
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
    let state = match status.draining_until {
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
mod tests {
    use super::*;
    use crate::status::FlowTableStatus;

    fn document() -> StatusDocument {
        let family = |state, share, reason: &str| FamilyStatus {
            state,
            gateway: Some("198.18.11.1".parse().unwrap()),
            source: None,
            share,
            rtt_ms: Some(4.25),
            loss: Some(0.0),
            reason: reason.to_owned(),
            draining_until: None,
            jitter_ms: Some(0.3),
            held_back_s: None,
            targets_aside: Vec::new(),
            connections: None,
        };
        StatusDocument {
            mode: "classic".to_owned(),
            since: "2026-11-20T10:00:00Z".parse().unwrap(),
            problem: None,
            flow_table: None,
            uplinks: vec![UplinkStatus {
                name: "fiber".parse().unwrap(),
                id: 1.try_into().unwrap(),
                interface: "wan1".parse().unwrap(),
                description: None,
                weight: 3,
                priority: 1,
                state: State::Up,
                draining: false,
                since: "2026-11-20T10:00:01Z".parse().unwrap(),
                reason: "2 of 2 targets answer".to_owned(),
                ipv4: family(State::Up, 0.75, "2 of 2 targets answer"),
                ipv6: FamilyStatus {
                    gateway: None,
                    rtt_ms: None,
                    loss: None,
                    ..family(State::Absent, 0.0, "no address")
                },
                flows: Some(12),
                probe_bytes_today: Some(4_321),
                probe_budget_bytes: None,
                rx_bytes: 123,
                tx_bytes: 456,
                rx_packets: 7,
                tx_packets: 8,
            }],
        }
    }

    #[test]
    fn a_person_sees_state_share_and_why() {
        let now = "2026-11-20T11:02:03Z".parse().unwrap();
        assert_eq!(
            render(&document(), now, false),
            "mode classic, running for 1 h 2 min\n\
             \n\
             UPLINK  VIA               PRIORITY  FAMILY  STATE   SHARE  RTT     LOSS  FLOWS  WHY\n\
             fiber   wan1 198.18.11.1  1         IPv4    up      75 %   4.2 ms  0 %   12     2 of 2 targets answer (up for 1 h 2 min)\n                                        IPv6    absent  0 %                         no address\n"
                .replace("\n                                        IPv6", &format!("\n{}IPv6", " ".repeat(36)))
        );
    }

    #[test]
    fn a_person_sees_how_long_an_uplink_drains() {
        let now: Timestamp = "2026-11-20T11:02:03Z".parse().unwrap();
        let mut document = document();
        for (until, told) in [
            ("2026-11-20T11:06:15Z", "up, draining 4m12s  75 %"),
            ("2026-11-20T11:03:08Z", "up, draining 1m05s  75 %"),
            ("2026-11-20T11:02:33Z", "up, draining 30s  75 %"),
            ("2026-11-20T12:07:03Z", "up, draining 1h05m  75 %"),
            // It is carried out when it is noticed.
            ("2026-11-20T11:02:02Z", "up, draining 0s  75 %"),
        ] {
            if let Some(uplink) = document.uplinks.first_mut() {
                uplink.ipv4.draining_until = Some(until.parse().unwrap());
            }
            let table = render(&document, now, false);
            assert!(table.contains(told), "{until}: {table}");
        }
    }

    #[test]
    fn flows_that_go_to_dead_uplinks_are_explained() {
        let now = "2026-11-20T11:02:03Z".parse().unwrap();
        let mut document = document();
        assert!(!render(&document, now, false).contains("No uplink"));
        if let Some(uplink) = document.uplinks.first_mut() {
            uplink.ipv4.state = State::Down;
        }
        assert!(
            render(&document, now, false)
                .ends_with("\n\nNo uplink is up over IPv4: new flows try all that have a route.\n")
        );
        if let Some(uplink) = document.uplinks.first_mut() {
            uplink.ipv4.share = 0.0;
        }
        assert!(!render(&document, now, false).contains("No uplink"));
    }

    #[test]
    fn a_person_sees_what_probes_took_where_that_is_limited() {
        let now = "2026-11-20T11:02:03Z".parse().unwrap();
        let mut document = document();
        assert!(!render(&document, now, false).contains("Probes"));
        for (bytes, told) in [
            (999, "took 999 B of 5 MB today."),
            (1_299_999, "took 1.2 MB of 5 MB today."),
            (4_999_999, "took 4.9 MB of 5 MB today."),
            (
                5_000_000,
                "took 5 MB of 5 MB today; asked rarely until midnight UTC.",
            ),
        ] {
            if let Some(uplink) = document.uplinks.first_mut() {
                uplink.probe_bytes_today = Some(bytes);
                uplink.probe_budget_bytes = Some(5_000_000);
            }
            let table = render(&document, now, false);
            assert!(
                table.ends_with(&format!("\n\nProbes of fiber {told}\n")),
                "{table}"
            );
        }
    }

    #[test]
    fn a_person_sees_how_full_the_flow_table_is() {
        let now = "2026-11-20T11:02:03Z".parse().unwrap();
        let mut document = document();
        document.flow_table = Some(FlowTableStatus::counted(
            262_144, 1_000_000, 261_900, 200_000,
        ));
        assert!(render(&document, now, false).ends_with(
            "\nFlow table: 261900 of 262144 entries in use, 200000 alive; 738100 evicted so far.\n"
        ));
    }

    #[test]
    fn colour_is_there_only_when_asked_for() {
        let now = "2026-11-20T11:02:03Z".parse().unwrap();
        assert!(!render(&document(), now, false).contains('\x1b'));
        assert!(render(&document(), now, true).contains("\x1b[32mup\x1b[0m"));
    }
}
