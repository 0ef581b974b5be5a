//! What is wrong with a configuration, as people read it.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::tree::Place;

/// How many problems are printed; the rest is counted.
const PRINTED: usize = 50;
/// The longest source line that is shown below a problem, in characters.
const SHOWN_LINE: usize = 120;
/// Lines with these words are not shown: somebody may have written a password there.
const SECRETIVE: [&str; 4] = ["pass", "secret", "token", "authorization"];
/// How much of a value or key is shown, in characters.
const SHOWN_VALUE: usize = 60;

/// Why there is no configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot read the configuration: {cause}; another file is named with --config", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// The file was read and is no configuration.
    #[error("{0}")]
    Rejected(Rejected),
}

/// Everything that is wrong with one file, in its order. Printed, each problem begins a line with
/// `FILE:LINE:COLUMN: ` and the source line follows, its place marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejected {
    file: Option<PathBuf>,
    problems: Vec<Problem>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    place: Option<Place>,
    key: Option<String>,
    found: String,
    allowed: String,
    hint: Option<String>,
    line: Option<String>,
    /// The line holds what nobody is to see.
    secret: bool,
}

impl ConfigError {
    pub(super) fn rejected(mut problems: Vec<Problem>, text: &str) -> Self {
        problems.sort_by_key(|problem| problem.place);
        let line = |problem: &Problem| problem.place.map(|place| place.line);
        let hidden: BTreeSet<_> = problems
            .iter()
            .filter(|problem| problem.secret)
            .filter_map(line)
            .collect();
        for problem in problems.iter_mut().take(PRINTED) {
            problem.line = problem
                .place
                .filter(|place| !hidden.contains(&place.line))
                .and_then(|place| line_of(text, place));
        }
        Self::Rejected(Rejected {
            file: None,
            problems,
        })
    }

    /// The same, with the name of the file.
    #[must_use]
    pub(super) fn in_file(self, path: &Path) -> Self {
        match self {
            Self::Rejected(rejected) => Self::Rejected(Rejected {
                file: Some(path.to_owned()),
                ..rejected
            }),
            unreadable @ Self::Unreadable { .. } => unreadable,
        }
    }

    /// What is wrong with the file; empty when it could not be read.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Rejected(rejected) => &rejected.problems,
            Self::Unreadable { .. } => &[],
        }
    }
}

impl Problem {
    /// A problem of a key's value; found and allowed are shown as they are.
    pub(super) fn new(found: impl Into<String>, allowed: impl Into<String>) -> Self {
        Self {
            place: None,
            key: None,
            found: found.into(),
            allowed: allowed.into(),
            hint: None,
            line: None,
            secret: false,
        }
    }

    pub(super) fn at(mut self, place: impl Into<Option<Place>>) -> Self {
        self.place = place.into();
        self
    }

    pub(super) fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into()).filter(|key| !key.is_empty());
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }

    /// Its line is not shown, and neither are those of others on the same.
    pub(super) const fn secret(mut self) -> Self {
        self.secret = true;
        self
    }

    /// Where it is; none for what concerns the file as a whole.
    #[must_use]
    pub const fn place(&self) -> Option<Place> {
        self.place
    }

    /// What stands there.
    #[must_use]
    pub fn found(&self) -> &str {
        &self.found
    }

    /// What may stand there.
    #[must_use]
    pub fn allowed(&self) -> &str {
        &self.allowed
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(key) = &self.key {
            write!(f, "key `{}`: ", shown(key))?;
        }
        write!(f, "found {}, allowed: {}", self.found, self.allowed)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, problem) in self.problems.iter().take(PRINTED).enumerate() {
            if number > 0 {
                f.write_char('\n')?;
            }
            if let Some(file) = &self.file {
                write!(f, "{}:", file.display())?;
            }
            if let Some(place) = problem.place {
                write!(f, "{place}:")?;
            }
            if self.file.is_some() || problem.place.is_some() {
                f.write_char(' ')?;
            }
            write!(f, "{problem}")?;
            if let (Some(place), Some(line)) = (problem.place, &problem.line) {
                let before = usize::try_from(place.column).unwrap_or(1).saturating_sub(1);
                write!(f, "\n    {line}\n    {:before$}^", "")?;
            }
        }
        match self.problems.len().saturating_sub(PRINTED) {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

/// The line of a place, when it is fit to be shown.
fn line_of(text: &str, place: Place) -> Option<String> {
    let index = usize::try_from(place.line.checked_sub(1)?).ok()?;
    let line = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line = line.lines().nth(index)?;
    let lower = line.to_lowercase();
    let may_be_secret = SECRETIVE.iter().any(|word| lower.contains(word));
    (!line.trim().is_empty() && !may_be_secret && line.chars().count() <= SHOWN_LINE)
        // One character each, so that the mark below stands where it should.
        .then(|| line.replace(|c: char| c.is_control(), " "))
}

/// A piece of the file as it is shown: one line, short, and with nothing in it that a terminal
/// would obey.
pub(super) fn shown(text: &str) -> String {
    let mut out = String::new();
    for (position, c) in text.trim().chars().enumerate() {
        if c == '\n' || position >= SHOWN_VALUE {
            out.push('…');
            break;
        }
        if c.is_control() {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(problems: Vec<Problem>, text: &str) -> String {
        ConfigError::rejected(problems, text)
            .in_file(Path::new("f.yaml"))
            .to_string()
    }

    #[test]
    fn problems_are_printed_in_the_order_of_the_file_with_their_place_marked() {
        let at = |line, column| {
            Problem::new("`0`", "1 to 256")
                .at(Place { line, column })
                .key("a.b")
        };
        assert_eq!(
            printed(vec![at(2, 4), at(1, 1)], "a:\n\tb: 0\n"),
            "f.yaml:1:1: key `a.b`: found `0`, allowed: 1 to 256\n    a:\n    ^\n\
             f.yaml:2:4: key `a.b`: found `0`, allowed: 1 to 256\n     b: 0\n       ^"
        );
    }

    #[test]
    fn a_problem_of_the_whole_file_has_no_place() {
        assert_eq!(
            printed(vec![Problem::new("too much", "less")], ""),
            "f.yaml: found too much, allowed: less"
        );
    }

    #[test]
    fn a_flood_of_problems_is_counted_and_not_printed() {
        let text = printed(vec![Problem::new("x", "y"); PRINTED + 7], "");
        assert_eq!(text.lines().count(), PRINTED + 1);
        assert!(text.ends_with("\nand 7 more"), "{text}");
    }

    #[test]
    fn terminals_get_no_orders_from_a_file() {
        assert_eq!(shown("\u{1b}[2Jx\u{7}"), "\\u{1b}[2Jx\\u{7}");
        assert_eq!(shown("first\nsecond"), "first…");
        assert_eq!(shown(&"x".repeat(100)).chars().count(), SHOWN_VALUE + 1);
        let text = printed(
            vec![Problem::new("x", "y").at(Place { line: 1, column: 3 })],
            "a\u{1b}b",
        );
        assert!(text.ends_with("\n    a b\n      ^"), "{text:?}");
    }
}
