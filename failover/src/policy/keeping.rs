//! Which flows a rule keeps on an uplink that others leave: flows are not sent elsewhere, and told so,
//! only to be given the same uplink again by their rule.
//!
//! Of an open flow not all is known that rules look at: not the downlink, the code point, the mark and
//! the hardware address of its first packet. A flow that may match a rule which uses the uplink stays.

use std::sync::Arc;

use super::matching::is;
use super::pools::{Policy, RulePool};
use super::rule::Matching;
use crate::family::Family;
use crate::flows::TrackedFlow;
use crate::uplink::UplinkId;

/// The rules, and which of their pools use an uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    policy: Arc<Policy>,
    uses: Vec<bool>,
}

impl Keeping {
    /// What rules keep on an uplink in a family, with their pools as they are now.
    #[must_use]
    pub fn new(policy: &Arc<Policy>, pools: &[RulePool], uplink: UplinkId, family: Family) -> Self {
        let uses = pools.iter().map(|pool| {
            let members = pool.pools.get(family).as_ref();
            members.is_some_and(|pool| {
                pool.members.contains_key(&uplink) || pool.resting.contains(&uplink)
            })
        });
        Self {
            policy: Arc::clone(policy),
            uses: uses.collect(),
        }
    }

    /// Whether a flow that began inside stays.
    #[must_use]
    pub fn keeps(&self, flow: &TrackedFlow) -> bool {
        for (rule, pool) in self.policy.iter() {
            let uses = self.uses.get(pool).copied().unwrap_or(false);
            match rule.matching.holds_of(flow) {
                Known::No => {}
                Known::Yes => return uses,
                Known::Maybe if uses => return true,
                Known::Maybe => {}
            }
        }
        false
    }
}

enum Known {
    Yes,
    No,
    Maybe,
}

impl Matching {
    fn holds_of(&self, flow: &TrackedFlow) -> Known {
        let first = &flow.original;
        let ports = flow.protocol.has_ports();
        let holds = is(&self.source, |set| set.contains(first.source))
            && is(&self.destination, |set| set.contains(first.destination))
            && is(&self.protocols, |set| set.contains(&flow.protocol))
            && is(&self.source_ports, |set| {
                ports && set.contains(first.source_port)
            })
            && is(&self.ports, |set| {
                ports && set.contains(first.destination_port)
            });
        let more = self.interfaces.is_some()
            || self.dscp.is_some()
            || self.marks.is_some()
            || self.macs.is_some();
        match (holds, more) {
            (false, _) => Known::No,
            (true, false) => Known::Yes,
            (true, true) => Known::Maybe,
        }
    }
}
