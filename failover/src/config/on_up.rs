//! The key `flows.on_up`: what happens to flows when a better uplink returns.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::model::OnUp;
use super::section::{Keys, Read, Section, Value};
use super::tree::Content;
use super::value::{duration, word_or};

const ALLOWED: &str = "stay, move or a map such as {drain: 5m}";
const WORDS: [(&str, OnUp); 2] = [("stay", OnUp::Stay), ("move", OnUp::Move)];
const KEYS: Keys = Keys {
    known: &["drain"],
    later: &[],
};

/// How long old flows may be given.
const DRAINS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// Drains a metered uplink whose `flows` does not say otherwise.
const METERED: Duration = Duration::from_mins(5);

/// Reads `on_up`.
pub(super) fn on_up(value: &Value<'_>) -> Read<OnUp> {
    if let Content::Map(entries) = &value.node.content
        && !entries.is_empty()
    {
        let mut section = Section::open(value, &KEYS)?;
        let drain = section.read("drain", |v| duration(v, DRAINS));
        return section.finish(drain.ok().map(OnUp::Drain));
    }
    if value.spelled() == Some("drain") {
        let hint = "draining needs a time: {drain: 5m}".to_owned();
        return Err(value.problem(ALLOWED).hint(Some(hint)).into());
    }
    word_or(value, &WORDS, ALLOWED)
}

/// What holds for an uplink: what it says itself, else what all say, except that flows do not stay
/// for ever where every byte is paid for.
pub(super) const fn of_uplink(own: Option<OnUp>, of_all: OnUp, metered: bool) -> OnUp {
    match (own, of_all) {
        (Some(own), _) => own,
        (None, OnUp::Stay) if metered => OnUp::Drain(METERED),
        (None, of_all) => of_all,
    }
}
