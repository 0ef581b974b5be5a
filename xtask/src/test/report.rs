//! The summary at the end of the tests.

use std::fmt;
use std::time::Duration;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Good.
    Good,
    /// Not good.
    Bad,
}

/// One line of the summary: a check, or one test program.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// What it was.
    pub(crate) name: String,
    /// How many tests passed; a check is one test.
    pub(crate) passed: usize,
    /// How many failed.
    pub(crate) failed: usize,
    /// How long it took.
    pub(crate) took: Duration,
    /// What there is to say: why it failed, or what could not be shown.
    pub(crate) notes: Vec<String>,
}

impl Line {
    /// A check that was made.
    pub(crate) fn check(name: &str, outcome: Outcome, took: Duration, notes: Vec<String>) -> Self {
        let good = outcome == Outcome::Good;
        Self {
            name: name.to_owned(),
            passed: usize::from(good),
            failed: usize::from(!good),
            took,
            notes,
        }
    }
}

impl Line {
    /// In one word.
    pub(crate) const fn result(&self) -> &'static str {
        if self.failed == 0 { "ok" } else { "FAILED" }
    }
}

/// Everything that ran.
#[derive(Debug, Default)]
pub(crate) struct Report {
    lines: Vec<Line>,
}

impl Report {
    /// Adds what came next.
    pub(crate) fn add(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// The summary of everything, which took this long. Its last line is `N passed, N failed`.
    pub(crate) fn summary(&self, took: Duration) -> impl fmt::Display {
        Summary { report: self, took }
    }

    /// How many tests and checks passed.
    fn passed(&self) -> usize {
        self.lines.iter().map(|line| line.passed).sum()
    }

    /// How many failed.
    pub(crate) fn failed(&self) -> usize {
        self.lines.iter().map(|line| line.failed).sum()
    }
}

/// What a person reads at the end; its last line is for programs.
struct Summary<'a> {
    report: &'a Report,
    took: Duration,
}

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = &self.report.lines;
        let width = lines.iter().map(|line| line.name.chars().count()).max();
        let width = width.unwrap_or(0).max(4);
        writeln!(f, "{:width$}  result  passed  failed  seconds", "step")?;
        for line in lines {
            writeln!(
                f,
                "{:width$}  {:6}  {:6}  {:6}  {:7.1}",
                line.name,
                line.result(),
                line.passed,
                line.failed,
                line.took.as_secs_f64()
            )?;
            for note in &line.notes {
                writeln!(f, "    {note}")?;
            }
        }
        // What was compiled between the steps counts here only.
        writeln!(f, "{:width$}  {:>31.1}\n", "all", self.took.as_secs_f64())?;
        write!(
            f,
            "{} passed, {} failed",
            self.report.passed(),
            self.report.failed()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_with_the_sums() {
        let mut report = Report::default();
        report.add(Line::check(
            "format",
            Outcome::Good,
            Duration::ZERO,
            Vec::new(),
        ));
        report.add(Line::check(
            "clippy",
            Outcome::Bad,
            Duration::ZERO,
            vec!["why".into()],
        ));
        report.add(Line {
            name: "scenarios".into(),
            passed: 40,
            failed: 2,
            took: Duration::from_secs(60),
            notes: vec!["dies".into(), "returns".into()],
        });
        let text = report.summary(Duration::from_secs(90)).to_string();
        assert_eq!(text.lines().last(), Some("41 passed, 3 failed"));
        for said in ["clippy     FAILED", "why", "dies", "returns"] {
            assert!(text.contains(said), "{said} is not said in\n{text}");
        }
    }
}
