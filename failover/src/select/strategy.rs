//! By what new flows are given to the uplinks of a priority or of a rule's group.

use std::collections::BTreeMap;
use std::fmt;

use crate::config::Percent;

/// By what new flows are given their uplink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strategy {
    /// Each uplink gets its share.
    #[default]
    Weight,
    /// The uplink whose probes are answered soonest gets all.
    LeastLatency,
    /// The first that carries less than this share of its capacity gets all.
    Overflow(Percent),
}

impl Strategy {
    /// As people are told of it: `weight`, `least_latency` or `overflow 80%`.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::Overflow(share) => format!("overflow {share}"),
            other => other.to_string(),
        }
    }
}

impl fmt::Display for Strategy {
    /// As it is written in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Weight => f.write_str("weight"),
            Self::LeastLatency => f.write_str("least_latency"),
            Self::Overflow(share) => write!(f, "{{overflow: {share}}}"),
        }
    }
}

/// The strategy of each priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strategies {
    /// That of priorities which have no other.
    pub of_others: Strategy,
    /// Those of single priorities.
    pub by_priority: BTreeMap<u32, Strategy>,
}

impl Strategies {
    /// The strategy of a priority.
    #[must_use]
    pub fn of(&self, priority: u32) -> Strategy {
        let own = self.by_priority.get(&priority);
        own.copied().unwrap_or(self.of_others)
    }
}

impl From<Strategy> for Strategies {
    fn from(of_others: Strategy) -> Self {
        Self {
            of_others,
            by_priority: BTreeMap::new(),
        }
    }
}

impl fmt::Display for Strategies {
    /// As it is written in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.by_priority.is_empty() {
            return self.of_others.fmt(f);
        }
        let priorities: Vec<String> = self
            .by_priority
            .iter()
            .map(|(priority, strategy)| format!("{priority}: {strategy}"))
            .collect();
        write!(f, "{{{}}}", priorities.join(", "))
    }
}
