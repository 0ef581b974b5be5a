//! Which flows stay on an uplink that others leave: those that their rule would give the same uplink
//! again, and those that have time to finish there.
//!
//! Of an open flow not all is known that rules look at: not the downlink, the code point, the mark and
//! the hardware address of its first packet. A flow stays that may match a rule whose flows do.

use std::sync::Arc;

use super::matching::is;
use super::pools::Policy;
use super::rule::Matching;
use crate::flows::TrackedFlow;

/// What becomes of the open flows of a rule on an uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// They stay.
    Stay,
    /// They go.
    Go,
    /// They are treated as those that no rule names.
    AsOthers,
}

/// The rules, and what becomes of their flows on an uplink.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keeping {
    policy: Arc<Policy>,
    /// By the position of a rule's pool.
    open: Vec<Open>,
    others_stay: bool,
}

impl Keeping {
    /// What stays, by what becomes of the flows of each pool and of those that no rule names.
    #[must_use]
    pub fn new(policy: &Arc<Policy>, open: Vec<Open>, others_stay: bool) -> Self {
        Self {
            policy: Arc::clone(policy),
            open,
            others_stay,
        }
    }

    /// Whether flows stay that no rule names, as those of the router itself.
    #[must_use]
    pub const fn keeps_others(&self) -> bool {
        self.others_stay
    }

    /// Whether a user's flow that began inside stays.
    #[must_use]
    pub fn keeps(&self, flow: &TrackedFlow) -> bool {
        for (rule, pool) in self.policy.iter() {
            let stays = match self.open.get(pool) {
                Some(Open::Stay) => true,
                Some(Open::Go) => false,
                Some(Open::AsOthers) | None => self.others_stay,
            };
            match rule.matching.holds_of(flow) {
                Known::No => {}
                Known::Yes => return stays,
                Known::Maybe if stays => return true,
                Known::Maybe => {}
            }
        }
        self.others_stay
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
