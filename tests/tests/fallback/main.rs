//! Where eBPF does not work the daemon says why and goes on in classic mode, or refuses where it may
//! not; and what is not needed for eBPF mode may be missing.
//!
//! These tests need root and say so when they have none.

mod kept;
mod refused;
mod scene;
mod situations;
mod switching;
#[path = "../trial/mod.rs"]
mod trial;
mod works;

use std::process::ExitCode;

use trial::{SystemTest, TestResult};

fn main() -> ExitCode {
    trial::run(|| {
        let tests = [refused::tests(), works::tests(), switching::tests()];
        tests.into_iter().flatten().collect()
    })
}
