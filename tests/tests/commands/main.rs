//! The command line as users and scripts meet it: what each command prints and where, how it ends,
//! and what it leaves alone.
//!
//! These tests need root and say so when they have none.

#[path = "../../../failover/tests/configuration/broken.rs"]
mod broken;
mod by_hand;
mod demo;
mod events;
mod events_access;
mod explain;
mod fastpath;
mod flow_log;
mod flows;
mod log_file;
mod permissions;
mod refusals;
mod reload;
mod replay;
mod rules;
mod service_manager;
mod starting;
mod status;
#[path = "../trial/mod.rs"]
mod trial;

use std::process::ExitCode;
use std::time::Duration;

use failover_tests::{Output, ProgramSpec};

use trial::{SystemTest, TestResult};

/// Two uplinks for the client behind `lan0`.
const CONFIG: &str = r#"
uplinks:
  one: {interface: wan1, id: 1}
  two: {interface: wan2, id: 2}
downlinks: [lan0]
probe:
  targets: [icmp://203.0.113.1, icmp://203.0.113.2, "icmp://fd00:203::1", "icmp://fd00:203::2"]
"#;

/// Longer than the daemon needs to see a silent fault or its end with default settings.
const VERDICT: Duration = Duration::from_secs(10);

/// That a command ended with a status and said why in one line on standard error, with all of these
/// parts in it, and nothing on standard output.
fn one_line(output: &Output, status: i32, parts: &[&str]) -> Result<(), String> {
    let said = output.status.code() == Some(status)
        && output.stdout.is_empty()
        && output.stderr.trim_end().lines().count() == 1
        && parts.iter().all(|part| output.stderr.contains(part));
    if said {
        Ok(())
    } else {
        Err(format!(
            "expected status {status} and one line with {parts:?}, found {}, on standard error\n{}\nand on standard output\n{}",
            output.status, output.stderr, output.stdout
        ))
    }
}

/// A command of the shell whose output goes to a terminal.
fn on_a_terminal(command: &str) -> ProgramSpec {
    ProgramSpec::new("script").arguments(["--quiet", "--return", "--command", command, "/dev/null"])
}

fn main() -> ExitCode {
    trial::run(|| {
        let tests = [
            by_hand::tests(),
            demo::tests(),
            events::tests(),
            events_access::tests(),
            explain::tests(),
            fastpath::tests(),
            flow_log::tests(),
            flows::tests(),
            log_file::tests(),
            permissions::tests(),
            refusals::tests(),
            reload::tests(),
            replay::tests(),
            rules::tests(),
            service_manager::tests(),
            starting::tests(),
            status::tests(),
        ];
        tests.into_iter().flatten().collect()
    })
}
