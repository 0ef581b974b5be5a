//! Flows that last take the fast path, and users notice nothing of it.

pub(crate) mod established;
pub(crate) mod exchange;
pub(crate) mod leaving;
pub(crate) mod looking;
pub(crate) mod ways;
