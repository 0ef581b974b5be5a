//! The key `log`: where the log goes.

use std::ops::RangeInclusive;

use super::model::{LogFile, LogTo};
use super::section::{Keys, Read, Section, Value};
use super::settings::LONGEST_PATH;
use super::tree::Content;
use super::value::{integer, path, size, word_or};

const ALLOWED: &str = "stderr, journal or a map such as {file: /var/log/failover/failover.log}";
/// And whether that is standard error.
const WORDS: [(&str, bool); 2] = [("stderr", true), ("journal", false)];
const KEYS: Keys = Keys {
    known: &["to"],
    later: &[],
};
const FILE_KEYS: Keys = Keys {
    known: &["file", "size", "keep"],
    later: &[],
};

/// How large a file may become, in bytes.
const SIZES: RangeInclusive<u64> = 100_000..=1_000_000_000;
const SIZE: u64 = 10 << 20;
/// How many full files are kept.
const KEPT: RangeInclusive<u32> = 1..=999;
const KEEP: u32 = 5;

/// Reads `log`.
pub(super) fn log(value: &Value<'_>) -> Read<LogTo> {
    let mut section = Section::open(value, &KEYS)?;
    let to = section.read("to", to);
    section.require(&to, "to", ALLOWED);
    section.finish(to.ok())
}

fn to(value: &Value<'_>) -> Read<LogTo> {
    if let Content::Map(entries) = &value.node.content
        && !entries.is_empty()
    {
        return file(value).map(LogTo::File);
    }
    let stderr = word_or(value, &WORDS, ALLOWED)?;
    Ok(if stderr {
        LogTo::Stderr
    } else {
        LogTo::Journal
    })
}

fn file(value: &Value<'_>) -> Read<LogFile> {
    let mut section = Section::open(value, &FILE_KEYS)?;
    let file = section.read("file", |v| path(v, LONGEST_PATH));
    section.require(&file, "file", "an absolute path");
    let size = section.read("size", |v| size(v, "", SIZES)).or(SIZE);
    let keep = section.read("keep", |v| integer(v, KEPT)).or(KEEP);
    section.finish(file.ok().map(|path| LogFile { path, size, keep }))
}
