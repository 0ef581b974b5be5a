//! Networks behind interfaces that are no downlinks, as those of marks are: translated by
//! their own rules, sticky, and moved by a failover.
use crate::SystemTest;

pub(crate) fn tests() -> Vec<SystemTest> {
    Vec::new()
}
