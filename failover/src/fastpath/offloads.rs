//! The flows on the fast path: what was offered, what became of it, and what is due.
//!
//! All that is asked of the kernel is asked by the [`worker`](super::worker); here is decided.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Direction, FlowKey, Lease, Offer, OffloadKey, Offloaded, Pair};

use super::facts::{Connection, News, PassingPacket, Upkeep, Way};
use super::hops::{Around, Hops};
use super::judging::{Lifetimes, judge};
use super::plane::Plane;
use super::settings::Settings;
use super::slots::Slots;
use super::standing::{FastPathStatus, Returned, Standing, Why};
use super::translation::{Sides, address, bytes};
use super::upkeep::{Due, Life};
use crate::family::Family;
use crate::flows::Protocol;
use crate::interface::InterfaceIndex;
use crate::mark::Mark;
use crate::uplink::UplinkId;

/// How long packets may take the fast path after the daemon was last heard of: less than connection
/// tracking remembers any of their flows.
const LEASE: Duration = Duration::from_secs(10);
/// How long a flow that cannot take it is not offered again.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How many of these are remembered.
const MOST_REFUSED: usize = 65_536;

/// A flow on the fast path.
#[derive(Clone, Debug)]
struct Entry {
    key: FlowKey,
    back: OffloadKey,
    uplink: UplinkId,
    family: Family,
    generation: u32,
    hops: [u32; 2],
    life: Life,
}

/// A flow that is to take it, when all that was asked is known.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// As it was offered.
    pub offer: Offer,
    sides: Sides,
    timeout: Duration,
    uplink: UplinkId,
    interface: InterfaceIndex,
    epoch: u64,
}

/// All flows on the fast path.
#[derive(Debug)]
pub struct Offloads<P> {
    pub(super) plane: P,
    settings: Arc<Settings>,
    /// Why no flow may take it, while that is so.
    broken: Option<Why>,
    slots: Slots,
    entries: Vec<Option<Entry>>,
    by_key: HashMap<FlowKey, u32>,
    /// Those that began outside, by their first packets.
    inbound: HashMap<OffloadKey, u32>,
    refused: HashMap<FlowKey, (Why, u64)>,
    hops: Hops,
    around: Around,
    /// What is in the way of packets that come in by an interface.
    obstacles: BTreeMap<InterfaceIndex, String>,
    /// Flows that began before may end without a word.
    told_since_ns: u64,
    lifetimes: Lifetimes,
    /// Goes up when what was asked about candidates may not hold any more.
    epoch: u64,
    /// Where the next look at entries begins, and where the one after a change of routes does.
    cursor: u32,
    rerouted: Option<u32>,
    last_id: u32,
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
        // Where no id was ever given there is nothing.
        if lease.last_id != 0 {
            plane.clear()?;
        }
        Ok(Self {
            slots: Slots::new(plane.capacity()),
            plane,
            settings: Arc::default(),
            broken: None,
            entries: Vec::new(),
            by_key: HashMap::new(),
            inbound: HashMap::new(),
            refused: HashMap::new(),
            hops: Hops::default(),
            around: Around::default(),
            obstacles: BTreeMap::new(),
            told_since_ns: 0,
            lifetimes: Lifetimes::default(),
            epoch: 0,
            cursor: 0,
            rerouted: None,
            last_id: lease.last_id,
        })
    }

    /// How many flows take it.
    #[must_use]
    pub fn count(&self) -> usize {
        self.by_key.len()
    }

    /// Takes other settings. What they no longer allow is the stack's again.
    pub fn set(&mut self, settings: Arc<Settings>) {
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
        self.epoch = self.epoch.wrapping_add(1);
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

    /// The offers that are worth a question, as their flow's packets from users look.
    pub fn sift(&mut self, offers: Vec<Offer>, now_ns: u64) -> Vec<(Offer, PassingPacket)> {
        let mut seen = BTreeSet::new();
        let mut asked = Vec::new();
        for offer in offers {
            let key = offer.flow;
            if self.by_key.contains_key(&key) || !seen.insert(key) {
                continue;
            }
            match self.allowed(&offer) {
                Ok(packet) => asked.push((offer, packet)),
                Err(why) => self.refuse(key, why, now_ns),
            }
        }
        asked
    }

    fn allowed(&self, offer: &Offer) -> Result<PassingPacket, Why> {
        if let Some(why) = &self.broken {
            return Err(why.clone());
        }
        let uplink = UplinkId::try_from(offer.uplink).map_err(|_| Why::Untracked)?;
        let key = &offer.flow;
        let packet = PassingPacket {
            ingress: InterfaceIndex(offer.ingress),
            mark: self.settings.marks.flow(uplink),
            source: address(key.inside, key.family),
            destination: address(key.outside, key.family),
            protocol: Protocol(key.protocol),
            source_port: key.inside_port,
            destination_port: key.outside_port,
        };
        self.settings.allows(&packet)?;
        if offer.created_ns < self.told_since_ns {
            return Err(Why::Old);
        }
        let out = self.settings.interface(uplink).ok_or(Why::NoWay)?;
        for interface in [packet.ingress, out] {
            if let Some(obstacle) = self.obstacles.get(&interface) {
                return Err(Why::Filtered(obstacle.clone()));
            }
        }
        if self.slots.used() == self.slots.capacity() && self.slots_are_full() {
            return Err(Why::Full);
        }
        Ok(packet)
    }

    fn slots_are_full(&self) -> bool {
        self.by_key.len() >= usize::try_from(self.slots.capacity()).unwrap_or(usize::MAX)
    }

    /// What connection tracking says of an offer. The candidates' packets, from users first, are to be
    /// asked for their ways.
    pub fn consider(
        &mut self,
        offer: Offer,
        connection: Option<&Connection>,
        now_ns: u64,
    ) -> Option<(Candidate, [PassingPacket; 2])> {
        match self.candidate(offer, connection) {
            Ok(found) => Some(found),
            Err(why) => {
                self.refuse(offer.flow, why, now_ns);
                None
            }
        }
    }

    fn candidate(
        &self,
        offer: Offer,
        connection: Option<&Connection>,
    ) -> Result<(Candidate, [PassingPacket; 2]), Why> {
        let connection = connection.ok_or(Why::Untracked)?;
        let uplink = UplinkId::try_from(offer.uplink).map_err(|_| Why::Untracked)?;
        let marks = self.settings.marks;
        let mark = marks.flow(uplink);
        let timeout = judge(connection, mark, marks.bits(), self.lifetimes)?;
        let sides = Sides::of(&offer.flow, &connection.flow).ok_or(Why::Untracked)?;
        let interface = self.settings.interface(uplink).ok_or(Why::NoWay)?;
        let protocol = connection.flow.protocol;
        // As packets look between the translations of destination and source.
        let out = PassingPacket {
            ingress: InterfaceIndex(offer.ingress),
            mark,
            source: sides.users.source,
            destination: sides.provider.source,
            protocol,
            source_port: sides.users.source_port,
            destination_port: sides.provider.source_port,
        };
        let back = PassingPacket {
            ingress: interface,
            mark: Mark(0),
            source: sides.provider.source,
            destination: sides.users.source,
            protocol,
            source_port: sides.provider.source_port,
            destination_port: sides.users.source_port,
        };
        let candidate = Candidate {
            offer,
            sides,
            timeout,
            uplink,
            interface,
            epoch: self.epoch,
        };
        Ok((candidate, [out, back]))
    }

    /// Looks whether both ways lead somewhere; those where a neighbour is to be asked are told.
    ///
    /// # Errors
    /// The neighbour that is not known, or nothing where that is not what is missing.
    pub fn route(
        &mut self,
        candidate: &Candidate,
        ways: [Option<Way>; 2],
        now_ns: u64,
    ) -> Result<[Way; 2], Option<(InterfaceIndex, IpAddr)>> {
        let key = candidate.offer.flow;
        let refused = match ways {
            [Some(out), Some(back)] if out.interface == candidate.interface => {
                let missing = [out, back]
                    .into_iter()
                    .find(|way| self.around.frame(way).is_none());
                let Some(way) = missing else {
                    return Ok([out, back]);
                };
                let port = self.around.ports.get(&way.interface);
                if port.is_some_and(|port| port.mac.is_none()) {
                    Why::NoEthernet
                } else {
                    self.refuse(key, Why::NoNeighbour, now_ns);
                    return Err(Some((way.interface, way.address)));
                }
            }
            _ => Why::NoWay,
        };
        self.refuse(key, refused, now_ns);
        Err(None)
    }

    /// What is to be true of a candidate in connection tracking before it takes the fast path.
    #[must_use]
    pub fn prepared(candidate: &Candidate) -> Upkeep {
        Upkeep {
            relax: candidate.offer.flow.protocol == Protocol::TCP.0,
            ..upkeep(&candidate.offer.flow, candidate.timeout)
        }
    }

    /// Has a candidate take it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn put(
        &mut self,
        candidate: &Candidate,
        [out, back]: [Way; 2],
        now_ns: u64,
    ) -> Result<(), P::Error> {
        let offer = &candidate.offer;
        let key = offer.flow;
        if candidate.epoch != self.epoch || self.by_key.contains_key(&key) {
            return Ok(());
        }
        self.refused.remove(&key);
        let Some(slot) = self.slots.take() else {
            self.refuse(key, Why::Full, now_ns);
            return Ok(());
        };
        let mut take = |way| self.hops.take(way, &self.around, &mut self.plane);
        let (out_hop, back_hop) = match (take(out), take(back)) {
            (Some(out), Some(back)) => (out, back),
            (out, back) => {
                for hop in [out, back].into_iter().flatten() {
                    self.hops.give_up(hop);
                }
                self.slots.give_up(slot, self.plane.waited());
                self.refuse(key, Why::Full, now_ns);
                return Ok(());
            }
        };
        self.last_id = match self.last_id.wrapping_add(1) {
            0 => 1,
            next => next,
        };
        let id = self.last_id;
        let common = |direction: Direction, ingress: InterfaceIndex, next_hop| Direction {
            id,
            ingress: ingress.0,
            next_hop,
            generation: offer.generation,
            uplink: offer.uplink,
            ..direction
        };
        let mut pair: Pair = candidate.sides.pair();
        pair.out = common(pair.out, InterfaceIndex(offer.ingress), out_hop);
        pair.back = common(pair.back, candidate.interface, back_hop);
        let back_key = candidate.sides.from_provider(&key);
        let entry = Entry {
            key,
            back: back_key,
            uplink: candidate.uplink,
            family: Family::of(candidate.sides.users.source),
            generation: offer.generation,
            hops: [out_hop, back_hop],
            life: Life::new(candidate.timeout, now_ns),
        };
        self.plane.write(slot, &pair);
        let place = usize::try_from(slot).unwrap_or(usize::MAX);
        if self.entries.len() <= place {
            self.entries.resize_with(place.saturating_add(1), || None);
        }
        if let Some(place) = self.entries.get_mut(place) {
            *place = Some(entry);
        }
        self.by_key.insert(key, slot);
        self.inbound.insert(back_key, slot);
        let to = Offloaded { slot, id };
        let led = (self.plane.lead(&back_key, to))
            .and_then(|()| self.plane.lead(&OffloadKey::from_users(&key), to));
        if led.is_err() {
            self.remove(slot);
        }
        led
    }

    /// Sends a flow back to the stack; returns whether there was one.
    fn remove(&mut self, slot: u32) -> bool {
        let place = usize::try_from(slot).unwrap_or(usize::MAX);
        let Some(entry) = self.entries.get_mut(place).and_then(Option::take) else {
            return false;
        };
        self.plane.give_up(slot);
        for key in [OffloadKey::from_users(&entry.key), entry.back] {
            if let Err(error) = self.plane.leave(&key) {
                tracing::warn!(%error, "a key of the fast path stays that leads nowhere");
            }
        }
        let wait = self.plane.wait_for_programs();
        self.slots.give_up(slot, wait);
        self.by_key.remove(&entry.key);
        self.inbound.remove(&entry.back);
        for hop in entry.hops {
            self.hops.give_up(hop);
        }
        true
    }

    fn entry_mut(&mut self, slot: u32) -> Option<&mut Entry> {
        let place = usize::try_from(slot).ok()?;
        self.entries.get_mut(place)?.as_mut()
    }

    /// Notes that a flow cannot take it, and has the programs not offer it again for a while where
    /// nothing but time or the user will change that.
    fn refuse(&mut self, key: FlowKey, why: Why, now_ns: u64) {
        let lasts = !matches!(
            why,
            Why::Young | Why::NoNeighbour | Why::Untracked | Why::Waiting
        );
        if self.refused.len() >= MOST_REFUSED {
            return;
        }
        if lasts {
            let led = self
                .plane
                .lead(&OffloadKey::from_users(&key), Offloaded::default());
            if led.is_err() {
                return;
            }
        }
        let until_ns = now_ns.saturating_add(nanos(REFUSED_FOR));
        self.refused.insert(key, (why, until_ns));
    }

    /// Flows that were refused long enough ago may be offered again.
    pub fn forget_refusals(&mut self, now_ns: u64) {
        let plane = &mut self.plane;
        let by_key = &self.by_key;
        self.refused.retain(|key, (_, until_ns)| {
            let keep = *until_ns > now_ns;
            if !keep
                && !by_key.contains_key(key)
                && let Err(error) = plane.leave(&OffloadKey::from_users(key))
            {
                tracing::warn!(%error, "a key of the fast path stays that leads nowhere");
            }
            keep
        });
    }

    /// Takes in what happened. Returns whether news were lost, so that the surroundings must be read
    /// anew.
    pub fn hear(&mut self, news: Vec<News>) -> bool {
        let mut lost = false;
        for one in news {
            match one {
                News::Ended {
                    protocol,
                    source,
                    destination,
                    source_port,
                    destination_port,
                } => {
                    let family = match Family::of(source) {
                        Family::Ipv4 => failover_common::Family::Ipv4,
                        Family::Ipv6 => failover_common::Family::Ipv6,
                    };
                    let outward = FlowKey {
                        inside: bytes(source),
                        outside: bytes(destination),
                        inside_port: source_port,
                        outside_port: destination_port,
                        protocol: protocol.0,
                        family,
                        reserved: [0; 2],
                    };
                    let inward = OffloadKey {
                        side: failover_common::Side::Provider,
                        ..OffloadKey::from_users(&outward)
                    };
                    let slot = self.by_key.get(&outward);
                    if let Some(slot) = slot.or_else(|| self.inbound.get(&inward)).copied() {
                        self.remove(slot);
                    }
                }
                News::Neighbour {
                    interface,
                    address,
                    neighbour,
                } => {
                    let place = (interface, address);
                    if neighbour.mac.is_some() {
                        self.around.neighbours.insert(place, neighbour);
                    } else {
                        self.around.neighbours.remove(&place);
                    }
                    self.hops
                        .follow(&self.around, Some(interface), &mut self.plane);
                }
                News::Port { interface, port } => {
                    match port {
                        Some(port) => self.around.ports.insert(interface, port),
                        None => self.around.ports.remove(&interface),
                    };
                    self.hops
                        .follow(&self.around, Some(interface), &mut self.plane);
                }
                News::Routes => self.rerouted = Some(0),
                News::Lost => lost = true,
            }
        }
        if lost {
            self.flush();
        }
        lost
    }

    /// What may be written again by now.
    pub fn wait_is_over(&mut self) {
        self.slots.waited(self.plane.waited());
        if self.hops.are_waiting() {
            self.hops.follow(&self.around, None, &mut self.plane);
        }
    }

    /// Whether something waits for programs to end.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.slots.are_waiting() || self.hops.are_waiting()
    }

    /// Looks at the next entries, so many at most; returns what is to be told to connection tracking.
    pub fn look(&mut self, most: u32, now_ns: u64) -> Vec<(FlowKey, Upkeep)> {
        let used = self.slots.used();
        let mut due = Vec::new();
        let mut generations = BTreeMap::new();
        for _ in 0..most.min(used) {
            let slot = self.cursor;
            self.cursor = if slot + 1 >= used { 0 } else { slot + 1 };
            let (left, moved) = self.plane.read(slot);
            let Some(entry) = self.entry_mut(slot) else {
                continue;
            };
            let seen_ns = moved.out_seen_ns.max(moved.back_seen_ns);
            let key = entry.key;
            let what = entry.life.due(seen_ns, now_ns);
            let (uplink, family, generation) = (entry.uplink, entry.family, entry.generation);
            let current = generations
                .entry((uplink, family))
                .or_insert_with(|| self.plane.generation(uplink, family));
            if left || *current != Some(generation) {
                self.remove(slot);
                continue;
            }
            match what {
                Due::Nothing => {}
                Due::Renew(remaining) => due.push((key, upkeep(&key, remaining))),
                Due::Release(remaining) => {
                    due.push((key, upkeep(&key, remaining)));
                    self.remove(slot);
                }
            }
        }
        due
    }

    /// Connection tracking does not know a flow any more.
    pub fn forget(&mut self, key: &FlowKey) {
        if let Some(slot) = self.by_key.get(key).copied() {
            self.remove(slot);
        }
    }

    /// How many entries there are to look at.
    #[must_use]
    pub const fn span(&self) -> u32 {
        self.slots.used()
    }

    /// After a change of routes: the next flows whose ways are to be asked again, so many at most, each
    /// with its packets and the ways that it takes.
    pub fn doubted(&mut self, most: usize) -> Vec<(u32, [PassingPacket; 2], [Way; 2])> {
        let Some(mut slot) = self.rerouted else {
            return Vec::new();
        };
        let mut doubted = Vec::new();
        while doubted.len() < most && slot < self.slots.used() {
            if let Some(packets) = self.packets(slot) {
                doubted.push(packets);
            }
            slot += 1;
        }
        self.rerouted = (slot < self.slots.used()).then_some(slot);
        doubted
    }

    fn packets(&self, slot: u32) -> Option<(u32, [PassingPacket; 2], [Way; 2])> {
        let entry = self.entries.get(usize::try_from(slot).ok()?)?.as_ref()?;
        let key = &entry.key;
        let [out, back] = entry.hops.map(|hop| self.hops.way(hop));
        let (out, back) = (out?, back?);
        let inside = address(key.inside, key.family);
        let other = address(entry.back.source, key.family);
        let packet = |ingress, mark, from: (IpAddr, u16), to: (IpAddr, u16)| PassingPacket {
            ingress,
            mark,
            source: from.0,
            destination: to.0,
            protocol: Protocol(key.protocol),
            source_port: from.1,
            destination_port: to.1,
        };
        let users = (inside, key.inside_port);
        let provider = (other, entry.back.source_port);
        let mark = self.settings.marks.flow(entry.uplink);
        Some((
            slot,
            [
                packet(back.interface, mark, users, provider),
                packet(out.interface, Mark(0), provider, users),
            ],
            [out, back],
        ))
    }

    /// A doubted flow's ways as they are now.
    pub fn rerouted(&mut self, slot: u32, known: [Way; 2], found: [Option<Way>; 2]) {
        if known.map(Some) != found {
            self.remove(slot);
        }
    }

    /// Neighbours that flows move to and that nobody else asks.
    #[must_use]
    pub fn stale_neighbours(&self) -> Vec<(InterfaceIndex, IpAddr)> {
        self.hops
            .used()
            .map(|way| (way.interface, way.address))
            .filter(|place| {
                let neighbour = self.around.neighbours.get(place);
                neighbour.is_some_and(|neighbour| neighbour.is_stale)
            })
            .collect()
    }

    /// How a flow of the flow table stands.
    #[must_use]
    pub fn standing(&self, key: &FlowKey, flow: &failover_common::Flow) -> Standing {
        use failover_common::Phase;
        if let Some(slot) = self.by_key.get(key) {
            let (left, moved) = self.plane.read(*slot);
            return if left {
                Standing::Stack(Why::Ending)
            } else {
                Standing::Offloaded(Returned {
                    packets: moved.back_packets,
                    bytes: moved.back_bytes,
                })
            };
        }
        Standing::Stack(if let Some(why) = self.reason() {
            why
        } else if !matches!(key.protocol, TCP | UDP) {
            Why::Protocol
        } else if matches!(flow.phase, Phase::Closing) {
            Why::Ending
        } else if let Some((why, _)) = self.refused.get(key) {
            why.clone()
        } else if !flow.confirmed || flow.offered_ns == 0 {
            Why::Young
        } else {
            Why::Waiting
        })
    }

    fn reason(&self) -> Option<Why> {
        if self.settings.is_on {
            self.broken.clone()
        } else {
            Some(Why::Off)
        }
    }

    /// How the fast path stands.
    #[must_use]
    pub fn status(&self) -> FastPathStatus {
        let reason = self.reason();
        FastPathStatus {
            on: reason.is_none(),
            reason: reason.map(|why| why.to_string()),
            flows: u64::try_from(self.by_key.len()).unwrap_or(u64::MAX),
            capacity: self.slots.capacity().into(),
            ..FastPathStatus::default()
        }
    }
}

fn upkeep(key: &FlowKey, remaining: Duration) -> Upkeep {
    Upkeep {
        inside: address(key.inside, key.family),
        outside: address(key.outside, key.family),
        protocol: Protocol(key.protocol),
        inside_port: key.inside_port,
        outside_port: key.outside_port,
        remaining,
        relax: false,
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "offloads_tests.rs"]
mod tests;
