//! What a developer of failover runs.
fn main() {}
