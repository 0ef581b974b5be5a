//! The scenarios: what users see of a gateway with several uplinks, in every mode and address
//! family, and in eBPF mode with and without the fast path.
//!
//! [`table`] lists them. Each plays in a lab of its own with a daemon of its own. They need root
//! and say so when they have none.

mod affinity;
mod beginning;
mod bpftool;
mod by_hand;
mod calls;
mod case;
mod churn;
mod coming_from;
mod conversations;
mod doubt;
mod downlinks;
mod download;
mod families;
mod fastpath;
mod flood;
mod flow_table;
mod ftp;
mod gateway;
mod inbound;
mod last_resort;
mod leases;
mod links;
mod loss;
mod mail;
mod metered;
mod narrow;
mod one_interface;
mod own_rules;
mod own_traffic;
mod page;
mod priorities;
mod reloading;
mod resets;
mod residents;
mod restarts;
mod returning;
mod scene;
mod service;
mod setups;
mod silence;
mod spreading;
mod steering;
mod stickiness;
mod strategies;
mod table;
mod traffic;
mod translation;

use std::process::ExitCode;

use failover_tests::LABS_AT_ONCE;
use libtest_mimic::Arguments;

use crate::case::Extent;

/// What a scenario returns; assertions panic.
type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The variable of the environment that has the whole table played.
const ALL: &str = "FAILOVER_TEST_ALL";

fn main() -> ExitCode {
    let isolated = failover_tests::isolate();
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(LABS_AT_ONCE);
    // Whoever asks for a scenario by its name finds it.
    let all = std::env::var_os(ALL).is_some() || arguments.filter.is_some();
    let extent = if all { Extent::Whole } else { Extent::Usual };
    let refusal = isolated.err().map(|error| error.to_string());
    let trials = table::table()
        .into_iter()
        .flat_map(|scenario| scenario.trials(extent, refusal.as_deref()))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
