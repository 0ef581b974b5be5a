//! The clock by which the TC programs note when something was.

use std::time::Duration;

use nix::time::ClockId;

/// Nanoseconds of `CLOCK_MONOTONIC`; 0 on a kernel without it, of which there is none that programs run
/// on.
#[must_use]
pub(crate) fn now_ns() -> u64 {
    let now = ClockId::CLOCK_MONOTONIC.now().map(Duration::from);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}
