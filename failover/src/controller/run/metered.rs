//! What probes took: read from the kernel now and then, told to the engine, and remembered.

use std::time::Instant;

use tracing::warn;

use super::{Daemon, moment};
use crate::controller::apply::Kernel;
use crate::controller::metering::{Counters, READ};
use crate::dataplane::Steering;
use crate::journal::Event;

impl<K: Kernel, S: Steering> Daemon<K, S> {
    /// Notes where the counters begin.
    pub(super) async fn begin_metering(&mut self) {
        if let Some(counters) = self.metering.first().await {
            self.engine.begin_metering(&counters, moment());
        }
    }

    /// Has the counters read, if that is due.
    pub(super) fn read_meters(&mut self, now: Instant) {
        if self.timers.meters <= now {
            self.timers.meters = now + READ;
            self.metering.ask();
        }
    }

    /// Takes in what the counters say.
    pub(super) fn metered(&mut self, counters: &Counters) {
        for used_up in self.engine.metered(counters, moment()) {
            let (uplink, bytes, budget) = (&used_up.uplink, used_up.bytes, used_up.budget);
            warn!(%uplink, bytes, budget,
                "the budget of its probes is used up: it is asked rarely until midnight UTC");
            self.journal.note(Event::from(used_up));
        }
        self.remember();
    }

    /// Nothing comes after this.
    pub(super) fn end(&mut self) {
        self.end_traces();
        self.remembered.finish(&self.engine, &self.store, moment());
    }
}
