//! eBPF mode: TC programs pick the uplink of each new flow and keep known flows on theirs.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`object`] | holds the compiled programs |
//! | [`program`] | names them |
//! | [`support`] | says why they cannot be used here |
//! | [`mount`] | sees to the BPF file system |
//! | [`made`] | remembers what was made, for `failover clean` |
//! | [`pins`] | knows where maps and links are pinned, and which of them can be used again |
//! | [`load`] | loads the programs |
//! | [`maps`] | reads and writes the maps |
//! | `uplinks` | reads and writes the uplinks among them |
//! | [`publish`] | brings them into the wanted state |
//! | [`conditions`] | makes lookups of the user's rules |
//! | [`rules`] | brings these into the maps |
//! | `release` | lets single flows go |
//! | [`attach`] | hangs a program on an interface |
//! | `clsact` | the same on kernels without TCX |
//! | [`leftovers`] | takes everything out, whichever version put it there |
//! | [`log`] | passes on what the programs log |
//! | [`traffic`] | passes on what they know of users' traffic |
//! | [`table`] | reads the flow table, for people |
//! | [`steering`] | joins them |

pub mod attach;
mod clsact;
pub mod conditions;
pub mod leftovers;
pub mod load;
pub mod log;
pub mod made;
pub mod maps;
pub mod mount;
pub mod object;
pub mod offload;
pub mod pins;
pub mod program;
pub mod publish;
mod release;
pub mod rules;
pub mod steering;
pub mod support;
pub mod table;
pub mod traffic;
mod uplinks;

pub use steering::{Ebpf, EbpfError};
