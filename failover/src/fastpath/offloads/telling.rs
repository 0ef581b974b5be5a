//! How flows, and the fast path itself, stand.

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Flow, FlowKey, Phase};

use super::Offloads;
use crate::fastpath::plane::Plane;
use crate::fastpath::standing::{FastPathStatus, Standing, Uncounted, Why};

impl<P: Plane> Offloads<P> {
    /// How a flow of the flow table stands.
    #[must_use]
    pub fn standing(&self, key: &FlowKey, flow: &Flow) -> Standing {
        let slot = self.by_key.get(key);
        if let Some(entry) = slot.and_then(|slot| self.entry(*slot)) {
            let [out, back] = self.moved(entry);
            return if out.left || back.left {
                Standing::Stack(Why::Ending)
            } else {
                Standing::Offloaded(Uncounted {
                    out: out.uncounted,
                    back: back.uncounted,
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
