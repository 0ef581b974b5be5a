//! The command line of failover.
fn main() {}
