//! The key `affinity`, of `flows` and of a rule: which flows go together, and for how long that is
//! remembered.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::model::Affinity;
use super::section::{Keys, Read, Section, Value};
use super::tree::Content;
use super::value::{duration, word_or};

const ALLOWED: &str = "flow, pair, source or a map such as {source: 10m}";
const WORDS: [(&str, Affinity); 3] = [
    ("flow", Affinity::Flow),
    ("pair", Affinity::Pair(None)),
    ("source", Affinity::Source(None)),
];
const KEYS: Keys = Keys {
    known: &["pair", "source"],
    later: &[],
};

/// How long an uplink may be remembered.
const MEMORIES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(24);

/// Reads `affinity`.
pub(super) fn affinity(value: &Value<'_>) -> Read<Affinity> {
    if let Content::Map(entries) = &value.node.content
        && !entries.is_empty()
    {
        let mut section = Section::open(value, &KEYS)?;
        let pair = section.read("pair", |v| duration(v, MEMORIES)).ok();
        let source = section.read("source", |v| duration(v, MEMORIES)).ok();
        if entries.len() > 1 {
            section.problem(value.problem("one of pair and source"));
        }
        let pair = pair.map(|time| Affinity::Pair(Some(time)));
        return section.finish(pair.or(source.map(|time| Affinity::Source(Some(time)))));
    }
    word_or(value, &WORDS, ALLOWED)
}
