//! What the service manager is told (`sd_notify(3)`): that the daemon is ready, reloads, stops, lives,
//! and how its uplinks are. Where there is none, or none that asked, nothing is told.

mod summary;
mod watchdog;

use std::time::Instant;

use sd_notify::NotifyState;
use tracing::{debug, warn};

use self::watchdog::Watchdog;
use crate::status::StatusDocument;

/// Tells the service manager.
#[derive(Debug, Default)]
pub struct Service {
    /// Somebody listens.
    heard: bool,
    watchdog: Option<Watchdog>,
    /// The line that it has.
    status: String,
    /// Telling failed, and that was said.
    failing: bool,
}

impl Service {
    /// The one that started this program, if it wants to be told.
    #[must_use]
    pub fn of_environment() -> Self {
        Self {
            heard: std::env::var_os("NOTIFY_SOCKET").is_some(),
            watchdog: sd_notify::watchdog_enabled().map(Watchdog::new),
            ..Self::default()
        }
    }

    /// The kernel is as it was decided, and uplinks are so.
    pub fn ready(&mut self, document: &StatusDocument) {
        self.status = summary::of(document);
        let status = self.status.clone();
        self.tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
    }

    /// The configuration is being read again.
    pub fn reloading(&mut self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.tell(&[NotifyState::Reloading, now]),
            Err(error) => debug!(%error, "the service manager is not told of the reload"),
        }
    }

    /// Uplinks are so.
    pub fn status(&mut self, document: impl FnOnce() -> StatusDocument) {
        if !self.heard {
            return;
        }
        let status = summary::of(&document());
        if status != self.status {
            self.tell(&[NotifyState::Status(&status)]);
            self.status = status;
        }
    }

    /// The work is done that was there to do; returns when this is to be said again.
    pub fn alive(&mut self, now: Instant) -> Option<Instant> {
        let watchdog = self.watchdog.as_mut()?;
        let due = watchdog.is_due(now);
        let next = watchdog.next();
        if due {
            self.tell(&[NotifyState::Watchdog]);
        }
        next
    }

    /// The daemon ends.
    pub fn stopping(&mut self) {
        self.tell(&[NotifyState::Stopping]);
    }

    fn tell(&mut self, state: &[NotifyState<'_>]) {
        if !self.heard {
            return;
        }
        match sd_notify::notify(state) {
            Ok(()) => self.failing = false,
            Err(error) if !self.failing => {
                self.failing = true;
                warn!(%error, "cannot tell the service manager how the daemon is");
            }
            Err(_) => {}
        }
    }
}
