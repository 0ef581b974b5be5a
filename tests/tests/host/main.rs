//! The commands that look at a host as it is, or at the file of another program: what they find, what
//! they print, and that it works as it is printed.
//!
//! These tests need root and say so when they have none.

mod faults;
mod generate;
mod healthy;
mod import;
mod init;
#[path = "../trial/mod.rs"]
mod trial;

use std::process::ExitCode;

use failover_tests::{Failover, Lab, LabError, Output, ProgramSpec};
use serde::Deserialize;

use trial::{SystemTest, TestResult};

/// Two uplinks for the client behind `lan0`, with targets in several networks.
const CONFIG: &str = r#"
uplinks:
  one: {interface: wan1, id: 1}
  two: {interface: wan2, id: 2}
downlinks: [lan0]
probe:
  targets: [icmp://203.0.113.1, icmp://198.19.11.1, "icmp://fd00:203::1", "icmp://fd00:19:11::1"]
"#;

/// What doctor says.
#[derive(Debug)]
struct Said {
    output: Output,
    report: Report,
}

/// The same as JSON.
#[derive(Debug, Default, Deserialize)]
struct Report {
    fixed: Vec<String>,
    findings: Vec<Finding>,
    unseen: Vec<String>,
}

/// One thing that is wrong.
#[derive(Debug, Deserialize)]
struct Finding {
    id: String,
    severity: String,
    found: String,
    remedy: String,
}

impl Said {
    /// Which checks found something, each once.
    fn ids(&self) -> Vec<&str> {
        let findings = self.report.findings.iter();
        let mut ids: Vec<&str> = findings.map(|finding| finding.id.as_str()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// Has doctor look at a lab's gateway.
async fn doctor(lab: &Lab, failover: &Failover, options: &[&str]) -> Result<Said, LabError> {
    let spec = ProgramSpec::new(failover.binary())
        .arguments(["doctor", "--json"])
        .arguments(options)
        .arguments(["--config"])
        .arguments([failover.config()]);
    said(lab, spec).await
}

async fn said(lab: &Lab, spec: ProgramSpec) -> Result<Said, LabError> {
    let output = lab.gateway().node().output(spec).await?;
    let report = serde_json::from_str(&output.stdout).unwrap_or_default();
    Ok(Said { output, report })
}

fn main() -> ExitCode {
    trial::run(|| {
        let tests = [
            faults::tests(),
            generate::tests(),
            healthy::tests(),
            import::tests(),
            init::tests(),
        ];
        tests.into_iter().flatten().collect()
    })
}
