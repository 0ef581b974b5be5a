//! What happened in the kernel, and what follows from it for flows on the fast path.

use failover_common::{OffloadKey, Side};

use super::{Leaving, Offloads};
use crate::fastpath::facts::News;
use crate::fastpath::plane::Plane;
use crate::flows::key_of;

impl<P: Plane> Offloads<P> {
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
                    let outward = key_of(
                        protocol,
                        (source, source_port),
                        (destination, destination_port),
                    );
                    let inward = OffloadKey {
                        side: Side::Provider,
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
                    let before = if neighbour.mac.is_some() {
                        self.around.neighbours.insert(place, neighbour)
                    } else {
                        self.around.neighbours.remove(&place)
                    };
                    if before.and_then(|before| before.mac) != neighbour.mac {
                        self.hops.follow_to(place, &self.around, &mut self.plane);
                    }
                }
                News::Port { interface, port } => {
                    match port {
                        Some(port) => self.around.ports.insert(interface, port),
                        None => self.around.ports.remove(&interface),
                    };
                    self.hops
                        .follow(&self.around, Some(interface), &mut self.plane);
                }
                News::Routes => self.rerouted.left = self.slots.used(),
                News::LostEnds => self.doubt_all(),
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
        let over = self.plane.waited();
        while let Some(leaving) = self.leaving.next(over) {
            self.count_at_last(&leaving);
        }
        self.slots.waited(over);
        self.places.waited(over);
        if self.hops.are_waiting() {
            self.hops.follow(&self.around, None, &mut self.plane);
        }
    }

    /// Counts with a flow what moved of it since the programs did so last.
    fn count_at_last(&mut self, leaving: &Leaving) {
        let moved = leaving.places.map(|place| self.plane.read(place).uncounted);
        if moved.iter().any(|moved| moved.packets > 0)
            && let Err(error) = self.plane.credit(&leaving.key, moved)
        {
            tracing::warn!(%error, "what a flow moved by the fast path is not counted with it");
        }
    }

    /// Whether something waits for programs to end.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.slots.are_waiting() || self.hops.are_waiting()
    }
}
