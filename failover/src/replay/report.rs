//! What there is to say when a trace has been played.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

use crate::config::{ProbeConfig, Target, written};
use crate::family::Family;
use crate::interface::InterfaceName;
use crate::replay::course::{Change, Course};
use crate::replay::format::Begin;
use crate::replay::player::{Difference, Gap, Jump, Replay};
use crate::status::State;
use crate::uplink::UplinkName;

/// The result of playing a trace.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The uplink.
    pub uplink: UplinkName,
    /// Its interface.
    pub interface: InterfaceName,
    /// The first moment.
    pub since: Timestamp,
    /// The last moment.
    pub until: Timestamp,
    /// Whether all verdicts with the settings of the trace are those that were recorded.
    pub same_as_recorded: bool,
    /// Where they are not.
    pub contradictions: Vec<String>,
    /// What the other settings would have changed, and no trace can tell.
    pub not_replayed: Vec<String>,
    /// Lines that made no sense.
    pub senseless_lines: u64,
    /// Times of which nothing is told.
    pub gaps: Vec<Gap>,
    /// When the clock on the wall was set.
    pub clock_jumps: Vec<Jump>,
    /// The families.
    pub families: Vec<FamilyReport>,
}

/// The result for one family.
#[derive(Debug, Serialize)]
pub struct FamilyReport {
    /// The family.
    pub family: Family,
    /// With the settings of the trace.
    pub own: CourseReport,
    /// With the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<CourseReport>,
    /// Where the two differ.
    pub differences: Vec<Difference>,
}

/// What became of it.
#[derive(Clone, Debug, Serialize)]
pub struct CourseReport {
    /// The changes of state.
    pub changes: Vec<Change>,
    /// The time in each state.
    pub seconds: Vec<Lasted>,
    /// How often it went down.
    pub times_down: usize,
}

/// The time in a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lasted {
    /// The state.
    pub state: State,
    /// How long.
    #[serde(serialize_with = "seconds")]
    pub seconds: Duration,
}

impl Report {
    /// What there is to say of a trace; `None` when nothing was played.
    #[must_use]
    pub fn of(replay: &Replay, senseless_lines: u64, not_replayed: Vec<String>) -> Option<Self> {
        let first = replay.first()?;
        let contradictions: Vec<String> = replay
            .families()
            .flat_map(|(family, played)| {
                let of_family = move |text: &String| format!("{family}, {text}");
                played.contradictions.iter().map(of_family)
            })
            .collect();
        let families = replay.families().map(|(family, played)| FamilyReport {
            family,
            own: CourseReport::of(played.own()),
            other: played.other().map(CourseReport::of),
            differences: played.differences.clone(),
        });
        Some(Self {
            uplink: first.uplink.clone(),
            interface: first.interface.clone(),
            since: first.wall,
            until: replay.end(),
            same_as_recorded: contradictions.is_empty(),
            contradictions,
            not_replayed,
            senseless_lines,
            gaps: replay.gaps.clone(),
            clock_jumps: replay.jumps.clone(),
            families: families.collect(),
        })
    }
}

impl CourseReport {
    fn of(course: &Course) -> Self {
        let lasted = |(state, time): (&State, &Duration)| Lasted {
            state: *state,
            seconds: *time,
        };
        Self {
            changes: course.changes.clone(),
            seconds: course.lasted.iter().map(lasted).collect(),
            times_down: course.downs(),
        }
    }
}

/// Which of the settings would have had other probes sent than those of the trace, or have answers
/// judged as overdue at other times.
#[must_use]
pub fn not_replayed(begin: &Begin, other: &ProbeConfig) -> Vec<String> {
    let mut found = Vec::new();
    let times = [
        ("interval", begin.interval, other.interval),
        ("timeout", begin.timeout, other.timeout),
    ];
    for (key, was, is) in times {
        if was != is {
            found.push(format!("{key}: {} -> {}", written(was), written(is)));
        }
    }
    let (was, is): (BTreeSet<&Target>, BTreeSet<&Target>) = (
        begin.targets.iter().collect(),
        other.targets.iter().collect(),
    );
    let list = |targets: Vec<&&Target>| {
        let texts: Vec<String> = targets.iter().map(ToString::to_string).collect();
        texts.join(", ")
    };
    let (gone, new) = (
        list(was.difference(&is).collect()),
        list(is.difference(&was).collect()),
    );
    if !gone.is_empty() {
        found.push(format!("targets that were asked: {gone}"));
    }
    if !new.is_empty() {
        found.push(format!("targets that were not asked: {new}"));
    }
    found
}

/// A time as a number of seconds.
pub(super) fn seconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}

#[cfg(test)]
#[path = "report_tests.rs"]
mod tests;
