//! How much uplinks carry: read once a second, as long as a strategy goes by it.
//!
//! The counters of all links are one answer of the kernel, of some hundred bytes for each: it is
//! waited for inside the loop.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::{Daemon, moment};
use crate::controller::apply::Kernel;
use crate::controller::timers::due;
use crate::dataplane::Steering;

/// How often it is read, and with that how often a full uplink changes who gets new flows at most.
const READ: Duration = Duration::from_secs(1);

impl<K: Kernel, S: Steering> Daemon<K, S> {
    /// Has it read from now on, or no more, as strategies want.
    pub(super) fn time_loads(&mut self, now: Instant) {
        if self.engine.wants_loads() {
            self.timers.loads.get_or_insert(now);
        } else {
            self.timers.loads = None;
        }
    }

    /// Reads it, if that is due.
    pub(super) async fn read_loads(&mut self, now: Instant) {
        if !due(&mut self.timers.loads, now) {
            return;
        }
        self.timers.loads = Some(now + READ);
        match self.observer.links().await {
            Ok(links) => {
                if std::mem::take(&mut self.loads_unread) {
                    info!("how much uplinks carry is known again");
                }
                self.engine.loads(&links, moment());
            }
            // What was known goes out of date: no uplink stays full because of that.
            Err(error) => {
                if !std::mem::replace(&mut self.loads_unread, true) {
                    warn!(%error, "cannot read how much uplinks carry; trying again each second");
                }
                self.engine.loads(&BTreeMap::new(), moment());
            }
        }
    }
}
