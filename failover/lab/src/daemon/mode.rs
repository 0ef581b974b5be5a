//! The ways in which the daemon steers flows.

use std::fmt;

/// How the daemon steers flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By nftables.
    Classic,
    /// By TC programs.
    Ebpf,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Classic, Self::Ebpf];
}

/// As the configuration and the status call it.
impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Classic => "classic",
            Self::Ebpf => "ebpf",
        })
    }
}
