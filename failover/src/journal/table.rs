//! Events as lines that a person reads: when by the clock on the wall, which uplink, what, and why.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use jiff::tz::TimeZone;

use crate::family::Family;
use crate::journal::event::{Event, Record};
use crate::journal::words::words;
use crate::status::{State, colour_of};
use crate::uplink::UplinkName;

const HEADINGS: [&str; COLUMNS] = ["WHEN", "UPLINK", "FAMILY", "EVENT", "WHY"];
const COLUMNS: usize = 5;
/// The columns that are narrow, and those of them that can be empty in all lines.
const NARROW: usize = COLUMNS - 1;
const UPLINK_COLUMN: usize = 1;
const FAMILY_COLUMN: usize = 2;
const EVENT_COLUMN: usize = 3;

/// The last column is broken into lines only where so many characters fit one.
const LEAST_WIDTH: usize = 24;

/// What happens to both families of an uplink within this time, for the same reason, is one line.
const TOGETHER: SignedDuration = SignedDuration::from_secs(1);

/// A table that is printed in pieces. Its columns grow where something wider comes.
#[derive(Debug)]
pub struct Table {
    zone: TimeZone,
    /// Characters in a line of the terminal, if it is one.
    width: Option<usize>,
    coloured: bool,
    widths: [usize; NARROW],
    headed: bool,
    /// The families of which events were seen.
    families: BTreeMap<UplinkName, BTreeSet<Family>>,
}

/// A line of the table.
#[derive(Debug)]
struct Row {
    cells: [String; COLUMNS],
    state: Option<State>,
}

impl Table {
    /// An empty table: times by the clock of `zone`, lines broken to fit `width` characters if one is
    /// given, in colours if `coloured`.
    #[must_use]
    pub const fn new(zone: TimeZone, width: Option<usize>, coloured: bool) -> Self {
        Self {
            zone,
            width,
            coloured,
            widths: [0; NARROW],
            headed: false,
            families: BTreeMap::new(),
        }
    }

    /// Has an event seen, whether or not it is shown: the family is told of uplinks that have events
    /// of both.
    pub fn see(&mut self, record: &Record) {
        if let (Some(uplink), Some(family)) = (record.event.uplink(), record.event.family()) {
            let families = self.families.entry(uplink.clone()).or_default();
            families.insert(family);
        }
    }

    /// The next lines, with the headings before the first. Where they are not the last (`more` may
    /// come) all columns are there, whatever is in them.
    pub fn render<'a>(
        &mut self,
        records: impl IntoIterator<Item = &'a Record>,
        more: bool,
    ) -> String {
        let mut rows = self.rows(records);
        if rows.is_empty() {
            return String::new();
        }
        if !std::mem::replace(&mut self.headed, true) {
            let heading = Row {
                cells: HEADINGS.map(str::to_owned),
                state: None,
            };
            rows.insert(0, heading);
        }
        for row in &rows {
            for (width, cell) in self.widths.iter_mut().zip(&row.cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let mut shown = [true; NARROW];
        for column in [UPLINK_COLUMN, FAMILY_COLUMN] {
            let mut cells = rows.iter().skip(1).filter_map(|row| row.cells.get(column));
            if let Some(shown) = shown.get_mut(column) {
                *shown = more || cells.any(|cell| !cell.is_empty());
            }
        }
        let mut text = String::new();
        for row in &rows {
            self.write_row(&mut text, row, shown);
        }
        text
    }

    fn rows<'a>(&self, records: impl IntoIterator<Item = &'a Record>) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let mut last: Option<&Record> = None;
        for record in records {
            if let (Some(before), Some(row)) = (last.take(), rows.last_mut())
                && is_the_same(before, record)
            {
                row.cells[FAMILY_COLUMN].clear();
                continue;
            }
            rows.push(self.row(record));
            last = Some(record);
        }
        rows
    }

    fn row(&self, record: &Record) -> Row {
        let (what, why, state) = words(&record.event, &self.zone);
        let uplink = record.event.uplink();
        let both = uplink
            .and_then(|uplink| self.families.get(uplink))
            .is_some_and(|families| families.len() > 1);
        let family = record.event.family().filter(|_| both);
        let when = record.time.to_zoned(self.zone.clone());
        Row {
            cells: [
                when.strftime("%Y-%m-%d %H:%M:%S").to_string(),
                uplink.map(UplinkName::to_string).unwrap_or_default(),
                family.map(|family| family.to_string()).unwrap_or_default(),
                what,
                one_line(&why),
            ],
            state,
        }
    }

    fn write_row(&self, text: &mut String, row: &Row, shown: [bool; NARROW]) {
        let [narrow @ .., why] = &row.cells;
        let mut line = String::new();
        let mut indent = 0;
        for (column, ((cell, width), shown)) in
            narrow.iter().zip(self.widths).zip(shown).enumerate()
        {
            if !shown {
                continue;
            }
            match row.state {
                Some(state) if self.coloured && column == EVENT_COLUMN => {
                    line.push_str(colour_of(state));
                    line.push_str(cell);
                    line.push_str("\x1b[0m");
                }
                _ => line.push_str(cell),
            }
            line.push_str(&" ".repeat(width.saturating_sub(cell.chars().count()) + 2));
            indent += width + 2;
        }
        let room = self
            .width
            .map(|width| width.saturating_sub(indent))
            .filter(|room| *room >= LEAST_WIDTH);
        let mut parts = broken(why, room).into_iter();
        line.push_str(&parts.next().unwrap_or_default());
        text.push_str(line.trim_end());
        text.push('\n');
        for part in parts {
            text.push_str(&" ".repeat(indent));
            text.push_str(&part);
            text.push('\n');
        }
    }
}

/// Whether both families of an uplink went the same way together.
fn is_the_same(before: &Record, record: &Record) -> bool {
    let change = |event: &Event| match event {
        Event::State {
            uplink,
            from,
            to,
            reason,
            ..
        } => Some((uplink.clone(), *from, *to, reason.clone())),
        _ => None,
    };
    let same = change(&before.event);
    same.is_some()
        && same == change(&record.event)
        && before.event.family() != record.event.family()
        && record.time.duration_since(before.time).abs() <= TOGETHER
}

/// A text of several lines in one.
fn one_line(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    lines.join("; ")
}

/// A text in lines of at most so many characters, broken between words where it has such places.
fn broken(text: &str, room: Option<usize>) -> Vec<String> {
    let Some(room) = room else {
        return vec![text.to_owned()];
    };
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > room {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        if used > 0 {
            line.push(' ');
            used += 1;
        }
        for letter in word.chars() {
            if used == room {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(letter);
            used += 1;
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
