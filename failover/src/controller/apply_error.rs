//! What can go wrong when the kernel is changed.

use std::error::Error;

use thiserror::Error;

use crate::causes::in_one_line;
use crate::controller::engine::Forget;
use crate::state::StoreError;

/// An error of the edge, whichever edge it is.
pub(super) type Cause = Box<dyn Error + Send + Sync>;

/// One thing that could not be done to the kernel.
#[derive(Debug, Error)]
pub enum ApplyError {
    /// Our routes and rules could not be listed.
    #[error("cannot list the routes and rules in the kernel")]
    ListRouting(#[source] Cause),
    /// A route or rule could not be changed; the cause names it.
    #[error("cannot change the routing")]
    ChangeRouting(#[source] Cause),
    /// The nftables table could not be replaced, removed or read.
    #[error("cannot {what} the nftables table")]
    Firewall {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: Cause,
    },
    /// The way new flows are picked could not be changed.
    #[error("cannot publish which uplinks new flows use")]
    Steering(#[source] Cause),
    /// A program does not hang where it should, or hangs where it should not.
    #[error("{0}")]
    Attach(#[source] Cause),
    /// Something of eBPF mode is left.
    #[error("cannot take out what eBPF mode left")]
    Leftovers(#[source] Cause),
    /// Flows could not be forgotten.
    #[error("cannot delete connection tracking entries: {flows:?}")]
    Forget {
        /// Whose.
        flows: Forget,
        /// Why.
        source: Cause,
    },
    /// Our bits could not be cleared.
    #[error("cannot clear our bits of connection marks")]
    ClearMarks(#[source] Cause),
    /// A kernel setting could not be read or changed.
    #[error("cannot set {key}")]
    Sysctl {
        /// The setting.
        key: String,
        /// Why.
        source: Cause,
    },
    /// What was put into the kernel could not be noted.
    #[error("cannot note what is put into the kernel")]
    Store(#[from] StoreError),
}

/// Everything that went wrong in one go; the rest was done.
#[derive(Debug, Error)]
#[error("{}", .0.iter().map(|error| in_one_line(error)).collect::<Vec<_>>().join("; "))]
pub struct ApplyErrors(pub Vec<ApplyError>);

impl ApplyErrors {
    /// Whether everything else is in place: flows of an interface without program are steered by
    /// connection marks and routes, and what was to be forgotten is.
    #[must_use]
    pub fn only_of_programs(&self) -> bool {
        self.0
            .iter()
            .all(|error| matches!(error, ApplyError::Attach(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Error)]
    #[error("the kernel refused: {0}")]
    struct SaysItsCause(#[source] std::io::Error);

    #[test]
    fn a_cause_is_said_once() {
        let cause = std::io::Error::other("no space");
        let errors = ApplyErrors(vec![ApplyError::ChangeRouting(Box::new(SaysItsCause(
            cause,
        )))]);
        assert_eq!(
            errors.to_string(),
            "cannot change the routing: the kernel refused: no space"
        );
    }
}
