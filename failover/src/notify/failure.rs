//! Why a message was not delivered.

use std::error::Error;
use std::fmt;

use crate::causes::in_one_line;
use crate::health::Failure;

/// How much of what somebody else says is told, in characters.
const TOLD: usize = 300;

/// Why a message was not delivered, in one line and without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotSent {
    reason: String,
    refused: bool,
}

impl NotSent {
    /// It may work a little later.
    pub(super) fn yet(reason: impl fmt::Display) -> Self {
        Self {
            reason: in_a_line(&reason.to_string()),
            refused: false,
        }
    }

    /// Somebody said no, and will say so again until somebody changes something.
    pub(super) fn refused(reason: impl fmt::Display) -> Self {
        Self {
            refused: true,
            ..Self::yet(reason)
        }
    }

    pub(super) fn of(error: &(dyn Error + 'static)) -> Self {
        Self::yet(in_one_line(error))
    }

    /// Whether it was refused, rather than not reached.
    #[must_use]
    pub const fn is_refused(&self) -> bool {
        self.refused
    }
}

impl fmt::Display for NotSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl Error for NotSent {}

impl From<Failure> for NotSent {
    fn from(failure: Failure) -> Self {
        Self::yet(failure)
    }
}

/// What others say, fit for a log: one line, no control characters, not too long.
pub(super) fn in_a_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let line = words.join(" ");
    let mut told: String = line
        .chars()
        .filter(|c| !c.is_control())
        .take(TOLD)
        .collect();
    if line.chars().count() > TOLD {
        told.push('…');
    }
    told
}
