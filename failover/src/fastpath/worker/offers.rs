//! How offers are taken: the kernel is asked about many of them at once.

use std::time::Instant;

use super::{AtWork, QUIET};
use crate::fastpath::edge::Surroundings;
use crate::fastpath::facts::Kept;
use crate::fastpath::offloads::Offloads;
use crate::fastpath::plane::Plane;
use crate::monotonic::now_ns;

/// Offers that are worked on at once.
const BATCH: usize = 256;

impl<P: Plane, S: Surroundings> AtWork<P, S> {
    /// Takes some offers to their end.
    pub(super) fn take_offers(&mut self) -> Result<(), S::Error> {
        let (epoch, asked) = {
            let mut offloads = self.offloads();
            let offers = offloads.plane.offers(BATCH);
            (offloads.epoch(), offloads.sift(offers, now_ns()))
        };
        if asked.is_empty() {
            return Ok(());
        }
        if !self.listening {
            self.kernel.listen()?;
            self.listening = true;
            self.busy_until = Instant::now() + QUIET;
        }
        let packets: Vec<_> = asked.iter().map(|(_, packet)| *packet).collect();
        let connections = self.kernel.connections(&packets)?;
        let candidates: Vec<_> = {
            let mut offloads = self.offloads();
            let now_ns = now_ns();
            asked
                .iter()
                .zip(&connections)
                .filter_map(|((offer, _), found)| {
                    offloads.consider(*offer, found.as_ref(), epoch, now_ns)
                })
                .collect()
        };
        let packets: Vec<_> = candidates
            .iter()
            .flat_map(|(_, packets)| *packets)
            .collect();
        let ways = self.kernel.ways(&packets)?;
        let mut missing = Vec::new();
        let routed: Vec<_> = {
            let mut offloads = self.offloads();
            let now_ns = now_ns();
            let found = candidates.iter().zip(ways.as_chunks::<2>().0);
            found
                .filter_map(|((candidate, _), ways)| {
                    match offloads.route(candidate, *ways, now_ns) {
                        Ok(ways) => Some((candidate, ways)),
                        Err(neighbour) => {
                            missing.extend(neighbour);
                            None
                        }
                    }
                })
                .collect()
        };
        if !missing.is_empty() {
            self.kernel.use_neighbours(&missing)?;
        }
        let upkeep: Vec<_> = routed
            .iter()
            .map(|(candidate, _)| Offloads::<P>::prepared(candidate))
            .collect();
        let kept = self.kernel.keep(&upkeep)?;
        let mut offloads = self.offloads();
        let now_ns = now_ns();
        for ((candidate, ways), kept) in routed.iter().zip(kept) {
            if kept == Kept::Done {
                offloads.put(candidate, *ways, now_ns);
            }
        }
        offloads.renew_lease(now_ns);
        Ok(())
    }
}
