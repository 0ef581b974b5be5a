//! The TC programs: the object that holds them, its way into the kernel, and what they count.

pub mod object;
pub mod table;
