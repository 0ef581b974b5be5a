//! The fast path as those reach it who ask about it: there may be none.

use std::sync::Arc;

use failover_common::{Flow, FlowKey};
use thiserror::Error;

use super::standing::{FastPath, FastPathStatus, Standing, Why};

/// The fast path, or why there is none. What is asked of it may block for some milliseconds.
#[derive(Clone, Debug)]
pub enum Access {
    /// It is there, whether flows take it or not.
    There(Arc<dyn FastPath>),
    /// It is not.
    Absent(Absence),
}

/// Why there is no fast path.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Absence {
    /// There are no programs.
    #[error("classic mode has no fast path")]
    Classic,
    /// The configuration switches it off.
    #[error("the configuration says `fastpath: off`")]
    Off,
    /// It was not set up.
    #[error("this daemon was started without a fast path")]
    NotSetUp,
}

impl Access {
    /// How a flow of the flow table stands to it.
    #[must_use]
    pub fn standing(&self, key: &FlowKey, flow: &Flow) -> Standing {
        match self {
            Self::There(fast_path) => fast_path.standing(key, flow),
            Self::Absent(_) => Standing::Stack(Why::Off),
        }
    }

    /// How it stands.
    #[must_use]
    pub fn status(&self) -> FastPathStatus {
        match self {
            Self::There(fast_path) => fast_path.status(),
            Self::Absent(absence) => FastPathStatus {
                reason: Some(absence.to_string()),
                ..FastPathStatus::default()
            },
        }
    }

    /// Sends all flows back to the stack; returns how many took it.
    ///
    /// # Errors
    /// When there is none, or what was in the way.
    pub fn flush(&self) -> Result<u64, String> {
        match self {
            Self::There(fast_path) => fast_path.flush(),
            Self::Absent(absence) => Err(absence.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use failover_common::{Counters, Family};

    use super::*;
    use crate::fastpath::fake::FakeFastPath;
    use crate::fastpath::standing::Uncounted;

    const KEY: FlowKey = FlowKey {
        inside: [198; 16],
        outside: [203; 16],
        inside_port: 40_000,
        outside_port: 443,
        protocol: 6,
        family: Family::Ipv4,
        reserved: [0; 2],
    };
    const FLOW: Flow = Flow::begun(1);

    #[test]
    fn what_the_fast_path_says_is_told() {
        let offloaded = Standing::Offloaded(Uncounted {
            out: Counters {
                packets: 7,
                bytes: 700,
            },
            ..Uncounted::default()
        });
        let access = FakeFastPath::saying(offloaded.clone());
        assert_eq!(access.standing(&KEY, &FLOW), offloaded);
        assert!(access.status().on);
        assert_eq!(access.status().flows, 12_345);
        assert_eq!(FakeFastPath::flushing(Ok(7)).flush(), Ok(7));
    }

    #[test]
    fn where_there_is_none_it_is_told_why() {
        for (absence, why) in [
            (Absence::Classic, "classic mode has no fast path"),
            (Absence::Off, "the configuration says `fastpath: off`"),
            (
                Absence::NotSetUp,
                "this daemon was started without a fast path",
            ),
        ] {
            let access = Access::Absent(absence);
            assert_eq!(access.standing(&KEY, &FLOW), Standing::Stack(Why::Off));
            let status = FastPathStatus {
                on: false,
                reason: Some(why.to_owned()),
                ..FastPathStatus::default()
            };
            assert_eq!(access.status(), status);
            assert_eq!(access.flush(), Err(why.to_owned()));
        }
    }
}
