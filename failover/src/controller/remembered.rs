//! What the next daemon has to know of what this one saw: loaded at the start, and written when it
//! changes.

use std::time::Duration;

use jiff::Timestamp;
use tracing::warn;

use crate::controller::engine::{Dampings, Engine, Moment};
use crate::state::{
    RememberedAddresses, RememberedByHand, RememberedDamping, RememberedDrains, RememberedHealth,
    RememberedMeters, RememberedRuleDrains, Store, StoreError,
};

/// A clock that people read has jumped when it is so far from where it was expected: the moments that
/// were written by it are written anew. A router without a battery begins in the past.
const JUMP: Duration = Duration::from_secs(60);

/// How often what probes took is written, if nothing else of it changes: their counters go on when a
/// daemon ends, so that only a loss of power loses so much of them.
const METERS: Duration = Duration::from_secs(10 * 60);

/// What is kept in the state folder.
#[derive(Debug, Default)]
pub struct Remembered {
    /// The last verdicts.
    pub health: RememberedHealth,
    /// What uplinks have to answer for, as it was read.
    pub damping: RememberedDamping,
    /// The same as it was last written, and when.
    dampings: Option<(Dampings, Moment)>,
    /// What probes took.
    pub meters: RememberedMeters,
    metered: Option<Moment>,
    /// Which uplinks are draining.
    pub drains: RememberedDrains,
    /// Of which rules flows may finish.
    pub rule_drains: RememberedRuleDrains,
    /// What is done about uplinks by hand.
    pub by_hand: RememberedByHand,
    /// That could not be written, which was told.
    unkept: bool,
    /// Which addresses uplinks have.
    pub addresses: RememberedAddresses,
}

impl Remembered {
    /// Reads what an earlier daemon kept. What cannot be read is forgotten.
    #[must_use]
    pub fn load(store: &Store) -> Self {
        Self {
            health: or_nothing(store.health(), "last states are forgotten"),
            damping: or_nothing(store.damping(), "earlier failures are forgotten"),
            dampings: None,
            meters: or_nothing(store.meters(), "what probes took today is forgotten"),
            metered: None,
            drains: or_nothing(store.drains(), "how long uplinks are draining is forgotten"),
            rule_drains: or_nothing(
                store.rule_drains(),
                "how long flows of rules may take to finish is forgotten",
            ),
            by_hand: or_nothing(store.by_hand(), "what was done by hand is forgotten"),
            unkept: false,
            addresses: or_nothing(store.addresses(), "former addresses are forgotten"),
        }
    }

    /// Keeps what is done by hand. What could not be written is tried again when it is next called.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_by_hand(&mut self, engine: &Engine, store: &Store) -> Result<(), StoreError> {
        let by_hand = engine.remembered_by_hand();
        if by_hand != self.by_hand {
            store.keep_by_hand(&by_hand)?;
            self.by_hand = by_hand;
        }
        Ok(())
    }

    /// Keeps what has changed.
    pub fn keep(&mut self, engine: &Engine, store: &Store, now: Moment) {
        let kept = self.keep_by_hand(engine, store);
        let told = std::mem::replace(&mut self.unkept, kept.is_err());
        if let Err(error) = kept
            && !told
        {
            warn!(%error, "what is done by hand will not be known after a restart");
        }
        self.keep_dampings(engine, store, now);
        let meters = engine.remembered_meters();
        let last = self.metered.map_or(now.at, |metered| metered.at + METERS);
        if last <= now.at || !is_about_the_same(&self.meters, &meters) {
            self.keep_meters(meters, store, now);
        }
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
            &mut self.rule_drains,
            engine.remembered_rule_drains(),
            |drains| store.keep_rule_drains(drains),
            "how long flows of rules may take to finish will not be known after a restart",
        );
        keep(
            &mut self.addresses,
            engine.remembered_addresses(),
            |addresses| store.keep_addresses(addresses),
            "former addresses will not be known after a restart",
        );
    }
}

impl Remembered {
    /// Keeps what is written now and then only. No more is kept after that.
    pub fn finish(&mut self, engine: &Engine, store: &Store, now: Moment) {
        self.keep(engine, store, now);
        self.keep_meters(engine.remembered_meters(), store, now);
    }

    fn keep_meters(&mut self, meters: RememberedMeters, store: &Store, now: Moment) {
        self.metered = Some(now);
        keep(
            &mut self.meters,
            meters,
            |meters| store.keep_meters(meters),
            "what probes took today will not be known after a restart",
        );
    }

    /// Their moments are compared by the clock that never jumps.
    fn keep_dampings(&mut self, engine: &Engine, store: &Store, now: Moment) {
        let dampings = engine.dampings();
        let is_known = match &self.dampings {
            Some((known, then)) => {
                *known == dampings && (dampings.is_empty() || !has_jumped(*then, now))
            }
            None => dampings.is_empty() && self.damping.is_empty(),
        };
        if is_known {
            return;
        }
        let kept = dampings
            .iter()
            .map(|(name, families)| {
                let kept = families.clone();
                (name.clone(), kept.map(|one| one.kept(now.at, now.wall)))
            })
            .collect();
        if let Err(error) = store.keep_damping(&kept) {
            warn!(%error, "earlier failures will not be known after a restart");
        }
        self.dampings = Some((dampings, now));
    }
}

/// Whether they differ at most in how much was counted.
fn is_about_the_same(these: &RememberedMeters, those: &RememberedMeters) -> bool {
    let of = |meters: &RememberedMeters| {
        let facts = meters
            .iter()
            .map(|(name, kept)| (name.clone(), kept.day, kept.used_up));
        facts.collect::<Vec<_>>()
    };
    of(these) == of(those)
}

/// Whether the clock that people read went otherwise than the other one.
fn has_jumped(then: Moment, now: Moment) -> bool {
    let passed = now.at.saturating_duration_since(then.at);
    let expected = then.wall.checked_add(passed).unwrap_or(Timestamp::MAX);
    now.wall.duration_since(expected).unsigned_abs() > JUMP
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::controller::engine::tests::{Bench, YAML, both};

    #[test]
    fn failures_are_written_when_there_are_more_and_when_the_clock_jumped() {
        let folder = std::env::temp_dir().join(format!("failover-kept-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (store, file) = (Store::new(&folder), folder.join("damping.json"));
        let mut remembered = Remembered::load(&store);
        let mut bench = Bench::new(YAML);
        let mut keep = |bench: &Bench, now: Moment| {
            remembered.keep(&bench.engine, &store, now);
            let written = file.exists();
            if written {
                fs::remove_file(&file).unwrap();
            }
            written
        };
        bench.rounds(5, &[]);
        assert!(!keep(&bench, bench.now()), "nothing failed");
        bench.rounds(5, &both(1));
        assert!(keep(&bench, bench.now()));
        bench.rounds(5, &both(1));
        assert!(!keep(&bench, bench.now()), "it is dead as before");
        let mut later = bench.now();
        later.wall = later.wall.checked_add(Duration::from_secs(3600)).unwrap();
        assert!(keep(&bench, later), "the clock was set");
        later.wall = later.wall.checked_add(Duration::from_secs(30)).unwrap();
        assert!(!keep(&bench, later));
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn what_probes_took_is_written_now_and_then_and_at_the_end() {
        let folder = std::env::temp_dir().join(format!("failover-meters-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let store = Store::new(&folder);
        let mut remembered = Remembered::load(&store);
        let mut bench = Bench::new(YAML);
        let fiber = crate::uplink::UplinkId::try_from(1).unwrap();
        let mut now = bench.now();
        bench.engine.begin_metering(&[(fiber, 0)].into(), now);
        let mut written = Vec::new();
        for minute in 1..=30 {
            now.at += Duration::from_secs(60);
            now.wall = now.wall.checked_add(Duration::from_secs(60)).unwrap();
            bench.engine.metered(&[(fiber, minute * 100)].into(), now);
            remembered.keep(&bench.engine, &store, now);
            let bytes: u64 = store
                .meters()
                .unwrap()
                .values()
                .map(|kept| kept.bytes)
                .sum();
            written.push(bytes);
        }
        written.dedup();
        assert_eq!(written, [100_u64, 1_100, 2_100]);
        remembered.finish(&bench.engine, &store, now);
        let kept = store.meters().unwrap();
        assert_eq!(kept.values().map(|kept| kept.bytes).sum::<u64>(), 3_000);
        fs::remove_dir_all(&folder).unwrap();
    }
}
