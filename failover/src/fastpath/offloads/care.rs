//! What is due for flows on the fast path: connection tracking is told that they live, their ways are
//! asked again after routes changed, and those that are silent or ended go back to the stack.

use std::collections::BTreeMap;
use std::net::IpAddr;

use failover_common::FlowKey;

use super::{Offloads, Rerouted, passing, upkeep};
use crate::fastpath::facts::{PassingPacket, Upkeep, Way};
use crate::fastpath::plane::Plane;
use crate::fastpath::upkeep::Due;
use crate::flows::{Protocol, address};
use crate::interface::InterfaceIndex;

impl<P: Plane> Offloads<P> {
    /// Looks at the next entries, so many at most; returns what is to be told to connection tracking.
    pub fn look(&mut self, most: u32, now_ns: u64) -> Vec<(FlowKey, Upkeep)> {
        let used = self.slots.used();
        let mut due = Vec::new();
        let mut generations = BTreeMap::new();
        for _ in 0..most.min(used) {
            let slot = self.cursor;
            self.cursor = if slot + 1 >= used { 0 } else { slot + 1 };
            let Some(entry) = self.entry(slot) else {
                continue;
            };
            let [out, back] = self.moved(entry);
            let (left, seen_ns) = (out.left || back.left, out.seen_ns.max(back.seen_ns));
            let Some(entry) = self.entry_mut(slot) else {
                continue;
            };
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
                    if remaining.is_some() {
                        due.push((key, upkeep(&key, remaining)));
                    }
                    self.remove(slot);
                }
            }
        }
        due
    }

    /// Ends of entries may have been missed: connection tracking is asked for all of them when they are
    /// next looked at.
    pub(super) fn doubt_all(&mut self) {
        for entry in self.entries.iter_mut().flatten() {
            entry.life.doubt();
        }
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
        let used = self.slots.used();
        let Rerouted { mut next, mut left } = self.rerouted;
        let mut doubted = Vec::new();
        while doubted.len() < most && left > 0 {
            let slot = if next < used { next } else { 0 };
            doubted.extend(self.packets(slot));
            next = slot + 1;
            left -= 1;
        }
        self.rerouted = Rerouted { next, left };
        doubted
    }

    fn packets(&self, slot: u32) -> Option<(u32, [PassingPacket; 2], [Way; 2])> {
        let entry = self.entries.get(usize::try_from(slot).ok()?)?.as_ref()?;
        let key = &entry.key;
        let [out, back] = entry.hops.map(|hop| self.hops.way(hop));
        let (out, back) = (out?, back?);
        let packets = passing(
            Protocol(key.protocol),
            self.settings.marks.flow(entry.uplink),
            (address(key.inside, key.family), key.inside_port),
            (
                address(entry.back.source, key.family),
                entry.back.source_port,
            ),
            [back.interface, out.interface],
        );
        Some((slot, packets, [out, back]))
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
}
