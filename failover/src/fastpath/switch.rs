//! The fast path as it is switched on and off: while it is off there is no worker, and the kernel is
//! asked nothing.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use failover_common::{Flow, FlowKey};
use tracing::{info, warn};

use super::plane::Plane;
use super::settings::Settings;
use super::standing::{FastPath, FastPathStatus, Standing, Why};
use super::worker::Worker;

/// The worker, while there is one.
pub struct Switch<P>(Mutex<State<P>>);

enum State<P> {
    Off,
    On(Worker<P>),
    /// It could not begin.
    Broken(String),
}

impl<P> Default for Switch<P> {
    fn default() -> Self {
        Self(Mutex::new(State::Off))
    }
}

impl<P> fmt::Debug for Switch<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").finish_non_exhaustive()
    }
}

impl<P: Plane + 'static> Switch<P> {
    /// Has it follow these settings; `start` begins one where there is none yet.
    pub fn set(&self, settings: Settings, start: impl FnOnce() -> Result<Worker<P>, String>) {
        let mut state = self.state();
        if !settings.is_on {
            *state = State::Off;
            return;
        }
        if let State::Off = *state {
            *state = match start() {
                Ok(worker) => {
                    info!("flows that last take the fast path");
                    State::On(worker)
                }
                Err(reason) => {
                    warn!(reason, "no flow takes the fast path");
                    State::Broken(reason)
                }
            };
        }
        if let State::On(worker) = &*state {
            worker.set(settings);
        }
    }

    /// Has no flow take it any more.
    pub fn switch_off(&self) {
        *self.state() = State::Off;
    }

    fn state(&self) -> MutexGuard<'_, State<P>> {
        // Whoever broke off while changing it left one of its states.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Plane + 'static> FastPath for Switch<P> {
    fn standing(&self, key: &FlowKey, flow: &Flow) -> Standing {
        match &*self.state() {
            State::Off => Standing::Stack(Why::Off),
            State::On(worker) => worker.standing(key, flow),
            State::Broken(reason) => Standing::Stack(Why::Broken(reason.clone())),
        }
    }

    fn status(&self) -> FastPathStatus {
        let off = |reason: &str| FastPathStatus {
            reason: Some(reason.to_owned()),
            ..FastPathStatus::default()
        };
        match &*self.state() {
            State::Off => off("the configuration says `fastpath: off`"),
            State::On(worker) => worker.status(),
            State::Broken(reason) => off(reason),
        }
    }

    fn flush(&self) -> Result<u64, String> {
        match &*self.state() {
            State::Off => Err("the configuration says `fastpath: off`".to_owned()),
            State::On(worker) => worker.flush(),
            State::Broken(reason) => Err(reason.clone()),
        }
    }
}
