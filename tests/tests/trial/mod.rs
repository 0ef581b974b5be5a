//! How the programs of system tests run their tests: the process is isolated first, each test gets
//! a runtime of its own, and without root each fails and says why.

use std::future::Future;
use std::process::ExitCode;

use failover_tests::LABS_AT_ONCE;
use libtest_mimic::{Arguments, Trial};

/// What a test returns; assertions panic.
pub(crate) type TestResult = Result<(), Box<dyn std::error::Error>>;

/// A test and its name.
pub(crate) struct SystemTest {
    name: String,
    run: Box<dyn FnOnce() -> TestResult + Send>,
}

impl SystemTest {
    /// A test that is a future.
    pub(crate) fn new<F, Fut>(name: impl Into<String>, test: F) -> Self
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
            name: name.into(),
            run: Box::new(run),
        }
    }
}

/// Runs the tests as the command line says; to be called first thing in `main`.
pub(crate) fn run(tests: impl FnOnce() -> Vec<SystemTest>) -> ExitCode {
    let not_isolated = failover_tests::isolate()
        .err()
        .map(|error| error.to_string());
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(LABS_AT_ONCE);
    let trials = tests()
        .into_iter()
        .map(|test| {
            let not_isolated = not_isolated.clone();
            Trial::test(test.name, move || match not_isolated {
                Some(reason) => Err(reason.into()),
                None => (test.run)().map_err(|error| error.to_string().into()),
            })
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
