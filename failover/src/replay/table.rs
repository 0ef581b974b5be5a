//! What came of playing a trace, for people.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::replay::course::Change;
use crate::replay::player::Difference;
use crate::replay::report::{CourseReport, FamilyReport, Report};
use crate::status::State;

/// How many contradictions, gaps and the like are told one by one.
const SHOWN: usize = 10;

/// The text. `other` names the other settings.
#[must_use]
pub fn render(report: &Report, zone: &TimeZone, other: Option<&str>) -> String {
    let when = |time: Timestamp| {
        let time = time.to_zoned(zone.clone());
        time.strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
    };
    let own = if other.is_some() {
        "AS IT WAS"
    } else {
        "STATE"
    };
    let other = other.map(|name| format!("WITH {name}"));
    let mut text = format!(
        "{} ({}), {} to {}\n\n",
        report.uplink,
        report.interface,
        when(report.since),
        when(report.until)
    );
    text.push_str(&columns(&courses(report, own, other.as_deref(), when)));
    text.push('\n');
    text.push_str(&columns(&summary(report, own, other.as_deref())));
    text.push('\n');
    for family in &report.families {
        if other.is_some() {
            compare(&mut text, family, when);
        }
    }
    let mut say = |line: String| text.push_str(&(line + "\n"));
    if !report.not_replayed.is_empty() {
        say("These settings cannot be replayed, since other probes would have been sent; all others are:".to_owned());
        for what in &report.not_replayed {
            say(format!("  {what}"));
        }
    }
    for gap in report.gaps.iter().take(SHOWN) {
        say(format!(
            "Nothing is known from {} to {}.",
            when(gap.since),
            when(gap.until)
        ));
    }
    for jump in report.clock_jumps.iter().take(SHOWN) {
        say(format!(
            "The clock was set, or the host slept: from {} to {}.",
            when(jump.from),
            when(jump.to)
        ));
    }
    if report.senseless_lines > 0 {
        say(format!(
            "Lines that make no sense and were left out: {}.",
            report.senseless_lines
        ));
    }
    if report.same_as_recorded {
        say(
            "Played with the settings of the trace, the verdicts are those that were recorded."
                .to_owned(),
        );
    } else {
        say(
            "Played with the settings of the trace, the verdicts are NOT those that were recorded:"
                .to_owned(),
        );
        for what in report.contradictions.iter().take(SHOWN) {
            say(format!("  {what}"));
        }
    }
    text
}

/// All changes in their order.
fn courses(
    report: &Report,
    own: &str,
    other: Option<&str>,
    when: impl Fn(Timestamp) -> String,
) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for family in &report.families {
        let mut theirs: Vec<&Change> = family.other.iter().flat_map(|c| &c.changes).collect();
        for change in &family.own.changes {
            let same = |their: &&Change| their.time == change.time;
            let at = theirs.iter().position(same);
            let their = at.map(|at| theirs.remove(at));
            rows.push((change.time, family.family, Some(change), their));
        }
        rows.extend(
            theirs
                .into_iter()
                .map(|their| (their.time, family.family, None, Some(their))),
        );
    }
    rows.sort_by_key(|(time, family, ..)| (*time, *family));
    if rows.is_empty() {
        return vec![vec!["No state changed.".to_owned()]];
    }
    let mut head = vec!["WHEN", "FAMILY", own];
    head.extend(other);
    head.push("WHY");
    let mut table = vec![head.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    for (time, family, own, their) in rows {
        let step = |change: Option<&Change>| {
            change.map_or_else(String::new, |change| {
                format!("{} → {}", change.from.as_str(), change.to.as_str())
            })
        };
        let mut row = vec![when(time), family.to_string(), step(own)];
        if other.is_some() {
            row.push(step(their));
        }
        let reasons = [own, their].map(|change| change.map(|change| change.reason.as_str()));
        row.push(match reasons {
            [Some(own), Some(their)] if own != their => format!("{own}; {their}"),
            [Some(reason), _] | [None, Some(reason)] => reason.to_owned(),
            [None, None] => String::new(),
        });
        table.push(row);
    }
    table
}

fn summary(report: &Report, own: &str, other: Option<&str>) -> Vec<Vec<String>> {
    let mut head = vec![String::new(), String::new(), own.to_owned()];
    head.extend(other.map(str::to_owned));
    let mut table = vec![head];
    for family in &report.families {
        let courses: Vec<&CourseReport> = [Some(&family.own), family.other.as_ref()]
            .into_iter()
            .flatten()
            .collect();
        let mut rows: Vec<(String, Vec<String>)> = Vec::new();
        let states = [
            State::Up,
            State::Degraded,
            State::Unknown,
            State::Down,
            State::Absent,
        ];
        for state in states {
            let times: Vec<Option<Duration>> =
                courses.iter().map(|course| course.lasted(state)).collect();
            if times.iter().any(Option::is_some) {
                let texts = times
                    .into_iter()
                    .map(|time| time.map_or_else(String::new, span));
                rows.push((state.as_str().to_owned(), texts.collect()));
            }
        }
        let count = |of: fn(&CourseReport) -> usize| {
            courses
                .iter()
                .map(|course| of(course).to_string())
                .collect()
        };
        rows.push(("times down".to_owned(), count(|course| course.times_down)));
        rows.push((
            "changes of state".to_owned(),
            count(|course| course.changes.len()),
        ));
        for (place, (what, cells)) in rows.into_iter().enumerate() {
            let of = if place == 0 {
                family.family.to_string()
            } else {
                String::new()
            };
            let mut row = vec![of, what];
            row.extend(cells);
            table.push(row);
        }
    }
    table
}

fn compare(text: &mut String, family: &FamilyReport, when: impl Fn(Timestamp) -> String) {
    let Some(other) = &family.other else { return };
    let name = family.family;
    if family.differences.is_empty() {
        text.push_str(&format!("{name}: the states would have been the same.\n"));
        return;
    }
    let total = family
        .differences
        .iter()
        .fold(Duration::ZERO, |sum, difference| {
            sum.saturating_add(difference.lasted)
        });
    let downs = match (family.own.times_down, other.times_down) {
        (was, 0) if was > 0 => "it would not have gone down, and ".to_owned(),
        (was, is) if was != is => {
            let times = if is == 1 { "time" } else { "times" };
            format!("it would have gone down {is} {times} instead of {was}, and ")
        }
        _ => String::new(),
    };
    // Writing to a string does not fail.
    writeln!(
        text,
        "{name}: {downs}the states would have differed for {}:",
        span(total)
    )
    .ok();
    for Difference {
        since,
        lasted,
        own,
        other,
        ..
    } in family.differences.iter().take(SHOWN)
    {
        writeln!(
            text,
            "  {}, {}: {} instead of {}",
            when(*since),
            span(*lasted),
            other.as_str(),
            own.as_str()
        )
        .ok();
    }
    let more = family.differences.len().saturating_sub(SHOWN);
    if more > 0 {
        writeln!(text, "  and {more} more times").ok();
    }
}

impl CourseReport {
    fn lasted(&self, state: State) -> Option<Duration> {
        let found = self.seconds.iter().find(|lasted| lasted.state == state);
        found.map(|lasted| lasted.seconds)
    }
}

/// Rows as lines whose columns stand below each other.
fn columns(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter(|row| row.len() > column + 1);
        cells
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            write!(line, "{cell:<width$}  ").ok();
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A time as people say it.
fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    if seconds < 60 {
        format!("{}.{} s", seconds, time.subsec_millis() / 100)
    } else if seconds < 3600 {
        format!("{} min {} s", seconds / 60, seconds % 60)
    } else if seconds < 86_400 {
        format!("{} h {} min", seconds / 3600, seconds % 3600 / 60)
    } else {
        format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3600)
    }
}
