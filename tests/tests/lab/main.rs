//! Tests of the lab itself: what the scenarios, the demo and the benchmark rely on.
//!
//! They need root and say so when they have none.

mod faults;
mod leftovers;
mod tools;
mod traffic;

use std::future::Future;
use std::process::ExitCode;

use failover_tests::LabError;
use libtest_mimic::{Arguments, Trial};

/// What a test returns; assertions panic.
type TestResult = Result<(), Box<dyn std::error::Error>>;

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
    let isolated = failover_tests::isolate();
    let mut arguments = Arguments::from_args();
    // Every lab has a dozen threads and works hard for seconds.
    arguments.test_threads.get_or_insert(2);
    let trials = [
        faults::trials(),
        leftovers::trials(),
        tools::trials(),
        traffic::trials(),
    ];
    let trials = trials
        .into_iter()
        .flatten()
        .map(|test| test.trial(isolated.as_ref().err()))
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A test and its name.
struct LabTest {
    name: &'static str,
    run: Box<dyn FnOnce() -> TestResult + Send>,
}

impl LabTest {
    /// A test that is a future; each gets a runtime of its own.
    fn new<F, Fut>(name: &'static str, test: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = TestResult>,
    {
        let run = move || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?
                .block_on(test())
        };
        Self {
            name,
            run: Box::new(run),
        }
    }

    fn trial(self, not_isolated: Option<&LabError>) -> Trial {
        let reason = not_isolated.map(ToString::to_string);
        Trial::test(self.name, move || match reason {
            Some(reason) => Err(reason.into()),
            None => (self.run)().map_err(|error| error.to_string().into()),
        })
    }
}
