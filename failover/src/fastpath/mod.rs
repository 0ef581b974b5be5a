//! The fast path: established flows bypass routing and netfilter.
//!
//! The TC programs offer flows that last; a worker asks the kernel about them and puts those that may
//! into the programs' maps, keeps connection tracking from forgetting them, and takes them out again.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`standing`] | says how flows stand to it |
//! | [`settings`] | knows what the configuration and the network allow |
//! | `words` | the word for each reason |
//! | [`access`] | the fast path as those reach it who ask about it |
//! | [`facts`] | what the kernel says of a flow |
//! | [`judging`] | decides by these whether it may take the fast path |
//! | [`translation`] | says what is done with its packets |
//! | [`hops`] | knows next hops and their hardware addresses |
//! | [`slots`] | numbers what is there, and knows which numbers are free |
//! | [`places`] | where directions are in the programs' table |
//! | [`waiting`] | keeps what was given up until no program looks at it |
//! | [`upkeep`] | knows when connection tracking is to be told that a flow lives |
//! | [`offloads`] | joins these: the flows on the fast path |
//! | [`edge`] | what is asked of the kernel |
//! | [`plane`] | what is done to the maps |
//! | [`worker`] | the thread that does it |
//! | [`switch`] | switches it on and off |

pub mod access;
pub mod edge;
pub mod facts;
#[cfg(test)]
pub(crate) mod fake;
pub mod hops;
pub mod judging;
pub mod offloads;
pub mod places;
pub mod plane;
#[cfg(test)]
pub(crate) mod recorded;
pub mod settings;
pub mod slots;
pub mod standing;
pub mod switch;
pub mod translation;
pub mod upkeep;
pub mod waiting;
mod words;
pub mod worker;
