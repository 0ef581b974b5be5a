//! Reads from the output of cargo and its tests how many passed, and which failed.

use std::time::{Duration, Instant};

/// What one test program said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// Its name: of the library, or of the test target.
    pub(crate) name: String,
    /// How many tests passed.
    pub(crate) passed: usize,
    /// How many failed.
    pub(crate) failed: usize,
    /// Those that failed.
    pub(crate) failures: Vec<Failure>,
    /// The names of those that did not run, because they are marked so.
    pub(crate) ignored: Vec<String>,
    /// How long it ran; only known once it has ended.
    pub(crate) took: Duration,
    /// Whether it came to its end.
    pub(crate) ended: bool,
    /// How many tests were good so far; what counts once it has ended is what it says then.
    good: usize,
    /// The name of the test that ended last.
    last: Option<String>,
    /// The failure, by its place in the list, whose reason is being told.
    explained: Option<usize>,
}

/// A test that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Its name.
    pub(crate) name: String,
    /// How its reason begins.
    pub(crate) reason: Vec<String>,
}

/// How much of a reason is kept: lines, and characters of each.
const REASON: (usize, usize) = (4, 400);

/// All test programs of one call of `cargo test`, in the order in which they ran.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    targets: Vec<Target>,
    began: Option<Instant>,
}

impl Tally {
    /// Takes the next line of the output.
    pub(crate) fn heed(&mut self, line: &str, now: Instant) {
        let line = without_colour(line);
        let line = line.trim();
        if let Some(name) = started(line) {
            self.began = Some(now);
            self.targets.push(Target {
                name: name.to_owned(),
                ..Target::default()
            });
            return;
        }
        let Some(target) = self.targets.last_mut() else {
            return;
        };
        if let Some((passed, failed)) = result(line) {
            target.passed += passed;
            target.failed += failed;
            target.ended = true;
            target.took = self
                .began
                .map_or(Duration::ZERO, |began| now.duration_since(began));
        } else if let Some((name, outcome)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        {
            let name = name.trim_end().to_owned();
            target.last = Some(name.clone());
            if outcome == "ok" {
                target.good += 1;
            } else if outcome == "FAILED" {
                target.failures.push(Failure {
                    name,
                    reason: Vec::new(),
                });
            } else if outcome.starts_with("ignored") {
                target.ignored.push(name);
            }
        } else if let Some(name) = explained(line) {
            target.explained = target.failures.iter().position(|one| one.name == name);
        } else if line == "failures:" {
            target.explained = None;
        } else if let Some(failure) = target.explained.and_then(|at| target.failures.get_mut(at)) {
            failure.explain(line);
        }
    }

    /// What was read. A program that did not come to its end (a crash, an abort) has one failure
    /// more than it told of.
    pub(crate) fn finish(mut self) -> Vec<Target> {
        for target in self.targets.iter_mut().filter(|target| !target.ended) {
            target.passed = target.good;
            target.failed = target.failures.len() + 1;
            let name = match target.last.as_deref() {
                Some(last) => {
                    format!("(it ended before its last test did; the last seen was {last})")
                }
                None => "(it ended before its first test did)".to_owned(),
            };
            target.failures.push(Failure {
                name,
                reason: Vec::new(),
            });
        }
        self.targets
    }
}

impl Failure {
    /// Takes the next line of what is said of it. Where in the sources it was found is not the reason.
    fn explain(&mut self, line: &str) {
        let (lines, characters) = REASON;
        let place = line.starts_with("thread '") && line.contains("panicked at");
        if !line.is_empty() && !place && self.reason.len() < lines {
            self.reason.push(line.chars().take(characters).collect());
        }
    }
}

/// `---- NAME ----` or `---- NAME stdout ----`: what follows is why a test failed.
fn explained(line: &str) -> Option<&str> {
    let name = line.strip_prefix("---- ")?.strip_suffix(" ----")?;
    Some(name.strip_suffix(" stdout").unwrap_or(name))
}

/// `Running tests/a.rs (target/debug/deps/name-hash)`, `Doc-tests name`.
fn started(line: &str) -> Option<&str> {
    if let Some(name) = line.strip_prefix("Doc-tests ") {
        return Some(name);
    }
    // Every library is src/lib.rs: the program's name says more than the source's.
    let (_source, program) = line.strip_prefix("Running ")?.split_once(" (")?;
    let program = program.trim_end_matches(')').rsplit('/').next()?;
    Some(
        program
            .rsplit_once('-')
            .map_or(program, |(name, _hash)| name),
    )
}

/// `test result: ok. 3 passed; 0 failed; …`
fn result(line: &str) -> Option<(usize, usize)> {
    let counts = line.strip_prefix("test result: ")?.split_once(". ")?.1;
    let count = |what| {
        counts
            .split("; ")
            .find_map(|part| part.strip_suffix(what)?.trim().parse().ok())
    };
    Some((count(" passed")?, count(" failed")?))
}

/// Takes out the escape sequences that set colours.
fn without_colour(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut parts = line.split("\u{1b}[");
    text.extend(parts.next());
    for part in parts {
        text.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(output: &str) -> Vec<Target> {
        let mut tally = Tally::default();
        let now = Instant::now();
        output.lines().for_each(|line| tally.heed(line, now));
        let forget = |target| Target {
            good: 0,
            last: None,
            explained: None,
            ..target
        };
        tally.finish().into_iter().map(forget).collect()
    }

    fn failure(name: &str, reason: &[&str]) -> Failure {
        Failure {
            name: name.into(),
            reason: reason.iter().map(|line| (*line).to_owned()).collect(),
        }
    }

    fn target(name: &str, passed: usize, failures: &[&str], ended: bool) -> Target {
        Target {
            name: name.into(),
            passed,
            failed: failures.len(),
            failures: failures.iter().map(|name| failure(name, &[])).collect(),
            ended,
            ..Target::default()
        }
    }

    #[test]
    fn counts_every_program_by_its_name() {
        let output = "   Compiling failover v0.1.0\n\
            \u{1b}[1m\u{1b}[32m     Running\u{1b}[0m unittests src/lib.rs (target/debug/deps/failover-0a1b)\n\
            running 2 tests\ntest mark::tests::a ... ok\ntest mark::tests::b   ... \u{1b}[31mFAILED\u{1b}[0m\n\
            test result: \u{1b}[31mFAILED\u{1b}[0m. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s\n\
            \n     Running tests/scenarios/main.rs (target/debug/deps/scenarios-77)\n\
            test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 3.00s\n\
            \n   Doc-tests failover\n\
            test result: ok. 0 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(
            tally(output),
            [
                target("failover", 1, &["mark::tests::b"], true),
                target("scenarios", 12, &[], true),
                target("failover", 0, &[], true),
            ]
        );
    }

    #[test]
    fn what_did_not_run_is_named() {
        let output = "     Running tests/vpn.rs (target/debug/deps/vpn-77)\nrunning 3 tests\n\
                      test a   ... ignored\ntest b ... ignored, takes long\ntest c ... ok\n\
                      test result: ok. 1 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out\n";
        let [vpn] = &tally(output)[..] else {
            panic!("one program ran");
        };
        assert_eq!((vpn.passed, vpn.failed), (1, 0));
        assert_eq!(vpn.ignored, ["a", "b"]);
    }

    #[test]
    fn a_crash_is_a_failure() {
        let output = "     Running tests/lab.rs (target/debug/deps/lab-77)\nrunning 3 tests\n\
                      error: test failed, to rerun pass `--test lab`\n";
        let [lab] = &tally(output)[..] else {
            panic!("one program ran");
        };
        assert_eq!((lab.passed, lab.failed), (0, 1));
        assert_eq!(
            lab.failures,
            [failure("(it ended before its first test did)", &[])]
        );
    }

    #[test]
    fn a_crash_tells_the_last_test_before_it() {
        let output = "     Running lab (/tests/deps/lab)\ntest a   ... ok\ntest b ... ok\n";
        let [lab] = &tally(output)[..] else {
            panic!("one program ran");
        };
        assert_eq!((lab.passed, lab.failed), (2, 1));
        assert_eq!(
            lab.failures,
            [failure(
                "(it ended before its last test did; the last seen was b)",
                &[]
            )]
        );
    }

    #[test]
    fn a_failure_says_why() {
        let output = "     Running lab (/tests/deps/lab)\ntest a/b ... FAILED\ntest c ... FAILED\n\
                      \nfailures:\n\n---- a/b ----\n3 of 60 flows moved\n\n--- log\nx\ny\nz\n\
                      \n---- c stdout ----\n\nthread 'c' (7) panicked at src/c.rs:1:2:\nleft is not right\n\
                      \n\nfailures:\n    a/b\n    c\n\n\
                      test result: FAILED. 0 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n";
        let [lab] = &tally(output)[..] else {
            panic!("one program ran");
        };
        assert_eq!(
            lab.failures,
            [
                failure("a/b", &["3 of 60 flows moved", "--- log", "x", "y"]),
                failure("c", &["left is not right"]),
            ]
        );
    }
}
