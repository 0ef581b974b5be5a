//! What the next daemon has to know of what this one saw: loaded at the start, and written when it
//! changes.

use tracing::warn;

use crate::controller::engine::Engine;
use crate::state::{RememberedAddresses, RememberedDrains, RememberedHealth, Store, StoreError};

/// What is kept in the state folder.
#[derive(Debug, Default)]
pub struct Remembered {
    /// The last verdicts.
    pub health: RememberedHealth,
    /// Which uplinks are draining.
    pub drains: RememberedDrains,
    /// Which addresses uplinks have.
    pub addresses: RememberedAddresses,
}

impl Remembered {
    /// Reads what an earlier daemon kept. What cannot be read is forgotten.
    #[must_use]
    pub fn load(store: &Store) -> Self {
        Self {
            health: or_nothing(store.health(), "last states are forgotten"),
            drains: or_nothing(store.drains(), "how long uplinks are draining is forgotten"),
            addresses: or_nothing(store.addresses(), "former addresses are forgotten"),
        }
    }

    /// Keeps what has changed.
    pub fn keep(&mut self, engine: &Engine, store: &Store) {
        keep(
            &mut self.health,
            engine.remembered(),
            |health| store.keep_health(health),
            "last states will not be known after a restart",
        );
        keep(
            &mut self.drains,
            engine.remembered_drains(),
            |drains| store.keep_drains(drains),
            "how long uplinks are draining will not be known after a restart",
        );
        keep(
            &mut self.addresses,
            engine.remembered_addresses(),
            |addresses| store.keep_addresses(addresses),
            "former addresses will not be known after a restart",
        );
    }
}

/// Writes a value where it has changed.
fn keep<T: PartialEq>(
    kept: &mut T,
    now: T,
    write: impl FnOnce(&T) -> Result<(), StoreError>,
    otherwise: &'static str,
) {
    if now != *kept {
        if let Err(error) = write(&now) {
            warn!(%error, "{otherwise}");
        }
        *kept = now;
    }
}

fn or_nothing<T: Default>(loaded: Result<T, StoreError>, otherwise: &'static str) -> T {
    loaded.unwrap_or_else(|error| {
        warn!(%error, "{otherwise}");
        T::default()
    })
}
