//! A configuration as a person writes it: keys in an order that reads well, with comments.
//!
//! What is written is read by [`crate::config`] before anybody sees it, so that a draft is never
//! handed out which `failover check` refuses.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::config::{self, Config, ConfigError};
use crate::uplink::UplinkName;

/// How wide comments are, in characters.
const WIDTH: usize = 96;
/// The longest name of an uplink.
const LONGEST_NAME: usize = 32;

/// A key, what is said above it, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    comments: Vec<String>,
    key: String,
    value: Value,
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A word, a text or a number; put into quotes where YAML would take it for something else.
    Scalar(String),
    /// A list in one line.
    Row(Vec<String>),
    /// A list, a line for each.
    Column(Vec<String>),
    /// A map.
    Map(Vec<Entry>),
    /// A list of maps.
    Maps(Vec<Vec<Entry>>),
    /// A value that is YAML already.
    Yaml(String),
}

impl Entry {
    /// A key and its value.
    #[must_use]
    pub fn new(key: impl Into<String>, value: Value) -> Self {
        Self {
            comments: Vec::new(),
            key: key.into(),
            value,
        }
    }

    /// A key with a single word or number.
    #[must_use]
    pub fn scalar(key: impl Into<String>, value: &(impl ToString + ?Sized)) -> Self {
        Self::new(key, Value::Scalar(value.to_string()))
    }

    /// The same, with a comment above it, below those that it has.
    #[must_use]
    pub fn with_comment(mut self, comment: impl Into<String>) -> Self {
        self.comments.push(comment.into());
        self
    }
}

/// The text of a configuration, and what it means.
///
/// # Errors
/// When what was put together is no configuration; the error says where and why.
pub fn written(about: &[String], entries: &[Entry]) -> Result<(String, Config), ConfigError> {
    let mut text = String::new();
    for line in about {
        comment(&mut text, 0, line);
    }
    for entry in entries {
        text.push('\n');
        write_entry(&mut text, 0, "", entry);
    }
    let config = config::parse(&text)?;
    Ok((text, config))
}

/// Why entries are not good, in a line; `None` when they are.
#[must_use]
pub fn trouble(entries: &[Entry]) -> Option<String> {
    let error = written(&[], entries).err()?;
    let problem = error.problems().first();
    Some(problem.map_or_else(|| error.to_string(), ToString::to_string))
}

fn write_entry(text: &mut String, depth: usize, mark: &str, entry: &Entry) {
    for line in &entry.comments {
        comment(text, depth, line);
    }
    let lead = " ".repeat(depth.saturating_sub(mark.len()));
    let key = quoted(&entry.key);
    let start = format!("{lead}{mark}{key}:");
    match &entry.value {
        Value::Scalar(value) => line(text, &format!("{start} {}", quoted(value))),
        Value::Yaml(value) => line(text, &format!("{start} {value}")),
        Value::Row(items) => line(text, &format!("{start} [{}]", row(items))),
        Value::Column(items) => {
            line(text, &start);
            for item in items {
                line(
                    text,
                    &format!("{}- {}", " ".repeat(depth + 2), quoted(item)),
                );
            }
        }
        Value::Map(entries) => {
            line(text, &start);
            for entry in entries {
                write_entry(text, depth + 2, "", entry);
            }
        }
        Value::Maps(maps) => {
            line(text, &start);
            for entries in maps {
                for (position, entry) in entries.iter().enumerate() {
                    let mark = if position == 0 { "- " } else { "" };
                    write_entry(text, depth + 4, mark, entry);
                }
            }
        }
    }
}

fn row(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    items.join(", ")
}

fn line(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

/// A comment, broken between words.
fn comment(text: &mut String, depth: usize, words: &str) {
    let lead = format!("{}#", " ".repeat(depth));
    let mut current = lead.clone();
    for word in words.split_whitespace() {
        if current.chars().count() + 1 + word.chars().count() > WIDTH && current != lead {
            line(text, &current);
            current.clone_from(&lead);
        }
        current.push(' ');
        current.push_str(word);
    }
    line(text, &current);
}

/// A text as YAML: plain where nothing else can be meant by it.
fn quoted(text: &str) -> String {
    let plain = text
        .chars()
        .next()
        .is_some_and(|first| first.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '%'));
    let word_of_yaml = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    let is_target = text.contains("://") && !text.contains("::") && text.chars().all(is_of_url);
    if (plain && !word_of_yaml.contains(&text.to_ascii_lowercase().as_str()))
        || matches!(text, "true" | "false" | "auto")
        || is_target
    {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if c.is_control() => {
                // Nothing that is read here is longer than a line.
                let _infallible = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

const fn is_of_url(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, ':' | '/' | '.' | '-' | '_')
}

/// Gives uplinks names that nobody has yet.
#[derive(Debug, Default)]
pub struct Names(BTreeSet<String>);

impl Names {
    /// A name near to a text: small letters, digits and dashes.
    pub fn name(&mut self, text: &str) -> String {
        let mut near = String::new();
        for c in text.chars() {
            if c.is_ascii_alphanumeric() || matches!(c, '_' | '.') {
                near.push(c.to_ascii_lowercase());
            } else if !near.is_empty() && !near.ends_with('-') {
                near.push('-');
            }
        }
        near.truncate(LONGEST_NAME - 4);
        let near = near.trim_matches(['-', '_', '.']);
        let near = if near.parse::<UplinkName>().is_ok() {
            near
        } else {
            "uplink"
        };
        let numbered = (2_usize..).map(|number| format!("{near}-{number}"));
        let name = std::iter::once(near.to_owned())
            .chain(numbered)
            .find(|name| !self.0.contains(name))
            .unwrap_or_default();
        self.0.insert(name.clone());
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_yaml_takes_for_something_else_is_put_into_quotes() {
        for (text, written) in [
            ("wan1", "wan1"),
            ("icmp://192.0.2.1", "icmp://192.0.2.1"),
            ("icmp://2001:db8::1", "\"icmp://2001:db8::1\""),
            ("off", "\"off\""),
            ("Provider \"1\"", "\"Provider \\\"1\\\"\""),
            ("fd00::/8", "\"fd00::/8\""),
            ("", "\"\""),
            ("500ms", "500ms"),
        ] {
            assert_eq!(quoted(text), written);
        }
    }

    #[test]
    fn names_are_near_to_what_they_are_made_of_and_given_once() {
        let mut names = Names::default();
        assert_eq!(names.name("Example Provider 1"), "example-provider-1");
        assert_eq!(names.name("Example, Provider 1"), "example-provider-1-2");
        assert_eq!(names.name("…"), "uplink");
        let long = names.name(&"x".repeat(100));
        assert!(long.parse::<UplinkName>().is_ok(), "{long}");
    }

    #[test]
    fn comments_are_broken_between_words() {
        let mut text = String::new();
        comment(&mut text, 2, &"word ".repeat(30));
        assert_eq!(text.lines().count(), 2);
        assert!(text.lines().all(|line| line.starts_with("  # word")));
    }
}
