//! The moments that the daemon's loop waits for.

use std::time::Instant;

use crate::controller::retry::Retry;

/// When something is due that no event announces.
#[derive(Debug)]
pub(super) struct Timers {
    /// To look at the network.
    pub(super) look: Option<Instant>,
    /// To look at the own nftables table.
    pub(super) inspect_firewall: Option<Instant>,
    /// To try again what failed.
    pub(super) retry: Retry,
    /// To forget flows once more.
    pub(super) second_deletion: Option<Instant>,
    /// To read how much uplinks carry.
    pub(super) loads: Option<Instant>,
    /// To tell the service manager that the daemon lives.
    pub(super) alive: Option<Instant>,
    /// To look at everything.
    pub(super) audit: Instant,
    /// To read what probes take.
    pub(super) meters: Instant,
}

impl Timers {
    /// Nothing but the first look at everything, and the first reading.
    pub(super) const fn new(audit: Instant, meters: Instant) -> Self {
        Self {
            look: None,
            inspect_firewall: None,
            retry: Retry::new(),
            second_deletion: None,
            loads: None,
            alive: None,
            audit,
            meters,
        }
    }

    /// When the next is due.
    pub(super) fn next(&self) -> Instant {
        [
            self.look,
            self.inspect_firewall,
            self.retry.at(),
            self.second_deletion,
            self.loads,
            self.alive,
        ]
        .into_iter()
        .flatten()
        .fold(self.audit.min(self.meters), Instant::min)
    }
}

/// Takes a moment that has come.
pub(super) fn due(timer: &mut Option<Instant>, now: Instant) -> bool {
    timer.take_if(|moment| *moment <= now).is_some()
}
