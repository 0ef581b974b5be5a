//! The TC programs by themselves, without a daemon: loaded in a gateway, given single packets by
//! `BPF_PROG_TEST_RUN`, or attached to its interfaces. And the maps that a daemon has pinned.

mod assembled;
mod attach;
mod counter;
mod fastpath;
mod instruction;
mod loaded;
mod pinned;
mod remembering;
mod rules;
mod run;
mod stand;
mod traffic;

pub use assembled::Assembled;
pub(crate) use assembled::failed;
pub use attach::{Direction, attach, has_tcx};
pub use counter::{Counter, Order};
pub(crate) use instruction::{Assembly, Instruction, Place, Width, code};
pub use loaded::{Loaded, Settings};
pub use pinned::{FlowMap, empty, flow_map};
pub use remembering::Remembering;
pub use run::{Context, Run, run};
pub use stand::{Stand, Wiring};

/// Why the programs could not be used.
#[derive(Debug, thiserror::Error)]
pub enum ProgramsError {
    /// The object is unreadable, or the kernel refuses its maps.
    #[error("cannot load the eBPF object: {0}")]
    Object(#[from] aya::EbpfError),
    /// The kernel refuses a program.
    #[error("eBPF program {name}: {source}")]
    Program {
        /// Its name.
        name: String,
        /// What the kernel said.
        source: aya::programs::ProgramError,
    },
    /// The kernel refuses an operation on a map.
    #[error("eBPF map {name}: {source}")]
    Map {
        /// Its name.
        name: String,
        /// What the kernel said.
        source: aya::maps::MapError,
    },
    /// The object has no such part.
    #[error("the eBPF object has no {0}")]
    Missing(String),
    /// A map holds what nobody may write there.
    #[error("eBPF map {name} holds what makes no sense: {found:?}")]
    Nonsense {
        /// Its name.
        name: String,
        /// The bytes.
        found: Vec<u8>,
    },
    /// The lab failed.
    #[error(transparent)]
    Lab(#[from] crate::LabError),
}
