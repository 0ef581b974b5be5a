//! The daemon as a good neighbour: what others put into the kernel stays theirs and goes on to
//! decide, and `failover clean` leaves the kernel as it was found.
//!
//! These tests need root and say so when they have none.

mod clean;
mod containers;
mod exchange;
mod foreign;
mod marks;
mod pins;
mod rules;
mod setups;
#[path = "../trial/mod.rs"]
mod trial;
mod tunnel;
mod vpn;

use std::process::ExitCode;
use std::time::Duration;

use failover_tests::daemon::{Mode, State, Status};
use failover_tests::{Daemon, Lab, LabError};

use trial::{SystemTest, TestResult};

/// Three uplinks for the clients behind `lan0`.
const CONFIG: &str = r#"
uplinks:
  one: {interface: wan1, id: 1}
  two: {interface: wan2, id: 2}
  three: {interface: wan3, id: 3}
downlinks: [lan0]
probe:
  targets: [icmp://203.0.113.1, icmp://203.0.113.2, "icmp://fd00:203::1", "icmp://fd00:203::2"]
  max_hold: 0s
"#;

/// Longer than the daemon needs to see a silent fault or its end with default settings.
const VERDICT: Duration = Duration::from_secs(10);

/// The configuration of all tests.
fn config(mode: Mode) -> String {
    format!("{CONFIG}mode: {mode}\n")
}

/// Starts the daemon and waits until all uplinks are up.
async fn start(lab: &Lab, mode: Mode) -> Result<Daemon, LabError> {
    let daemon = Daemon::start(lab, &config(mode)).await?;
    let all_up = |status: &Status| status.all(State::Up);
    daemon
        .wait_until("all uplinks are up", VERDICT, all_up)
        .await?;
    Ok(daemon)
}

/// Waits until an uplink is in a state.
async fn until(daemon: &Daemon, uplink: &str, state: State) -> Result<(), LabError> {
    let reached = |status: &Status| status.is(uplink, state);
    let what = format!("{uplink} is {state:?}");
    daemon.wait_until(&what, VERDICT, reached).await.map(drop)
}

fn main() -> ExitCode {
    trial::run(|| {
        let tests = Mode::ALL.map(|mode| {
            [
                clean::tests(mode),
                containers::tests(mode),
                marks::tests(mode),
                rules::tests(mode),
                vpn::tests(mode),
            ]
        });
        let mut tests: Vec<_> = tests.into_iter().flatten().flatten().collect();
        tests.extend(pins::tests());
        tests
    })
}
