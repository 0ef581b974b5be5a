//! The flows as a table that a person reads at a glance: a line per flow, the largest first.

use std::cmp::Reverse;
use std::io::{self, Write};
use std::net::IpAddr;

use crate::flows::{FlowEntry, Phase};

const HEADINGS: [&str; 12] = [
    "PROTOCOL", "INSIDE", "OUTSIDE", "UPLINK", "WHY", "PHASE", "AGE", "IDLE", "SENT", "PACKETS",
    "RECEIVED", "PACKETS",
];

/// From this column on cells are numbers, and stand at the right.
const NUMBERS: usize = 6;

/// The column whose cells are coloured.
const PHASE_COLUMN: usize = 5;

/// What stands for a number that the kernel does not know.
const UNKNOWN: &str = "-";

/// Puts the flows with the most bytes first; of those whose bytes nobody counts, the ones that were
/// active last.
pub fn sort(entries: &mut [FlowEntry]) {
    entries.sort_by_key(|entry| {
        let place = (entry.inside, entry.inside_port, entry.outside);
        (
            Reverse(entry.bytes()),
            entry.idle_ms.unwrap_or(u64::MAX),
            (place, entry.outside_port, entry.protocol),
        )
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
    // Twice over the entries, so that a table of hundreds of thousands needs no text of all of it.
    let mut widths = HEADINGS.map(str::len);
    for entry in entries {
        for (width, cell) in widths.iter_mut().zip(cells(entry)) {
            *width = (*width).max(cell.len());
        }
    }
    line(out, &HEADINGS.map(str::to_owned), &widths, None)?;
    for entry in entries {
        let colour = coloured.then(|| colour(entry.phase));
        line(out, &cells(entry), &widths, colour)?;
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

/// One line. All cells are ASCII.
fn line(
    out: &mut impl Write,
    cells: &[String; 12],
    widths: &[usize; 12],
    colour: Option<&str>,
) -> io::Result<()> {
    let last = cells.len() - 1;
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let padding = width.saturating_sub(cell.len());
        match colour {
            _ if column >= NUMBERS => write!(out, "{:padding$}{cell}", "")?,
            Some(colour) if column == PHASE_COLUMN => {
                write!(out, "{colour}{cell}\x1b[0m{:padding$}", "")?;
            }
            _ => write!(out, "{cell}{:padding$}", "")?,
        }
        out.write_all(if column == last { b"\n" } else { b"  " })?;
    }
    Ok(())
}

fn cells(entry: &FlowEntry) -> [String; 12] {
    let place = |address: IpAddr, port: Option<u16>| match (address, port) {
        (address, Some(port)) if entry.protocol.has_identifier() => format!("{address} id {port}"),
        (IpAddr::V4(address), Some(port)) => format!("{address}:{port}"),
        (IpAddr::V6(address), Some(port)) => format!("[{address}]:{port}"),
        (address, None) => address.to_string(),
    };
    let phase = match (entry.phase, entry.confirmed) {
        (Phase::Opening, _) | (_, true) => entry.phase.as_str().to_owned(),
        (phase, false) => format!("{}, unconfirmed", phase.as_str()),
    };
    let or_unknown = |text: Option<String>| text.unwrap_or_else(|| UNKNOWN.to_owned());
    [
        entry.protocol.to_string(),
        place(entry.inside, entry.inside_port),
        place(entry.outside, entry.outside_port),
        entry.uplink.to_string(),
        entry.why.as_str().to_owned(),
        phase,
        or_unknown(entry.age_ms.map(duration)),
        or_unknown(entry.idle_ms.map(duration)),
        or_unknown(entry.out_bytes.map(bytes)),
        or_unknown(entry.out_packets.map(|packets| packets.to_string())),
        or_unknown(entry.in_bytes.map(bytes)),
        or_unknown(entry.in_packets.map(|packets| packets.to_string())),
    ]
}

const fn colour(phase: Phase) -> &'static str {
    match phase {
        Phase::Established => "\x1b[32m",
        Phase::Opening => "\x1b[33m",
        Phase::Closing => "\x1b[2m",
    }
}

/// The largest unit, and the next one where it says more.
fn duration(millis: u64) -> String {
    let seconds = millis / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{days} d {hours} h"),
    }
}

/// Three digits, in powers of 1000.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut tenths = u128::from(count) * 10;
    let mut scale = 0;
    while tenths >= 10_000 && scale + 1 < UNITS.len() {
        tenths /= 1000;
        scale += 1;
    }
    let unit = UNITS.get(scale).copied().unwrap_or_default();
    if scale == 0 || tenths >= 1_000 {
        format!("{} {unit}", tenths / 10)
    } else {
        format!("{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::family::Family;
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

    #[test]
    fn sizes_and_times_have_few_digits() {
        let sizes = [
            0,
            999,
            1_000,
            8_345,
            99_999,
            100_000,
            999_999,
            1_000_000,
            u64::MAX,
        ];
        assert_eq!(
            sizes.map(bytes),
            [
                "0 B", "999 B", "1.0 kB", "8.3 kB", "99.9 kB", "100 kB", "999 kB", "1.0 MB",
                "18.4 EB"
            ]
        );
        assert_eq!(
            [0, 59_999, 61_000, 7_260_000, 90_000_000].map(duration),
            ["0 s", "59 s", "1 min 1 s", "2 h 1 min", "1 d 1 h"]
        );
    }
}
