//! The fast path: established flows bypass routing and netfilter.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`standing`] | says how flows stand to it |
//! | [`facts`] | what the kernel says of a flow |
//! | [`edge`] | what is asked of the kernel |

pub mod edge;
pub mod facts;
pub mod standing;
