//! Whether an uplink works, per address family: decided from rounds of probes and from what the
//! kernel says about the link.
//!
//! No clock and no input or output in here: moments come in as arguments, verdicts go out as values.
//!
//! # In which order evidence counts
//!
//! A new round begins every interval. An answer comes within milliseconds, but that a round is lost
//! is known only when its timeout has passed, when younger rounds may have been answered long ago.
//! So outcomes arrive in another order than that in which the rounds were sent. They are put back
//! into that order, and these rules hold:
//!
//! 1. A round is decided as soon as its verdict can no longer change: good when enough targets have
//!    answered, bad when too few are left that could. It does not wait for the other targets.
//! 2. *In a row* means consecutive rounds that are all decided. A round whose outcome is not known
//!    yet breaks a row until it is: it may turn out to be the loss in the middle (or the answer).
//!    Rounds before the row may still be open; the row does not wait for them.
//! 3. Evidence is overruled by younger evidence to the contrary: bad rounds take an uplink down only
//!    if no younger round is good, good rounds bring it back only if no younger one is bad. So the
//!    late loss of an old round never kills an uplink that has answered since.
//! 4. An answer that is overdue counts as lost until it comes; then the round is what it is with it.
//! 5. Of rounds that are sent beside the regular ones to confirm a doubt, answers count as any
//!    other's; their silence makes no row longer.
//! 6. When the link is lost or the path changes, rounds that were sent before no longer count.
//! 7. Where users' traffic to several hosts is not answered either, confirming rounds that were sent
//!    since count as regular ones; where it is answered by several hosts, silent probes make the
//!    uplink degraded and not dead (`traffic`).
//!
//! When outcomes arrive in the order of sending, this is the plain machine that counts good and bad
//! rounds in a row.
//!
//! What answers, but badly by the user's limits (`quality`), or is held back after many failures
//! (`damping`), is degraded: others are preferred, and it is better than none.

mod blame;
mod damping;
mod failure;
mod machine;
mod quality;
mod reason;
mod round;
pub(crate) mod stored;
mod thresholds;
mod traffic;
mod window;

#[cfg(test)]
mod machine_doubt;
#[cfg(test)]
mod machine_properties;
#[cfg(test)]
mod machine_table;
#[cfg(test)]
mod machine_traffic;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use blame::{Asked, Blame, Blamed};
pub use damping::{Damping, Hold, KeptDamping};
pub use failure::{DnsFailure, ExecFailure, Failure};
pub use machine::{Machine, Transition};
pub use quality::{Complaint, Measured};
pub use reason::{LinkLoss, Reason};
pub use round::{Demand, Outcome, Places, PlanNumber, Round, RoundKind, Verdict};
pub use thresholds::Thresholds;
pub use traffic::{Traffic, Unanswered};

/// The health of an uplink for one address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No verdict yet.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It answers, and others are to be preferred.
    Degraded,
    /// It does not.
    Down,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        })
    }
}
