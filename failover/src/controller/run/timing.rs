//! What is done when its time has come.

use std::time::{Duration, Instant};

use tracing::warn;

use super::{AUDIT, Daemon, moment};
use crate::controller::apply::Kernel;
use crate::controller::timers::due;
use crate::dataplane::Steering;
use crate::journal::Event;

/// The wait before the next look where one has failed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

impl<K: Kernel, S: Steering> Daemon<K, S> {
    pub(super) async fn timers(&mut self) {
        let now = Instant::now();
        if self.timers.audit <= now {
            self.timers.audit = now + AUDIT;
            self.timers.look = Some(now);
            self.timers.inspect_firewall = Some(now);
            self.track_file.inspect();
            self.suspect_routing();
            self.applier.suspect_settings();
            self.applier.suspect_steering();
            self.tell_how_things_stand();
        }
        if due(&mut self.timers.look, now) {
            match self.observer.view().await {
                Ok(view) => self.engine.network(view, moment()),
                Err(error) => {
                    warn!(%error, "cannot look at the network; trying again in a second");
                    self.timers.look = Some(now + LOOK_AGAIN);
                }
            }
        }
        if due(&mut self.timers.inspect_firewall, now) {
            match self.applier.inspect_firewall().await {
                Ok(true) => {}
                Ok(false) => {
                    warn!("somebody changed our nftables table; it is put in place again");
                    let reason = "somebody changed our nftables table".to_owned();
                    self.journal.note(Event::Repaired { reason });
                    self.suspect = true;
                }
                Err(error) => warn!(%error, "cannot inspect our nftables table"),
            }
        }
        if due(&mut self.timers.second_deletion, now) {
            let again = std::mem::take(&mut self.again);
            let engine = &self.engine;
            self.applier
                .look_around(engine.surroundings(), engine.keeping(&again));
            for flows in again {
                if self.engine.forgets_again(&flows)
                    && let Err(error) = self.applier.forget(flows).await
                {
                    warn!(%error, "cannot forget flows a second time");
                }
            }
            self.tell_clients();
        }
        self.timers.retry.begin(now);
        self.read_meters(now);
        self.read_loads(now).await;
    }
}
