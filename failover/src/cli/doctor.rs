//! `failover doctor`.

use std::fmt::Write as _;
use std::io::Write as _;

use clap::Args;
use serde::Serialize;
use thiserror::Error;

use crate::cli::Outcome;
use crate::cli::args::ConfigArgs;
use crate::cli::exit::Failure;
use crate::cli::output;
use crate::config::{self, Config};
use crate::doctor::gather::gather;
use crate::doctor::{Finding, Severity, examine};
use crate::kernel::Sysctls as _;
use crate::kernel::network::ObserveError;
use crate::kernel::sysctl::{ProcSys, SysctlError};

/// Which configuration, and what to do about what is found.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Sets kernel settings that mend something, where that is safe and easily undone.
    #[arg(long)]
    pub fix: bool,

    /// Prints JSON, for scripts.
    #[arg(long)]
    pub json: bool,

    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// How a look at the host ends when it does not end well.
#[derive(Debug, Error)]
enum NotWell {
    #[error("{0} wrong with this host")]
    Problems(String),
    #[error("nothing wrong was found, but not everything could be looked at; run it as root")]
    Unseen,
    #[error("cannot mend it: {0}")]
    Fix(SysctlError),
}

/// What is printed as JSON.
#[derive(Serialize)]
struct Report<'a> {
    /// What `--fix` set.
    fixed: Vec<String>,
    findings: &'a [Finding],
    /// What could not be looked at.
    unseen: &'a [String],
}

pub(super) fn doctor(args: &DoctorArgs) -> Outcome {
    let config = config::load(&args.config.config).map_err(Failure::no)?;
    let runtime = super::runtime()?;
    let look = |config: Config| -> Result<_, ObserveError> {
        let host = runtime.block_on(gather(config))?;
        Ok((examine(&host), host.unseen))
    };
    let (mut findings, mut unseen) = look(config.clone()).map_err(Failure::no)?;
    let mut fixed = Vec::new();
    if args.fix && findings.iter().any(|finding| !finding.fix.is_empty()) {
        fixed = mend(&findings).map_err(|error| Failure::no(NotWell::Fix(error)))?;
        (findings, unseen) = look(config).map_err(Failure::no)?;
    }
    let text = if args.json {
        let report = Report {
            fixed,
            findings: &findings,
            unseen: &unseen,
        };
        let mut json = serde_json::to_string_pretty(&report).map_err(Failure::no)?;
        json.push('\n');
        json
    } else {
        text(&fixed, &findings, &unseen)
    };
    output::print(|out| out.write_all(text.as_bytes()))?;
    let problems = findings
        .iter()
        .filter(|finding| finding.severity == Severity::Problem)
        .count();
    match (problems, unseen.is_empty()) {
        (0, false) if !is_root() => Err(Failure::not_permitted(NotWell::Unseen)),
        (0, _) => Ok(()),
        (1, _) => Err(Failure::no(NotWell::Problems("one thing is".to_owned()))),
        (many, _) => Err(Failure::no(NotWell::Problems(format!("{many} things are")))),
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Sets what mends findings, and says what it set.
fn mend(findings: &[Finding]) -> Result<Vec<String>, SysctlError> {
    let mut settings = ProcSys::default();
    let mut fixed = Vec::new();
    for setting in findings.iter().flat_map(|finding| &finding.fix) {
        let before = settings.read(&setting.key)?.unwrap_or_default();
        settings.write(&setting.key, setting.value)?;
        let key = &setting.key;
        fixed.push(format!("{key} was {before} and is {} now", setting.value));
    }
    Ok(fixed)
}

fn text(fixed: &[String], findings: &[Finding], unseen: &[String]) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    for line in fixed {
        let _infallible = writeln!(
            text,
            "set: {line}; it lasts until the next start of the machine"
        );
    }
    for finding in findings {
        let severity = match finding.severity {
            Severity::Problem => "problem",
            Severity::Notice => "notice",
        };
        let _infallible = writeln!(text, "{severity}: {} [{}]", finding.found, finding.id);
        let _infallible = writeln!(text, "  {}", finding.remedy);
    }
    for line in unseen {
        let _infallible = writeln!(text, "not looked at: {line}");
    }
    if findings.is_empty() && unseen.is_empty() {
        text.push_str("nothing wrong was found\n");
    }
    text
}
