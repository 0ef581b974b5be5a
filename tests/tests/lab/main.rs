//! Tests of the lab itself: what the scenarios, the demo and the benchmark rely on.
//!
//! They need root and say so when they have none.

mod benchmarks;
mod faults;
mod leftovers;
mod tools;
mod traffic;
#[path = "../trial/mod.rs"]
mod trial;

use std::process::ExitCode;

use trial::{SystemTest as LabTest, TestResult};

/// Translates what leaves by an uplink to the uplink's address.
const MASQUERADE: &str = r#"table inet lab_test {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan*" masquerade
    }
}"#;

fn main() -> ExitCode {
    // Whoever builds a lab in order to be killed does nothing else.
    if std::env::var_os(leftovers::VICTIM).is_some() {
        return leftovers::be_killed();
    }
    trial::run(|| {
        [
            benchmarks::trials(),
            faults::trials(),
            leftovers::trials(),
            tools::trials(),
            traffic::trials(),
        ]
        .into_iter()
        .flatten()
        .collect()
    })
}
