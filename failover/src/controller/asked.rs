//! The uplink that a command names.

use thiserror::Error;

use crate::flows::Uplinks;
use crate::uplink::UplinkName;

/// No uplink has that name.
#[derive(Debug, Error)]
#[error("there is no uplink `{asked}`; the uplinks are {known}")]
pub(super) struct NoSuchUplink {
    asked: UplinkName,
    known: String,
}

impl NoSuchUplink {
    /// # Errors
    /// When the name is none of theirs.
    pub(super) fn unless_among(uplinks: &Uplinks, asked: &UplinkName) -> Result<(), Self> {
        if uplinks.values().any(|name| name == asked) {
            return Ok(());
        }
        let known: Vec<&str> = uplinks.values().map(UplinkName::as_str).collect();
        Err(Self {
            asked: asked.clone(),
            known: known.join(", "),
        })
    }
}
