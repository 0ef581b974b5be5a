//! What happened in the kernel, and what follows from it for flows on the fast path.

use failover_common::{OffloadKey, Side};

use super::Offloads;
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
        let over = self.plane.waited();
        self.slots.waited(over);
        self.places.waited(over);
        if self.hops.are_waiting() {
            self.hops.follow(&self.around, None, &mut self.plane);
        }
    }

    /// Whether something waits for programs to end.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.slots.are_waiting() || self.hops.are_waiting()
    }
}
