//! The fast path as it is switched on and off. Before it is first switched on there is no worker, and the
//! kernel is asked nothing. One that was on rests while it is off: it still has the kernel make entries
//! whose end it tells, so that flows can take the fast path again that began meanwhile.

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
    /// It is off, and has been on.
    Rests(Worker<P>),
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
        let before = std::mem::replace(&mut *state, State::Off);
        *state = match before {
            State::On(worker) | State::Rests(worker) if !settings.is_on => {
                worker.set(settings);
                State::Rests(worker)
            }
            State::On(worker) => {
                worker.set(settings);
                State::On(worker)
            }
            State::Rests(worker) => {
                info!("flows that last take the fast path");
                worker.set(settings);
                State::On(worker)
            }
            State::Off | State::Broken(_) if !settings.is_on => State::Off,
            State::Off => match start() {
                Ok(worker) => {
                    info!("flows that last take the fast path");
                    worker.set(settings);
                    State::On(worker)
                }
                Err(reason) => {
                    warn!(reason, "no flow takes the fast path");
                    State::Broken(reason)
                }
            },
            State::Broken(reason) => State::Broken(reason),
        };
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
            State::Off | State::Rests(_) => Standing::Stack(Why::Off),
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
            State::Off | State::Rests(_) => off("the configuration says `fastpath: off`"),
            State::On(worker) => worker.status(),
            State::Broken(reason) => off(reason),
        }
    }

    fn flush(&self) -> Result<u64, String> {
        match &*self.state() {
            State::Off | State::Rests(_) => {
                Err("the configuration says `fastpath: off`".to_owned())
            }
            State::On(worker) => worker.flush(),
            State::Broken(reason) => Err(reason.clone()),
        }
    }
}
