//! What is told to people and to other machines: the daemon says how things stand, and waits for
//! nothing.

use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::Daemon;
use crate::controller::apply::Kernel;
use crate::dataplane::Steering;
use crate::family::Family;
use crate::journal::Event;
use crate::status::{State, StatusDocument};

/// How long the last messages may take.
const LAST_WORDS: Duration = Duration::from_secs(2);

impl<K: Kernel, S: Steering> Daemon<K, S> {
    /// Says how uplinks stand, after the kernel is told.
    pub(in crate::controller) fn tell_how_things_stand(&mut self) {
        self.untold = false;
        let status = self.engine.status(Instant::now());
        let offline = is_offline(&status);
        if offline != std::mem::replace(&mut self.offline, offline) {
            self.journal.note(if offline {
                warn!("no uplink works any more");
                Event::Offline
            } else {
                info!("an uplink works again");
                Event::Online
            });
        }
        self.notifier.present(status);
    }

    /// Has the last things told.
    pub(in crate::controller) async fn finish_telling(self) {
        self.notifier.finish(LAST_WORDS).await;
    }
}

/// Whether no uplink works: none may, of those that are not yet judged neither.
fn is_offline(status: &StatusDocument) -> bool {
    let states = || {
        let uplinks = status.uplinks.iter();
        uplinks.flat_map(|uplink| Family::ALL.map(|family| uplink.family(family).state))
    };
    states().any(|state| state == State::Down)
        && !states().any(|state| matches!(state, State::Up | State::Degraded | State::Unknown))
}
