//! From an offer to the fast path: what is asked about a flow, what forbids it, and how it is put there.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use failover_common::{Direction, FlowKey, Offer, OffloadKey, Pair};

use super::{Entry, Epoch, Offloads, nanos, passing, upkeep};
use crate::family::Family;
use crate::fastpath::facts::{Connection, PassingPacket, Upkeep, Way};
use crate::fastpath::judging::{SHORTEST, judge};
use crate::fastpath::plane::Plane;
use crate::fastpath::standing::Why;
use crate::fastpath::translation::Sides;
use crate::fastpath::upkeep::Life;
use crate::flows::{Protocol, address};
use crate::interface::InterfaceIndex;
use crate::uplink::UplinkId;

/// How long a flow that cannot take it is not offered again.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// How many of these are remembered.
const MOST_REFUSED: usize = 65_536;

/// A flow that is to take it, when all that was asked is known.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// As it was offered.
    pub offer: Offer,
    sides: Sides,
    timeout: Duration,
    /// How long connection tracking has it remembered as it is.
    left: Duration,
    uplink: UplinkId,
    interface: InterfaceIndex,
    epoch: Epoch,
}

impl Candidate {
    /// How long it is to live, where it would not be there long enough to be looked after.
    fn told(&self) -> Option<Duration> {
        (self.left < SHORTEST).then_some(self.timeout)
    }
}

/// A direction that translates as another one does.
const fn translating(common: Direction, way: Direction) -> Direction {
    Direction {
        source: way.source,
        destination: way.destination,
        source_port: way.source_port,
        destination_port: way.destination_port,
        address_sum: way.address_sum,
        port_sum: way.port_sum,
        ..common
    }
}

impl<P: Plane> Offloads<P> {
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
        if self.is_full() {
            return Err(Why::Full);
        }
        Ok(packet)
    }

    fn is_full(&self) -> bool {
        self.by_key.len() >= usize::try_from(self.slots.capacity()).unwrap_or(usize::MAX)
    }

    /// What connection tracking says of an offer that was sifted in that epoch. The candidates' packets,
    /// from users first, are to be asked for their ways.
    pub fn consider(
        &mut self,
        offer: Offer,
        connection: Option<&Connection>,
        epoch: Epoch,
        now_ns: u64,
    ) -> Option<(Candidate, [PassingPacket; 2])> {
        match self.candidate(offer, connection, epoch) {
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
        epoch: Epoch,
    ) -> Result<(Candidate, [PassingPacket; 2]), Why> {
        let connection = connection.ok_or(Why::Untracked)?;
        let uplink = UplinkId::try_from(offer.uplink).map_err(|_| Why::Untracked)?;
        let marks = self.settings.marks;
        let mark = marks.flow(uplink);
        let timeout = judge(connection, mark, marks.bits(), self.lifetimes)?;
        let sides = Sides::of(&offer.flow, &connection.flow).ok_or(Why::Untracked)?;
        let interface = self.settings.interface(uplink).ok_or(Why::NoWay)?;
        let packets = passing(
            connection.flow.protocol,
            mark,
            (sides.users.source, sides.users.source_port),
            (sides.provider.source, sides.provider.source_port),
            [InterfaceIndex(offer.ingress), interface],
        );
        let candidate = Candidate {
            offer,
            sides,
            timeout,
            left: connection.flow.remaining.unwrap_or_default(),
            uplink,
            interface,
            epoch,
        };
        Ok((candidate, packets))
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
        upkeep(&candidate.offer.flow, candidate.told())
    }

    /// Has a candidate take it.
    pub fn put(&mut self, candidate: &Candidate, [out, back]: [Way; 2], now_ns: u64) {
        let offer = &candidate.offer;
        let key = offer.flow;
        if candidate.epoch != self.epoch || self.by_key.contains_key(&key) {
            return;
        }
        if self.refused.remove(&key).is_some() {
            self.pardon(&key);
        }
        let Some(slot) = self.slots.take() else {
            self.refuse(key, Why::Full, now_ns);
            return;
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
                return;
            }
        };
        let out_key = OffloadKey::from_users(&key);
        let back_key = candidate.sides.from_provider(&key);
        let Some(places) = self.take_places([&out_key, &back_key]) else {
            for hop in [out_hop, back_hop] {
                self.hops.give_up(hop);
            }
            self.slots.give_up(slot, self.plane.waited());
            self.refuse(key, Why::Full, now_ns);
            return;
        };
        self.last_id = match self.last_id.wrapping_add(1) {
            0 => 1,
            next => next,
        };
        let [out_place, back_place] = places;
        let common = Direction {
            id: self.last_id,
            generation: offer.generation,
            uplink: offer.uplink,
            ..Direction::default()
        };
        let pair: Pair = candidate.sides.pair();
        let out = Direction {
            key: out_key.words().0,
            ingress: offer.ingress,
            next_hop: out_hop,
            other: back_place,
            ..translating(common, pair.out)
        };
        let back = Direction {
            key: back_key.words().0,
            ingress: candidate.interface.0,
            next_hop: back_hop,
            other: out_place,
            ..translating(common, pair.back)
        };
        let entry = Entry {
            key,
            back: back_key,
            places,
            uplink: candidate.uplink,
            family: Family::of(candidate.sides.users.source),
            generation: offer.generation,
            hops: [out_hop, back_hop],
            life: Life::new(
                candidate.timeout,
                candidate.told().unwrap_or(candidate.left),
                now_ns,
            ),
        };
        let index = usize::try_from(slot).unwrap_or(usize::MAX);
        if self.entries.len() <= index {
            self.entries.resize_with(index.saturating_add(1), || None);
        }
        if let Some(place) = self.entries.get_mut(index) {
            *place = Some(entry);
        }
        self.by_key.insert(key, slot);
        self.inbound.insert(back_key, slot);
        self.plane.write(back_place, &back);
        self.plane.write(out_place, &out);
    }

    /// Places for both directions, or for none.
    fn take_places(&mut self, [out, back]: [&OffloadKey; 2]) -> Option<[u32; 2]> {
        let (out_place, out_told) = self.places.take(&out.words())?;
        let Some((back_place, back_told)) = self.places.take(&back.words()) else {
            // The programs know nothing of it yet.
            let _untold = self
                .places
                .give_up(out_place, &out.words(), self.plane.waited());
            return None;
        };
        let told = [out_told, back_told].into_iter().flatten();
        told.for_each(|told| self.plane.displace(told));
        Some([out_place, back_place])
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
            // Where the kernel has no room for it, it is offered again.
            let _room = self.plane.refuse(&key);
        }
        let until_ns = now_ns.saturating_add(nanos(REFUSED_FOR));
        self.refused.insert(key, (why, until_ns));
    }

    /// Flows that were refused long enough ago may be offered again.
    pub fn forget_refusals(&mut self, now_ns: u64) {
        let is_over = |(_, until_ns): &mut (Why, u64)| *until_ns <= now_ns;
        let over: Vec<FlowKey> = self
            .refused
            .extract_if(|_, refusal| is_over(refusal))
            .map(|(key, _)| key)
            .collect();
        for key in over {
            self.pardon(&key);
        }
    }

    /// The programs may offer a flow again.
    fn pardon(&mut self, key: &FlowKey) {
        if let Err(error) = self.plane.pardon(key) {
            tracing::warn!(%error, "a flow is not offered for the fast path again");
        }
    }
}
