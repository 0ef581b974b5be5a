//! The user's rules: in both modes every first packet of a flow leaves by an uplink that the plain
//! model of the rules lets it leave by, and none where it is to be dropped.
//!
//! These tests need root and say so when they have none.

mod agreement;
#[path = "../trial/mod.rs"]
mod trial;

use std::process::ExitCode;

use trial::{SystemTest, TestResult};

fn main() -> ExitCode {
    trial::run(|| agreement::tests().collect())
}
