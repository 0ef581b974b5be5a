//! What the lab's commands show a person: steps, a live line while something is waited for, and
//! results. Colour and live lines are for terminals only.

mod duration;
mod table;

use std::fmt::Display;
use std::future::Future;
use std::io::{IsTerminal, Write, stdout};
use std::time::{Duration, Instant};

pub use duration::Short;
pub use table::{Align, Table};

/// How often the live line is written anew.
const LIVE_STEP: Duration = Duration::from_millis(100);
/// Without a terminal a plain line now and then says that the wait goes on.
const PLAIN_STEP: Duration = Duration::from_secs(10);
/// A live line that is longer would wrap and could not be overwritten.
const LIVE_WIDTH: usize = 78;

const CLEAR_LINE: &str = "\r\x1b[2K";

/// How a piece of text is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A heading.
    Strong,
    /// Beside the point.
    Faint,
    /// As it should be.
    Good,
    /// Not as it should be.
    Bad,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Self::Strong => "\x1b[1m",
            Self::Faint => "\x1b[2m",
            Self::Good => "\x1b[32m",
            Self::Bad => "\x1b[1;31m",
        }
    }
}

/// Standard output as a person sees it.
#[derive(Debug)]
pub struct Terminal {
    live: bool,
    coloured: bool,
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Terminal {
    /// Live and coloured if standard output is a terminal that can do it; without colour if the
    /// variable `NO_COLOR` is set and not empty.
    #[must_use]
    pub fn new() -> Self {
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        let live = stdout().is_terminal() && !dumb;
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            live,
            coloured: live && !plain,
        }
    }

    /// Text in a style, if there is colour.
    #[must_use]
    pub fn styled(&self, style: Style, text: impl Display) -> String {
        if self.coloured {
            format!("{}{text}\x1b[0m", style.code())
        } else {
            text.to_string()
        }
    }

    /// A line, or several.
    pub fn line(&self, text: impl Display) {
        write(&format!("{text}\n"));
    }

    /// A heading with an empty line before it.
    pub fn heading(&self, text: impl Display) {
        self.line(format!("\n{}", self.styled(Style::Strong, text)));
    }

    /// Whether something is as it should be.
    pub fn verdict(&self, met: bool, text: impl Display) {
        let word = if met {
            self.styled(Style::Good, "ok     ")
        } else {
            self.styled(Style::Bad, "NOT MET")
        };
        self.line(format!("  {word}  {text}"));
    }

    /// What a command wrote, indented; the states of uplinks in colour.
    pub fn quote(&self, text: &str) {
        for line in text.lines() {
            if line.is_empty() {
                self.line("");
                continue;
            }
            let line = [("  up  ", Style::Good), ("  down  ", Style::Bad)]
                .into_iter()
                .fold(line.to_owned(), |line, (state, style)| {
                    let word = state.trim();
                    let coloured = self.styled(style, word);
                    line.replacen(state, &state.replace(word, &coloured), 1)
                });
            self.line(format!("    {line}"));
        }
    }

    /// Shows how a wait goes on until `work` is done: `text` is given the time since the wait began.
    pub async fn while_waiting<T>(
        &self,
        work: impl Future<Output = T>,
        mut text: impl FnMut(Duration) -> String,
    ) -> T {
        let start = Instant::now();
        let step = if self.live { LIVE_STEP } else { PLAIN_STEP };
        let first = tokio::time::Instant::now() + step;
        let mut next = tokio::time::interval_at(first, step);
        tokio::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => {
                    if self.live {
                        write(CLEAR_LINE);
                    }
                    return done;
                }
                _ = next.tick() => {
                    let text = text(start.elapsed());
                    if self.live {
                        let cut: String = text.chars().take(LIVE_WIDTH).collect();
                        write(&format!("{CLEAR_LINE}{}", self.styled(Style::Faint, cut)));
                    } else {
                        self.line(text);
                    }
                }
            }
        }
    }
}

/// Whether anybody reads is none of our business: the exit status counts all the same.
fn write(text: &str) {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .ok();
}
