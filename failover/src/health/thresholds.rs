//! What it takes to change a verdict.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::round::{Demand, Places};
use crate::config::{ProbeConfig, QualityLimits};

/// What it takes to change a verdict. Zero counts as one everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thresholds {
    /// Targets that must answer for a round to be good; all where fewer are asked.
    pub required: u16,
    /// Bad rounds in a row until down.
    pub down_after: u16,
    /// Good rounds in a row until up again.
    pub up_after: u16,
    /// What is too bad to be preferred.
    pub quality: QualityLimits,
    /// For how long one that fails again and again is held back at most.
    pub max_hold: Duration,
}

impl Thresholds {
    pub(super) fn longest_row(self) -> u16 {
        self.down_after.max(self.up_after)
    }
}

impl From<&ProbeConfig> for Thresholds {
    fn from(probe: &ProbeConfig) -> Self {
        Self {
            required: probe.required,
            down_after: probe.down_after,
            up_after: probe.up_after,
            quality: probe.quality,
            max_hold: probe.max_hold,
        }
    }
}

/// What makes a round good without these targets.
pub(super) const fn demand(thresholds: Thresholds, aside: Places) -> Demand {
    Demand {
        required: thresholds.required,
        aside,
    }
}
