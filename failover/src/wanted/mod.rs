//! The state that the kernel should be in, computed whole, and its difference from what is there.

pub mod routing;
