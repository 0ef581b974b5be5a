//! Waiting for a condition instead of for a time.

use std::future::Future;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::error::LabError;

/// How long to wait between two looks at a condition.
const POLL: Duration = Duration::from_millis(10);

/// The variable that holds the factor of [`patient`].
const VARIABLE: &str = "FAILOVER_TEST_PATIENCE";
/// Set once the process is isolated.
static FACTOR: OnceLock<u32> = OnceLock::new();

/// How long to wait on this machine for what takes up to `limit` on a fast one: as many times as long
/// as the variable `FAILOVER_TEST_PATIENCE` says, which is for emulated machines. Everything in this
/// library that waits with a limit applies it.
#[must_use]
pub fn patient(limit: Duration) -> Duration {
    limit * factor()
}

/// Whether this machine needs more time than others, as that variable says: what would take minutes is to
/// be done less often there.
#[must_use]
pub fn is_slow() -> bool {
    factor() > 1
}

fn factor() -> u32 {
    FACTOR.get().copied().unwrap_or(1)
}

/// Reads the variable, for [`patient`].
///
/// # Errors
/// When it is not a whole number from 1 to 100.
pub(crate) fn read_patience() -> Result<(), LabError> {
    let Some(value) = std::env::var_os(VARIABLE) else {
        return Ok(());
    };
    let factor = value.to_str().and_then(|value| value.parse().ok());
    match factor.filter(|factor| (1..=100).contains(factor)) {
        // A second call sets the same.
        Some(factor) => {
            FACTOR.set(factor).ok();
            Ok(())
        }
        None => Err(LabError::Patience {
            variable: VARIABLE,
            value: value.to_string_lossy().into_owned(),
        }),
    }
}

/// Asks `check` again and again until it returns `Some`, at least once and then until `limit` is
/// over.
///
/// # Errors
/// [`LabError::NotInTime`] with `what` when the time is over; whatever `check` returns as an error,
/// at once.
pub async fn eventually<T, F, Fut>(what: &str, limit: Duration, mut check: F) -> Result<T, LabError>
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Result<Option<T>, LabError>>,
{
    let start = Instant::now();
    let limit = patient(limit);
    loop {
        if let Some(found) = check().await? {
            return Ok(found);
        }
        if start.elapsed() >= limit {
            return Err(LabError::NotInTime {
                what: what.to_owned(),
                limit,
                detail: String::new(),
            });
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits for `future`, but not longer than `limit`.
///
/// # Errors
/// [`LabError::NotInTime`] with `what` when the time is over.
pub async fn within<T>(
    what: &str,
    limit: Duration,
    future: impl Future<Output = T>,
) -> Result<T, LabError> {
    let limit = patient(limit);
    tokio::time::timeout(limit, future)
        .await
        .map_err(|_elapsed| LabError::NotInTime {
            what: what.to_owned(),
            limit,
            detail: String::new(),
        })
}
