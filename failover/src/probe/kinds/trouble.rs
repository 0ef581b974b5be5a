//! What keeps probes from being sent, said in the log once and not each time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tracing::{info, warn};

use crate::config::Target;
use crate::health::Failure;
use crate::probe::way::Way;

/// Why targets cannot be asked, as it was last said.
#[derive(Clone, Debug)]
pub(super) struct Troubles {
    way: Arc<Way>,
    said: Arc<Mutex<BTreeMap<Target, String>>>,
}

impl Troubles {
    pub(super) fn new(way: Arc<Way>) -> Self {
        Self {
            way,
            said: Arc::default(),
        }
    }

    /// Takes note of how asking a target went.
    pub(super) fn note<T>(&self, target: &Target, answer: &Result<T, Failure>) {
        let (uplink, family) = (&self.way.uplink, self.way.family);
        // Nothing in here breaks off half-way.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match answer {
            Err(failure) if failure.is_local() => {
                let why = failure.to_string();
                if said.get(target) != Some(&why) {
                    warn!(%uplink, %family, %target, "a target cannot be asked, trying again: {why}");
                    said.insert(target.clone(), why);
                }
            }
            _ => {
                if said.remove(target).is_some() {
                    info!(%uplink, %family, %target, "a target can be asked again");
                }
            }
        }
    }
}
