//! A pair of gateways, with the real keepalived and the real conntrackd, configured as
//! `docs/pair.md` says: the users' connections go on when one router loses all of its lines, and when
//! it has them back.
//!
//! These tests need root and say so when they have none, and the two programs: `cargo xtask setup`
//! unpacks them beside the test programs where they are not installed.

mod office;
mod page;
mod takeover;
#[path = "../trial/mod.rs"]
mod trial;

use std::process::ExitCode;

use failover_tests::daemon::Mode;

use trial::{SystemTest, TestResult};

fn main() -> ExitCode {
    trial::run(|| {
        Mode::ALL
            .into_iter()
            .map(|mode| {
                let name = format!("{mode}/connections_go_on_over_the_other_router_and_back");
                SystemTest::new(name, move || takeover::there_and_back(mode))
            })
            .collect()
    })
}
