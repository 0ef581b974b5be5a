//! A flow as a line of a table: the text of its cells.

use std::fmt::{self, Write as _};
use std::net::IpAddr;

use crate::flows::{FlowEntry, Phase};

/// How many cells a line has.
pub(super) const COLUMNS: usize = 13;

pub(super) const HEADINGS: [&str; COLUMNS] = [
    "PROTOCOL", "INSIDE", "OUTSIDE", "UPLINK", "WHY", "PHASE", "PATH", "AGE", "IDLE", "SENT",
    "PACKETS", "RECEIVED", "PACKETS",
];

/// From this column on cells are numbers.
pub(super) const NUMBERS: usize = 7;

pub(super) const PHASE_COLUMN: usize = 5;

/// Left out where there is no fast path.
pub(super) const PATH_COLUMN: usize = 6;

/// What stands for a number that the kernel does not know.
const UNKNOWN: &str = "-";

/// The text of one line's cells, one after the other.
#[derive(Debug, Default)]
pub(super) struct Row {
    text: String,
    ends: [usize; COLUMNS],
}

impl Row {
    /// Takes the cells of a flow instead of what was there.
    pub(super) fn fill(&mut self, entry: &FlowEntry) {
        self.text.clear();
        let text = &mut self.text;
        for (column, end) in self.ends.iter_mut().enumerate() {
            // Writing to a String cannot fail.
            let _infallible = write_cell(text, column, entry);
            *end = text.len();
        }
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = &str> {
        let mut begin = 0;
        self.ends.iter().map(move |end| {
            let cell = self.text.get(begin..*end).unwrap_or_default();
            begin = *end;
            cell
        })
    }
}

fn write_cell(text: &mut String, column: usize, entry: &FlowEntry) -> fmt::Result {
    match column {
        0 => write!(text, "{}", entry.protocol),
        1 => write_place(text, entry, entry.inside, entry.inside_port),
        2 => write_place(text, entry, entry.outside, entry.outside_port),
        3 => text.write_str(entry.uplink.as_str()),
        4 => text.write_str(entry.why.as_str()),
        PHASE_COLUMN => {
            text.write_str(entry.phase.as_str())?;
            if entry.confirmed || entry.phase == Phase::Opening {
                Ok(())
            } else {
                text.write_str(", unconfirmed")
            }
        }
        PATH_COLUMN => text.write_str(&entry.path()),
        7 => write_known(text, entry.age_ms, write_duration),
        8 => write_known(text, entry.idle_ms, write_duration),
        9 => write_known(text, entry.out_bytes, write_bytes),
        10 => write_known(text, entry.out_packets, |text, count| {
            write!(text, "{count}")
        }),
        11 => write_known(text, entry.in_bytes, write_bytes),
        _ => write_known(text, entry.in_packets, |text, count| {
            write!(text, "{count}")
        }),
    }
}

fn write_place(
    text: &mut String,
    entry: &FlowEntry,
    address: IpAddr,
    port: Option<u16>,
) -> fmt::Result {
    match (address, port) {
        (address, Some(port)) if entry.protocol.has_identifier() => {
            write!(text, "{address} id {port}")
        }
        (IpAddr::V4(address), Some(port)) => write!(text, "{address}:{port}"),
        (IpAddr::V6(address), Some(port)) => write!(text, "[{address}]:{port}"),
        (address, None) => write!(text, "{address}"),
    }
}

fn write_known(
    text: &mut String,
    number: Option<u64>,
    write: impl FnOnce(&mut String, u64) -> fmt::Result,
) -> fmt::Result {
    match number {
        Some(number) => write(text, number),
        None => text.write_str(UNKNOWN),
    }
}

/// The largest unit, and the next one where it says more.
fn write_duration(text: &mut String, millis: u64) -> fmt::Result {
    let seconds = millis / 1000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => write!(text, "{seconds} s"),
        (0, 0, minutes) => write!(text, "{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => write!(text, "{hours} h {minutes} min"),
        (days, hours, _) => write!(text, "{days} d {hours} h"),
    }
}

/// Three digits, in powers of 1000.
fn write_bytes(text: &mut String, count: u64) -> fmt::Result {
    const UNITS: [&str; 7] = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
    let mut tenths = u128::from(count) * 10;
    let mut scale = 0;
    while tenths >= 10_000 && scale + 1 < UNITS.len() {
        tenths /= 1000;
        scale += 1;
    }
    let unit = UNITS.get(scale).copied().unwrap_or_default();
    if scale == 0 || tenths >= 1_000 {
        write!(text, "{} {unit}", tenths / 10)
    } else {
        write!(text, "{}.{} {unit}", tenths / 10, tenths % 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: fn(&mut String, u64) -> fmt::Result, number: u64) -> String {
        let mut text = String::new();
        write(&mut text, number).unwrap();
        text
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
            sizes.map(|size| written(write_bytes, size)),
            [
                "0 B", "999 B", "1.0 kB", "8.3 kB", "99.9 kB", "100 kB", "999 kB", "1.0 MB",
                "18.4 EB"
            ]
        );
        assert_eq!(
            [0, 59_999, 61_000, 7_260_000, 90_000_000]
                .map(|millis| written(write_duration, millis)),
            ["0 s", "59 s", "1 min 1 s", "2 h 1 min", "1 d 1 h"]
        );
    }
}
