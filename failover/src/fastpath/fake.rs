//! A fast path that is none: says what it was told to say.

use std::sync::Arc;

use failover_common::{Flow, FlowKey};

use super::access::Access;
use super::standing::{FastPath, FastPathStatus, Standing, Why};

/// What is said of each flow, and of a flush.
#[derive(Debug)]
pub(crate) struct FakeFastPath {
    pub(crate) standing: Standing,
    pub(crate) flush: Result<u64, String>,
}

impl FakeFastPath {
    /// One that says this of each flow.
    pub(crate) fn saying(standing: Standing) -> Access {
        let flush = Ok(0);
        Access::There(Arc::new(Self { standing, flush }))
    }

    /// One that says this when it is flushed.
    pub(crate) fn flushing(flush: Result<u64, String>) -> Access {
        let standing = Standing::Stack(Why::Waiting);
        Access::There(Arc::new(Self { standing, flush }))
    }
}

impl FastPath for FakeFastPath {
    fn standing(&self, _: &FlowKey, _: &Flow) -> Standing {
        self.standing.clone()
    }

    fn status(&self) -> FastPathStatus {
        FastPathStatus {
            on: true,
            reason: None,
            flows: 12_345,
            capacity: 131_072,
            ..FastPathStatus::default()
        }
    }

    fn flush(&self) -> Result<u64, String> {
        self.flush.clone()
    }
}
