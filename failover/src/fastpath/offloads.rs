//! The flows on the fast path: what was offered, what became of it, and what is due.
//!
//! All that is asked of the kernel is asked by the [`worker`](super::worker); here is decided.
//!
//! | file | what it decides |
//! | --- | --- |
//! | `candidates` | who takes the fast path |
//! | `news` | what follows from what happened |
//! | `care` | what is due, and who leaves |
//! | `telling` | how a flow stands |

mod candidates;
mod care;
mod news;
mod telling;

pub use candidates::Candidate;

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use failover_common::{FlowKey, Lease, OffloadKey};

use super::facts::{PassingPacket, Port, Upkeep};
use super::hops::{Around, Hops};
use super::judging::Lifetimes;
use super::places::Places;
use super::plane::{Moved, Plane};
use super::settings::Settings;
use super::slots::Slots;
use super::standing::Why;
use super::upkeep::Life;
use super::waiting::Waiting;
use crate::family::Family;
use crate::flows::{Protocol, address};
use crate::interface::InterfaceIndex;
use crate::mark::Mark;
use crate::uplink::UplinkId;

/// How long packets may take the fast path after the daemon was last heard of: less than connection
/// tracking remembers any of their flows.
const LEASE: Duration = Duration::from_secs(10);

/// A flow on the fast path.
#[derive(Clone, Debug)]
struct Entry {
    key: FlowKey,
    back: OffloadKey,
    /// Where its directions are in the programs' table, from users first.
    places: [u32; 2],
    uplink: UplinkId,
    family: Family,
    generation: u32,
    hops: [u32; 2],
    life: Life,
}

/// Which flows are still to be asked for their ways after a change of routes. Where the next change
/// comes before all were, it goes on from there: otherwise the last ones would never have their turn.
#[derive(Clone, Copy, Debug, Default)]
struct Rerouted {
    next: u32,
    left: u32,
}

/// What of the settings and the surroundings was known when something was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch(u64);

/// A flow that was on the fast path a moment ago.
#[derive(Clone, Copy, Debug)]
struct Leaving {
    key: FlowKey,
    places: [u32; 2],
}

/// All flows on the fast path.
#[derive(Debug)]
pub struct Offloads<P> {
    pub(super) plane: P,
    settings: Arc<Settings>,
    /// Why no flow may take it, while that is so.
    broken: Option<Why>,
    slots: Slots,
    places: Places,
    entries: Vec<Option<Entry>>,
    by_key: HashMap<FlowKey, u32>,
    /// Those that began outside, by their first packets.
    inbound: HashMap<OffloadKey, u32>,
    refused: HashMap<FlowKey, (Why, u64)>,
    /// Flows that are the stack's again: what moved of them is counted with them when no program writes
    /// that any more.
    leaving: Waiting<Leaving>,
    hops: Hops,
    around: Around,
    /// What is in the way of packets that come in by an interface.
    obstacles: BTreeMap<InterfaceIndex, String>,
    /// Flows that began before may end without a word.
    told_since_ns: u64,
    lifetimes: Lifetimes,
    /// Another one when what was asked about candidates may not hold any more.
    epoch: Epoch,
    /// Where the next look at entries begins, and who is looked at after a change of routes.
    cursor: u32,
    rerouted: Rerouted,
    last_id: u32,
}

impl Epoch {
    const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl<P: Plane> Offloads<P> {
    /// None yet. What an earlier daemon left is taken away.
    ///
    /// # Errors
    /// When the kernel refuses that.
    pub fn new(mut plane: P) -> Result<Self, P::Error> {
        let lease = plane.lease();
        plane.set_lease(Lease {
            packets_until_ns: 0,
            offers_until_ns: 0,
            ..lease
        });
        plane.pardon_all()?;
        // Where no id was ever given there is no direction.
        if lease.last_id != 0 {
            plane.clear();
        }
        Ok(Self {
            slots: Slots::new(plane.capacity()),
            places: Places::new(plane.places()),
            plane,
            settings: Arc::default(),
            broken: None,
            entries: Vec::new(),
            by_key: HashMap::new(),
            inbound: HashMap::new(),
            refused: HashMap::new(),
            leaving: Waiting::default(),
            hops: Hops::default(),
            around: Around::default(),
            obstacles: BTreeMap::new(),
            told_since_ns: 0,
            lifetimes: Lifetimes::default(),
            epoch: Epoch(0),
            cursor: 0,
            rerouted: Rerouted::default(),
            last_id: lease.last_id,
        })
    }

    /// How many flows take it.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_key.len()
    }

    /// What offers that are sifted now are to be considered by.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Takes other settings. What they no longer allow is the stack's again.
    pub fn set(&mut self, settings: Arc<Settings>) {
        self.epoch = self.epoch.next();
        if settings.policy != self.settings.policy || settings.is_on != self.settings.is_on {
            self.flush();
        }
        self.forget_refusals(u64::MAX);
        self.settings = settings;
    }

    /// What the worker needs to know of them.
    #[must_use]
    pub fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings)
    }

    /// Flows that began before that moment may end without a word.
    pub const fn set_told_since(&mut self, since_ns: u64) {
        self.told_since_ns = since_ns;
    }

    /// Silent flows are remembered so long.
    pub const fn set_lifetimes(&mut self, lifetimes: Lifetimes) {
        self.lifetimes = lifetimes;
    }

    /// What is in the way, as was just found.
    pub fn set_obstacles(&mut self, obstacles: BTreeMap<InterfaceIndex, String>) {
        if obstacles != self.obstacles {
            self.obstacles = obstacles;
            self.flush();
            self.forget_refusals(u64::MAX);
        }
    }

    /// No flow may take it any more, or flows may again.
    pub fn set_broken(&mut self, broken: Option<Why>) {
        if broken.is_some() && self.broken.is_none() {
            self.flush();
        }
        self.broken = broken;
    }

    /// Sends all flows back to the stack; returns how many there were.
    pub fn flush(&mut self) -> u64 {
        let mut count = 0;
        self.epoch = self.epoch.next();
        for slot in 0..self.slots.used() {
            count += u64::from(self.remove(slot));
        }
        count
    }

    /// Takes the surroundings as they were just read.
    pub fn look_around(&mut self, around: Around) {
        self.around = around;
        self.hops.follow(&self.around, None, &mut self.plane);
    }

    /// Takes interfaces as they were just read.
    pub fn ports_are(&mut self, ports: BTreeMap<InterfaceIndex, Port>) {
        if ports != self.around.ports {
            self.around.ports = ports;
            self.hops.follow(&self.around, None, &mut self.plane);
        }
    }

    /// What the programs may do until the next look. Offers are wanted while flows may take it.
    pub fn renew_lease(&mut self, now_ns: u64) {
        let until_ns = now_ns.saturating_add(nanos(LEASE));
        let wanted = self.settings.is_on && self.broken.is_none();
        self.plane.set_lease(Lease {
            packets_until_ns: if self.by_key.is_empty() { 0 } else { until_ns },
            offers_until_ns: if wanted { until_ns } else { 0 },
            last_id: self.last_id,
            reserved: 0,
        });
    }

    /// Nobody is there any more.
    pub fn end(&mut self) {
        self.plane.set_lease(Lease {
            last_id: self.last_id,
            ..Lease::default()
        });
    }

    /// Sends a flow back to the stack; returns whether there was one.
    fn remove(&mut self, slot: u32) -> bool {
        let place = usize::try_from(slot).unwrap_or(usize::MAX);
        let Some(entry) = self.entries.get_mut(place).and_then(Option::take) else {
            return false;
        };
        for place in entry.places {
            self.plane.give_up(place);
        }
        let wait = self.plane.wait_for_programs();
        self.slots.give_up(slot, wait);
        let leaving = Leaving {
            key: entry.key,
            places: entry.places,
        };
        self.leaving.push(leaving, wait);
        let keys = [OffloadKey::from_users(&entry.key), entry.back];
        for (place, key) in entry.places.into_iter().zip(keys) {
            let displaced = self.places.give_up(place, &key.words(), wait);
            displaced
                .into_iter()
                .for_each(|told| self.plane.displace(told));
        }
        self.by_key.remove(&entry.key);
        self.inbound.remove(&entry.back);
        for hop in entry.hops {
            self.hops.give_up(hop);
        }
        true
    }

    /// What moved of a flow, in both directions.
    fn moved(&self, entry: &Entry) -> [Moved; 2] {
        entry.places.map(|place| self.plane.read(place))
    }

    fn entry(&self, slot: u32) -> Option<&Entry> {
        self.entries.get(usize::try_from(slot).ok()?)?.as_ref()
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        let place = usize::try_from(slot).ok()?;
        self.entries.get_mut(place)?.as_mut()
    }
}

/// The packets of a flow in both directions, from users first, as they look between the translations of
/// destination and source. Those of a provider are not marked.
const fn passing(
    protocol: Protocol,
    mark: Mark,
    users: (IpAddr, u16),
    provider: (IpAddr, u16),
    [from_users, from_provider]: [InterfaceIndex; 2],
) -> [PassingPacket; 2] {
    let out = PassingPacket {
        ingress: from_users,
        mark,
        source: users.0,
        destination: provider.0,
        protocol,
        source_port: users.1,
        destination_port: provider.1,
    };
    let back = PassingPacket {
        ingress: from_provider,
        mark: Mark(0),
        source: provider.0,
        destination: users.0,
        protocol,
        source_port: provider.1,
        destination_port: users.1,
    };
    [out, back]
}

fn upkeep(key: &FlowKey, remaining: Option<Duration>) -> Upkeep {
    Upkeep {
        inside: address(key.inside, key.family),
        outside: address(key.outside, key.family),
        protocol: Protocol(key.protocol),
        inside_port: key.inside_port,
        outside_port: key.outside_port,
        remaining,
        relax: key.protocol == Protocol::TCP.0,
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "offloads_tests.rs"]
mod tests;
