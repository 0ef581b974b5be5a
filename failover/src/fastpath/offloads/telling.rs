//! How flows, and the fast path itself, stand.

use std::time::Duration;

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Flow, FlowKey, Phase};

use super::Offloads;
use crate::fastpath::plane::Plane;
use crate::fastpath::standing::{FastPathStatus, Standing, Uncounted, Why};
use crate::fastpath::upkeep::IDLE;

impl<P: Plane> Offloads<P> {
    /// How a flow of the flow table stands.
    #[must_use]
    pub fn standing(&self, key: &FlowKey, flow: &Flow, now_ns: u64) -> Standing {
        let slot = self.by_key.get(key);
        if let Some(entry) = slot.and_then(|slot| self.entry(*slot)) {
            let [out, back] = self.moved(entry);
            return if out.left || back.left {
                Standing::Stack(Why::Ending)
            } else if !entry.hops.iter().all(|hop| self.hops.is_open(*hop)) {
                Standing::Stack(Why::NoNeighbour)
            } else {
                Standing::Offloaded(Uncounted {
                    out: out.uncounted,
                    back: back.uncounted,
                    seen_ns: out.seen_ns.max(back.seen_ns),
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
        } else if flow.offered_ns == Flow::WITHOUT_ETHERNET {
            Why::NoEthernet
        } else if !flow.confirmed || flow.offered_ns == 0 {
            Why::Young
        } else if Duration::from_nanos(now_ns.saturating_sub(flow.seen_ns)) >= IDLE {
            Why::Idle
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
