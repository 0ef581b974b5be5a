//! `failover clean`.

use crate::cli::Outcome;
use crate::cli::args::ConfigArgs;
pub(super) fn clean(_args: &ConfigArgs) -> Outcome { Ok(()) }
