//! What a person reads of an event.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::family::Family;
use crate::journal::event::{DrainStep, Event, Repeated, Step};
use crate::reload::Change;
use crate::status::{State, size};

/// What happened, why, and the state that gives it its colour.
pub(super) fn words(event: &Event, zone: &TimeZone) -> (String, String, Option<State>) {
    let plain = |what: &str, why: String| (what.to_owned(), why, None);
    match event {
        Event::Started {
            mode,
            version,
            interrupted,
        } => {
            let mut why = format!("version {version}, mode {mode}");
            if *interrupted {
                why.push_str("; the last one was killed or crashed, or power was lost");
            }
            plain("started", why)
        }
        Event::Stopped { reason } => plain(
            "stopped",
            reason
                .clone()
                .unwrap_or_else(|| "the last selection stays in the kernel".to_owned()),
        ),
        Event::Fallback { reason } => {
            plain("mode classic", format!("eBPF does not work here: {reason}"))
        }
        Event::State {
            from, to, reason, ..
        } => (change(*from, *to), reason.clone(), Some(*to)),
        Event::Drain {
            via, step, seconds, ..
        } => drain(via.as_deref(), *step, *seconds),
        Event::Target {
            target,
            uplink,
            aside,
            ..
        } => match (aside, uplink) {
            (false, _) => plain("target back", format!("{target} answers and counts again")),
            (true, Some(_)) => plain(
                "target aside",
                format!("{target} is silent by this uplink alone, whose other targets answer"),
            ),
            (true, None) => plain(
                "target aside",
                format!("{target} is silent by all uplinks, so it is its own fault"),
            ),
        },
        Event::Trusted { families, .. } => plain("trusted", trusted(families)),
        Event::ByHand { step, until, .. } => by_hand(*step, *until, zone),
        Event::Flushed { flows } => plain("flushed", flushed(*flows)),
        Event::Budget { bytes, budget, .. } => plain(
            "budget used up",
            format!(
                "probes took {} of {} today: it is asked rarely until midnight UTC",
                size(*bytes),
                size(*budget)
            ),
        ),
        Event::Reloaded { changes, omitted } => plain("reloaded", reloaded(changes, *omitted)),
        Event::ReloadRefused { reason } => (
            "not reloaded".to_owned(),
            reason.clone(),
            Some(State::Degraded),
        ),
        Event::SetReloaded { set, ranges } => plain(
            "set reloaded",
            format!("{set} has {ranges} prefixes and ranges now"),
        ),
        Event::SetRefused { set, reason } => (
            "set not reloaded".to_owned(),
            format!("{set} stays as it was: {reason}"),
            Some(State::Degraded),
        ),
        Event::Repaired { reason } => {
            plain("repaired", format!("{reason}; it is as it should be again"))
        }
        Event::Problem { reason } => (
            "problem".to_owned(),
            format!("the kernel is not in the wanted state: {reason}"),
            Some(State::Down),
        ),
        Event::Solved => (
            "solved".to_owned(),
            "the kernel is in the wanted state again".to_owned(),
            Some(State::Up),
        ),
        Event::Offline => (
            "offline".to_owned(),
            "no uplink works".to_owned(),
            Some(State::Down),
        ),
        Event::Online => (
            "online".to_owned(),
            "an uplink works again".to_owned(),
            Some(State::Up),
        ),
        Event::NotNotified {
            channel,
            count,
            reason,
        } => (
            "not notified".to_owned(),
            format!("{count} notifications by {channel} are given up: {reason}"),
            Some(State::Degraded),
        ),
        Event::Repeated(repeated) => counted(repeated, zone),
        Event::Missed { count } => plain(
            "not kept",
            format!("{count} events: the disk was too slow or full"),
        ),
        Event::Other => plain("other", "of a later version: see --json".to_owned()),
    }
}

fn change(from: State, to: State) -> String {
    format!("{} → {}", from.as_str(), to.as_str())
}

fn drain(
    via: Option<&str>,
    step: DrainStep,
    seconds: Option<u64>,
) -> (String, String, Option<State>) {
    let (what, why) = match step {
        DrainStep::Begun => (
            "draining",
            match seconds {
                Some(seconds) => {
                    format!("a better uplink is up again: open flows may finish within {seconds} s")
                }
                None => "a better uplink is up again: open flows may finish".to_owned(),
            },
        ),
        DrainStep::Over => (
            "drained",
            "flows that are left go to the better uplink".to_owned(),
        ),
        DrainStep::Kept => (
            "drained",
            "flows that are left stay, as `on_down: keep` says".to_owned(),
        ),
        DrainStep::CalledOff => ("draining off", "open flows stay".to_owned()),
        DrainStep::Moved => (
            "left",
            "a better uplink is up again: all flows go there".to_owned(),
        ),
    };
    let why = match via {
        Some(via) => format!("rules via {via}: {why}"),
        None => why,
    };
    (what.to_owned(), why, None)
}

fn trusted(families: &[Family]) -> String {
    if families.is_empty() {
        return "by hand: its failures are forgotten; it was not held back".to_owned();
    }
    let families: Vec<String> = families.iter().map(ToString::to_string).collect();
    format!("by hand: it was held back in {}", families.join(" and "))
}

fn by_hand(
    step: Step,
    until: Option<Timestamp>,
    zone: &TimeZone,
) -> (String, String, Option<State>) {
    let (what, why) = match (step, until) {
        (Step::Disabled, _) => ("disabled", "by hand".to_owned()),
        (Step::Draining, None) => (
            "draining",
            "by hand: open flows may finish, new ones go elsewhere".to_owned(),
        ),
        (Step::Draining, Some(until)) => (
            "draining",
            format!(
                "by hand: open flows may finish until {}, new ones go elsewhere",
                until.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S")
            ),
        ),
        (Step::Drained, _) => (
            "drained",
            "the time that was given by hand is over: disabled until it is enabled".to_owned(),
        ),
        (Step::Enabled, _) => ("enabled", "by hand".to_owned()),
    };
    (what.to_owned(), why, None)
}

fn flushed(flows: u64) -> String {
    let noun = if flows == 1 { "flow" } else { "flows" };
    format!("by hand: {flows} {noun} of the fast path went back to the stack")
}

fn reloaded(changes: &[Change], omitted: usize) -> String {
    let mut words: Vec<String> = changes.iter().map(ToString::to_string).collect();
    if omitted > 0 {
        words.push(format!("and {omitted} more"));
    }
    words.join(", ")
}

fn counted(repeated: &Repeated, zone: &TimeZone) -> (String, String, Option<State>) {
    let since = repeated.since.to_zoned(zone.clone());
    let since = since.strftime("%H:%M:%S");
    let count = repeated.count;
    let mut why = match (repeated.from, repeated.to) {
        (Some(_), Some(_)) => format!("the last of {count} changes since {since}"),
        _ => format!("{} {count} times since {since}", repeated.of),
    };
    if let Some(reason) = &repeated.reason {
        // Writing to a String cannot fail.
        let _infallible = write!(why, ": {reason}");
    }
    match (repeated.from, repeated.to) {
        (Some(from), Some(to)) => (change(from, to), why, Some(to)),
        _ => ("repeated".to_owned(), why, None),
    }
}
