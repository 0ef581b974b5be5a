//! The flows as a table that a person reads at a glance: a line per flow, the largest first.

use std::collections::BTreeSet;
use std::io::{self, Write};

use super::row::{COLUMNS, HEADINGS, NUMBERS, PATH_COLUMN, PHASE_COLUMN, Row};
use crate::flows::{FlowEntry, Phase};

/// As many as the widest cell may need: an IPv6 address with its port has 47 characters.
const SPACES: &str = "                                                                        ";

/// How many things that are in the way of the fast path are told.
const DETAILS: usize = 5;

/// Puts the flows with the most bytes first; of those whose bytes nobody counts, the ones that were
/// active last.
pub fn sort(entries: &mut [FlowEntry]) {
    entries.sort_unstable_by(|a, b| {
        let idle = |entry: &FlowEntry| entry.idle_ms.unwrap_or(u64::MAX);
        let place = |entry: &FlowEntry| {
            let ports = (entry.inside_port, entry.outside_port);
            (entry.inside, entry.outside, ports, entry.protocol)
        };
        (b.bytes().cmp(&a.bytes()))
            .then_with(|| idle(a).cmp(&idle(b)))
            .then_with(|| place(a).cmp(&place(b)))
    });
}

/// Writes the flows in their order, with colours if `coloured`.
///
/// # Errors
/// When `out` does not take it.
pub fn render(
    out: &mut impl Write,
    mode: &str,
    entries: &[FlowEntry],
    coloured: bool,
) -> io::Result<()> {
    let noun = if entries.len() == 1 { "flow" } else { "flows" };
    writeln!(out, "mode {mode}, {} {noun}", entries.len())?;
    if entries.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    // Twice over the entries and by one row, so that a table of hundreds of thousands needs no text
    // of all of it.
    let mut row = Row::default();
    let mut widths = HEADINGS.map(|heading| Some(heading.len()));
    if !entries.iter().any(FlowEntry::has_fast_path) {
        widths[PATH_COLUMN] = None;
    }
    for entry in entries {
        row.fill(entry);
        for (width, cell) in widths.iter_mut().zip(row.cells()) {
            *width = width.map(|width| width.max(cell.len()));
        }
    }
    line(out, HEADINGS.into_iter(), &widths, None)?;
    for entry in entries {
        row.fill(entry);
        let colour = coloured.then(|| colour(entry.phase));
        line(out, row.cells(), &widths, colour)?;
    }
    let details: BTreeSet<(&str, &str)> = entries
        .iter()
        .filter_map(|entry| {
            Some((
                entry.fastpath.as_deref()?,
                entry.fastpath_detail.as_deref()?,
            ))
        })
        .collect();
    for (word, detail) in details.into_iter().take(DETAILS) {
        writeln!(out, "\n{word}: {detail}")?;
    }
    let lacks = |known: fn(&FlowEntry) -> bool| !entries.iter().any(known);
    if lacks(|entry| entry.out_packets.is_some()) {
        writeln!(
            out,
            "\nThe kernel counts packets and bytes of new flows after: sysctl net.netfilter.nf_conntrack_acct=1"
        )?;
    }
    if lacks(|entry| entry.age_ms.is_some()) {
        writeln!(
            out,
            "\nThe kernel notes the age of new flows after: sysctl net.netfilter.nf_conntrack_timestamp=1"
        )?;
    }
    Ok(())
}

/// One line. All cells are ASCII; columns without a width are left out.
fn line<'a>(
    out: &mut impl Write,
    cells: impl Iterator<Item = &'a str>,
    widths: &[Option<usize>; COLUMNS],
    colour: Option<&str>,
) -> io::Result<()> {
    for (column, (cell, width)) in cells.zip(widths).enumerate() {
        let Some(width) = width else { continue };
        let padding = SPACES
            .get(..width.saturating_sub(cell.len()))
            .unwrap_or(SPACES);
        let colour = colour.filter(|_| column == PHASE_COLUMN);
        let (before, behind) = if column >= NUMBERS {
            (padding, "")
        } else {
            ("", padding)
        };
        let gap = if column + 1 == COLUMNS { "\n" } else { "  " };
        for text in [
            before,
            colour.unwrap_or_default(),
            cell,
            colour.map_or("", |_| "\x1b[0m"),
            behind,
            gap,
        ] {
            out.write_all(text.as_bytes())?;
        }
    }
    Ok(())
}

const fn colour(phase: Phase) -> &'static str {
    match phase {
        Phase::Established => "\x1b[32m",
        Phase::Opening => "\x1b[33m",
        Phase::Closing => "\x1b[2m",
    }
}

#[cfg(test)]
mod tests {
    use failover_common::Counters;

    use super::*;
    use crate::family::Family;
    use crate::fastpath::standing::{Standing, Uncounted, Why as Stays};
    use crate::flows::{Protocol, Why};

    fn entry(inside: &str, sizes: Option<(u64, u64)>) -> FlowEntry {
        FlowEntry {
            protocol: Protocol(6),
            family: Family::Ipv4,
            inside: inside.parse().unwrap(),
            inside_port: Some(40_000),
            outside: "203.0.113.1".parse().unwrap(),
            outside_port: Some(443),
            uplink: "fiber".parse().unwrap(),
            uplink_id: 1.try_into().unwrap(),
            why: Why::Hash,
            phase: Phase::Established,
            confirmed: true,
            age_ms: Some(3_725_000),
            idle_ms: Some(900),
            out_packets: sizes.map(|_| 12),
            out_bytes: sizes.map(|(out, _)| out),
            in_packets: sizes.map(|_| 3_400),
            in_bytes: sizes.map(|(_, back)| back),
            offloaded: false,
            fastpath: Some("off".into()),
            fastpath_detail: None,
        }
    }

    fn rendered(entries: &[FlowEntry], coloured: bool) -> String {
        let mut out = Vec::new();
        render(&mut out, "ebpf", entries, coloured).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_person_sees_who_talks_to_whom_by_which_uplink() {
        let mut ping = entry("fd00::2", Some((104, 0)));
        ping.protocol = Protocol(58);
        ping.inside_port = Some(77);
        ping.outside = "fd00:203::1".parse().unwrap();
        ping.outside_port = None;
        ping.phase = Phase::Opening;
        ping.confirmed = false;
        ping.in_packets = Some(0);
        assert_eq!(
            rendered(
                &[entry("198.18.0.10", Some((8_300, 5_400_000))), ping],
                false
            ),
            "mode ebpf, 2 flows\n\
             \n\
             PROTOCOL  INSIDE             OUTSIDE          UPLINK  WHY   PHASE              AGE  IDLE    SENT  PACKETS  RECEIVED  PACKETS\n\
             tcp       198.18.0.10:40000  203.0.113.1:443  fiber   hash  established  1 h 2 min   0 s  8.3 kB       12    5.4 MB     3400\n\
             icmpv6    fd00::2 id 77      fd00:203::1      fiber   hash  opening      1 h 2 min   0 s   104 B       12       0 B        0\n"
        );
    }

    #[test]
    fn a_person_sees_which_flows_take_the_fast_path_and_why_others_do_not() {
        let stands =
            |standing: Standing| entry("198.18.0.10", Some((1, 1))).standing(&standing, 7_000_000);
        let entries = [
            stands(Standing::Offloaded(Uncounted {
                back: Counters {
                    packets: 100,
                    bytes: 99_999,
                },
                seen_ns: 7_000_000,
                ..Uncounted::default()
            })),
            stands(Standing::Stack(Stays::NoNeighbour)),
            stands(Standing::Stack(Stays::Filtered(
                "a tc filter on lan0".to_owned(),
            ))),
            stands(Standing::Stack(Stays::Filtered(
                "a tc filter on lan0".to_owned(),
            ))),
        ];
        assert_eq!(
            rendered(&entries, false),
            "mode ebpf, 4 flows\n\
             \n\
             PROTOCOL  INSIDE             OUTSIDE          UPLINK  WHY   PHASE        PATH                AGE  IDLE  SENT  PACKETS  RECEIVED  PACKETS\n\
             tcp       198.18.0.10:40000  203.0.113.1:443  fiber   hash  established  fast          1 h 2 min   0 s   1 B       12    100 kB     3500\n\
             tcp       198.18.0.10:40000  203.0.113.1:443  fiber   hash  established  no neighbour  1 h 2 min   0 s   1 B       12       1 B     3400\n\
             tcp       198.18.0.10:40000  203.0.113.1:443  fiber   hash  established  filtered      1 h 2 min   0 s   1 B       12       1 B     3400\n\
             tcp       198.18.0.10:40000  203.0.113.1:443  fiber   hash  established  filtered      1 h 2 min   0 s   1 B       12       1 B     3400\n\
             \n\
             filtered: a tc filter on lan0\n"
        );
    }

    #[test]
    fn the_largest_flows_come_first() {
        let mut entries = vec![
            entry("198.18.0.1", None),
            entry("198.18.0.2", Some((1, 1))),
            entry("198.18.0.3", Some((500, 500))),
            entry("198.18.0.4", None),
            entry("198.18.0.5", Some((0, 999))),
        ];
        entries[3].idle_ms = Some(1);
        sort(&mut entries);
        let order: Vec<String> = entries
            .iter()
            .map(|entry| entry.inside.to_string())
            .collect();
        assert_eq!(
            order,
            [
                "198.18.0.3",
                "198.18.0.5",
                "198.18.0.2",
                "198.18.0.4",
                "198.18.0.1"
            ]
        );
    }

    #[test]
    fn what_is_not_counted_is_explained() {
        let mut unknown = entry("198.18.0.10", None);
        unknown.age_ms = None;
        unknown.idle_ms = None;
        let text = rendered(&[unknown.clone()], false);
        assert!(text.starts_with("mode ebpf, 1 flow\n"), "{text}");
        assert!(
            text.contains("established    -     -     -        -         -        -\n"),
            "{text}"
        );
        assert!(text.contains("nf_conntrack_acct=1"), "{text}");
        assert!(text.contains("nf_conntrack_timestamp=1"), "{text}");
        // Flows that began before the kernel was told to count.
        let text = rendered(&[entry("198.18.0.11", Some((1, 1))), unknown], false);
        assert!(!text.contains("sysctl"), "{text}");
        assert_eq!(rendered(&[], false), "mode ebpf, 0 flows\n");
    }

    #[test]
    fn a_doubt_is_told() {
        let mut doubtful = entry("198.18.0.10", None);
        doubtful.confirmed = false;
        assert!(rendered(&[doubtful], false).contains("established, unconfirmed"));
    }

    #[test]
    fn colour_is_there_only_when_asked_for() {
        let entries = [entry("198.18.0.10", None)];
        assert!(!rendered(&entries, false).contains('\x1b'));
        assert!(rendered(&entries, true).contains("\x1b[32mestablished\x1b[0m  "));
    }
}
