//! Waiting for a condition instead of for a time.

use std::future::Future;
use std::time::{Duration, Instant};

use crate::error::LabError;

/// How long to wait between two looks at a condition.
const POLL: Duration = Duration::from_millis(10);

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
    tokio::time::timeout(limit, future)
        .await
        .map_err(|_elapsed| LabError::NotInTime {
            what: what.to_owned(),
            limit,
            detail: String::new(),
        })
}
