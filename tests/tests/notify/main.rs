//! Notifications against real servers: exim, mosquitto, and busybox's web server, and programs. What
//! counts is what arrives there, also when the uplink that would carry it is the one that died.
//!
//! These tests need root and say so when they have none. `cargo xtask setup` unpacks the
//! servers beside the test programs where they are not installed.

mod mail;
mod mqtt;
mod programs;
mod servers;
mod storm;
#[path = "../trial/mod.rs"]
mod trial;
mod webhooks;

use std::process::ExitCode;
use std::time::Duration;

use failover_tests::daemon::{Mode, State};
use failover_tests::{Daemon, Failover, Lab};
use serde_json::Value;

use trial::{SystemTest, TestResult};

/// Longer than it takes until a fault is seen, told, tried anew and delivered.
const DELIVERY: Duration = Duration::from_secs(25);

/// The modes, where it matters who steers.
const MODES: [Mode; 2] = [Mode::Ebpf, Mode::Classic];

/// A gateway of two lines of which one is preferred, and these channels.
fn gateway(mode: Mode, channels: &str) -> String {
    format!(
        r#"
mode: {mode}
uplinks:
  one: {{interface: wan1, id: 1, description: Provider 1}}
  two: {{interface: wan2, id: 2, priority: 2}}
downlinks: [lan0]
probe:
  interval: 200ms
  timeout: 200ms
  targets: [icmp://203.0.113.1, icmp://203.0.113.2, "icmp://fd00:203::1", "icmp://fd00:203::2"]
notify:
{channels}
"#
    )
}

/// A text in a document of JSON; empty where there is none.
fn text<'v>(document: &'v Value, pointer: &str) -> &'v str {
    let found = document.pointer(pointer);
    found.and_then(Value::as_str).unwrap_or_default()
}

/// A daemon whose uplinks are all up.
async fn start(lab: &Lab, config: &str) -> Result<Daemon, Box<dyn std::error::Error>> {
    let daemon = Failover::new(lab, config)?.run().await?;
    daemon
        .wait_until("all are up", DELIVERY, |status| status.all(State::Up))
        .await?;
    Ok(daemon)
}

fn main() -> ExitCode {
    trial::run(|| {
        let tests = [
            mail::tests(),
            mqtt::tests(),
            programs::tests(),
            storm::tests(),
            webhooks::tests(),
        ];
        tests.into_iter().flatten().collect()
    })
}
