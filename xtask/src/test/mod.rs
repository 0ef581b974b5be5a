//! The test command: set-up, checks, unit tests, and the tests that need root.
//!
//! A step that fails does not keep the others from running, so that one call tells everything.

mod executables;
mod report;
mod tally;

use std::error::Error;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use self::report::{Line, Outcome, Report};
use self::tally::Tally;
use crate::command;
use crate::ebpf::{self, Unproven};
use crate::kernels::{self, Extent, GuestError, KernelError, Series};
use crate::privilege::Privilege;
use crate::setup;
use crate::workspace::{Workspace, path_of_root};

/// Tells the kernel tests which object to load; without it they take the embedded one.
const OBJECT: &str = "FAILOVER_BPF_OBJECT";

/// Has the scenarios play their whole table.
const ALL: &str = "FAILOVER_TEST_ALL";

/// The kernel that runs as one step of everything: the oldest that is supported.
const OTHER_KERNEL: Series = Series::V6_1;

/// Runs everything, or with a filter only the tests whose names hold it, or with a kernel only what
/// depends on it, and prints the summary. `all`: every scenario in every way, also on that kernel.
pub(crate) fn run(
    workspace: &Workspace,
    filter: Option<&str>,
    kernel: Option<Series>,
    all: bool,
) -> ExitCode {
    let mut run = Run {
        workspace,
        filter,
        all,
        report: Report::default(),
        began: Instant::now(),
        tests: 0,
    };
    run.check("set-up", || setup::run(workspace));
    if let Some(series) = kernel {
        if run.programs(&[]) {
            let unfiltered = if all { Extent::Whole } else { Extent::EachOnce };
            run.other_kernel(series, filter.map_or(unfiltered, Extent::Named));
        }
        return run.finish();
    }
    let fresh = if filter.is_none() {
        run.checks();
        run.fresh_object()
    } else {
        None
    };
    // Everything at once, so that no processor waits for the end of a step.
    let built = run.programs(&["--tests", "--keep-going"]);
    run.unit_tests();
    if built {
        run.root_tests(fresh.as_deref());
        if filter.is_none() {
            run.other_kernel(OTHER_KERNEL, Extent::EachOnce);
        }
    }
    run.finish()
}

/// Why test programs ended badly.
enum Bad {
    /// Tests failed, which they tell themselves; if none does (they do not compile), it is a failure
    /// of its own.
    Tests(String),
    /// What they ran on failed: always a failure of its own.
    Machine(String),
}

struct Run<'a> {
    workspace: &'a Workspace,
    filter: Option<&'a str>,
    all: bool,
    report: Report,
    began: Instant,
    /// How many tests ran, other than checks.
    tests: usize,
}

impl Run<'_> {
    /// Does something that is either good or not.
    fn check<T, E: Error>(&mut self, name: &str, work: impl FnOnce() -> Result<T, E>) -> Option<T> {
        let began = announce(name);
        let (outcome, notes, value) = match work() {
            Ok(value) => (Outcome::Good, Vec::new(), Some(value)),
            Err(error) => (Outcome::Bad, vec![error.to_string()], None),
        };
        self.record(Line::check(name, outcome, began.elapsed(), notes));
        value
    }

    /// The checks that read sources only.
    fn checks(&mut self) {
        let workspace = self.workspace;
        let cargo = |arguments: &[&str]| {
            let mut command = colourful(workspace.cargo());
            command.args(arguments);
            command
        };
        self.check("format", || {
            command::run(&mut cargo(&["fmt", "--all", "--check"]))?;
            let ebpf = "failover-ebpf/Cargo.toml";
            command::run(&mut cargo(&["fmt", "--manifest-path", ebpf, "--check"]))
        });
        self.check("clippy", || {
            command::run(&mut cargo(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ]))
        });
        self.check("rustdoc", || {
            command::run(
                cargo(&["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"),
            )
        });
        self.check("eBPF object is of its sources", || ebpf::check(workspace));
    }

    /// Builds the eBPF object anew and compares; returns where it is, if it is another one than that
    /// which is embedded.
    fn fresh_object(&mut self) -> Option<PathBuf> {
        let name = "eBPF object built anew";
        let began = announce(name);
        let (outcome, notes, object) = match ebpf::rebuild(self.workspace) {
            Ok(rebuilt) => match rebuilt.verdict {
                Ok(()) => (Outcome::Good, Vec::new(), None),
                Err(other @ Unproven::OtherToolchain { .. }) => {
                    (Outcome::Good, vec![other.to_string()], Some(rebuilt.object))
                }
                Err(wrong @ Unproven::Wrong(_)) => {
                    (Outcome::Bad, vec![wrong.to_string()], Some(rebuilt.object))
                }
            },
            Err(error) => (Outcome::Bad, vec![error.to_string()], None),
        };
        self.record(Line::check(name, outcome, began.elapsed(), notes));
        object
    }

    /// What needs no root, as the user who called.
    fn unit_tests(&mut self) {
        self.tests("unit tests", &["--workspace", "--lib", "--bins"], |_| {});
        self.tests(
            "examples in the documentation",
            &["--workspace", "--doc"],
            |_| {},
        );
    }

    /// What the tests start as a user would, and what else is to be built; returns whether it is there.
    fn programs(&mut self, others: &[&str]) -> bool {
        let workspace = self.workspace;
        let built = self.check("programs for the tests", || {
            let mut build = colourful(workspace.cargo());
            command::run(build.args(["build", "--workspace", "--bins"]).args(others))
        });
        built.is_some()
    }

    /// What needs root: every test target of the workspace, then those of the kernel once more with
    /// the fresh object, where there is one.
    fn root_tests(&mut self, fresh: Option<&Path>) {
        let began = Instant::now();
        let privilege = match Privilege::obtain() {
            Ok(privilege) => privilege,
            Err(error) => {
                let notes = vec![format!("none of them ran: {error}")];
                self.record(Line::check(
                    "root tests",
                    Outcome::Bad,
                    began.elapsed(),
                    notes,
                ));
                return;
            }
        };
        let all = self.all;
        self.tests("root tests", &["--workspace", "--test", "*"], |command| {
            as_root(command, privilege, None, all);
        });
        if let Some(object) = fresh {
            let name = "kernel tests with the fresh object";
            self.tests(name, &["--workspace", "--test", "packets"], |command| {
                as_root(command, privilege, Some(object), all);
            });
        }
    }

    /// What depends on the kernel, on another one.
    fn other_kernel(&mut self, series: Series, extent: Extent<'_>) {
        let name = format!("Linux {series}");
        let workspace = self.workspace;
        let tests = self.check("test programs for other kernels", || {
            executables::build(workspace, &kernels::TARGETS)
        });
        let Some(tests) = tests else { return };
        self.count(&name, |heed| {
            kernels::run(workspace, series, &tests, extent, heed).map_err(|error| match &error {
                KernelError::Guests(errors)
                    if errors
                        .iter()
                        .all(|(_, error)| matches!(error, GuestError::Tests)) =>
                {
                    Bad::Tests(error.to_string())
                }
                _ => Bad::Machine(error.to_string()),
            })
        });
    }

    /// Runs `cargo test` and counts.
    fn tests(&mut self, name: &str, arguments: &[&str], prepare: impl FnOnce(&mut Command)) {
        let mut command = colourful(self.workspace.cargo());
        command.args(["test", "--no-fail-fast"]).args(arguments);
        prepare(&mut command);
        if let Some(filter) = self.filter {
            command.args(["--", filter]);
        }
        self.count(name, |heed| {
            command::follow(command, |line| heed(line, Instant::now()))
                .map_err(|error| Bad::Tests(error.to_string()))
        });
    }

    /// Counts what test programs tell.
    fn count(
        &mut self,
        name: &str,
        work: impl FnOnce(&mut dyn FnMut(&str, Instant)) -> Result<(), Bad>,
    ) {
        let began = announce(name);
        let mut tally = Tally::default();
        let ended = work(&mut |line, came| tally.heed(line, came));
        let targets = tally.finish();
        let told = targets.iter().any(|target| target.failed > 0);
        for target in targets
            .into_iter()
            .filter(|target| target.passed + target.failed + target.ignored.len() > 0)
        {
            self.tests += target.passed + target.failed;
            let ignored = target.ignored.iter();
            let failures = target.failures.iter().flat_map(|failure| {
                let reason = failure.reason.iter().map(|line| format!("  {line}"));
                std::iter::once(failure.name.clone()).chain(reason)
            });
            let notes = failures
                .chain(
                    ignored.map(|name| format!("not run, since it is marked as ignored: {name}")),
                )
                .collect();
            self.record(Line {
                name: format!("{name}: {}", target.name),
                passed: target.passed,
                failed: target.failed,
                took: target.took,
                notes,
            });
        }
        match ended {
            Err(Bad::Tests(_)) if told => {}
            Err(Bad::Tests(why) | Bad::Machine(why)) => {
                self.record(Line::check(name, Outcome::Bad, began.elapsed(), vec![why]));
            }
            Ok(()) => {}
        }
    }

    fn record(&mut self, line: Line) {
        eprintln!(
            "== {}: {}, {:.1} s",
            line.name,
            line.result(),
            line.took.as_secs_f64()
        );
        for note in &line.notes {
            eprintln!("   {note}");
        }
        self.report.add(line);
    }

    fn finish(mut self) -> ExitCode {
        if let Some(filter) = self.filter
            && self.tests == 0
        {
            let notes = vec![format!("no test's name holds `{filter}`")];
            self.report
                .add(Line::check("filter", Outcome::Bad, Duration::ZERO, notes));
        }
        println!("\n{}", self.report.summary(self.began.elapsed()));
        if self.report.failed() == 0 {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

fn announce(name: &str) -> Instant {
    eprintln!("\n== {name}");
    Instant::now()
}

/// Has cargo write in colour when a person reads it, also where its output goes through us.
fn colourful(mut command: Command) -> Command {
    if io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    command
}

/// Has cargo compile as this user and run the tests as root.
fn as_root(command: &mut Command, privilege: Privilege, object: Option<&Path>, all: bool) {
    let mut environment: Vec<(&str, OsString)> = ["RUST_LOG", "RUST_BACKTRACE", "CI"]
        .into_iter()
        .filter_map(|name| Some((name, std::env::var_os(name)?)))
        .chain([("PATH", path_of_root())])
        .collect();
    if all {
        environment.push((ALL, "1".into()));
    }
    match object {
        Some(object) => environment.push((OBJECT, object.as_os_str().to_owned())),
        None => {
            command.env_remove(OBJECT);
        }
    }
    let environment: Vec<(&str, &OsStr)> = environment
        .iter()
        .map(|(name, value)| (*name, value.as_os_str()))
        .collect();
    command.envs(environment.iter().copied());
    let runner = privilege.prefix(&environment);
    if !runner.is_empty() {
        let words: Vec<String> = runner
            .iter()
            .map(|word| format!("{:?}", word.to_string_lossy()))
            .collect();
        // A list in TOML, and the words are quoted as TOML does it.
        let setting = format!("target.'cfg(all())'.runner=[{}]", words.join(","));
        command.args(["--config", &setting]);
    }
}
