//! How a scenario has flows steered: one of the daemon's modes, and in eBPF mode with or without the
//! fast path.

use std::fmt;

use failover_tests::Failover;
use failover_tests::daemon::Mode;

/// Has the programs offer flows with their first packets (`failover/src/dataplane/chosen.rs`): those of
/// scenarios have few.
const OFFER_EARLY: &str = "FAILOVER_OFFER_EARLY";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steering {
    /// By nftables.
    Classic,
    /// By TC programs, and all packets pass the stack.
    Ebpf,
    /// By TC programs, and flows that last take the fast path.
    FastPath,
}

impl Steering {
    /// All of them.
    pub(crate) const ALL: &[Self] = &[Self::Classic, Self::Ebpf, Self::FastPath];
    /// Those with TC programs.
    pub(crate) const EBPF: &[Self] = &[Self::Ebpf, Self::FastPath];
    /// Those of a scenario about the fast path.
    pub(crate) const FAST: &[Self] = &[Self::FastPath];

    /// The daemon's mode.
    pub(crate) const fn mode(self) -> Mode {
        match self {
            Self::Classic => Mode::Classic,
            Self::Ebpf | Self::FastPath => Mode::Ebpf,
        }
    }

    /// What a configuration says of it; one that names the fast path itself is taken at its word.
    pub(crate) fn settings(self, config: &str) -> String {
        let mode = self.mode();
        match self {
            Self::Ebpf if !config.contains("\nfastpath:") => {
                format!("mode: {mode}\nfastpath: off\n")
            }
            _ => format!("mode: {mode}\n"),
        }
    }

    /// The program, so that flows take the fast path early where they are to take it.
    pub(crate) fn prepare(self, failover: Failover) -> Failover {
        match self {
            Self::FastPath => failover.variable(OFFER_EARLY, "1"),
            Self::Classic | Self::Ebpf => failover,
        }
    }
}

/// As names of tests call it.
impl fmt::Display for Steering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classic => "classic",
            Self::Ebpf => "ebpf",
            Self::FastPath => "fastpath",
        })
    }
}
