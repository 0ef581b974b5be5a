//! Where the plain model lets a packet leave.

use std::collections::BTreeSet;
use std::sync::Arc;

use failover::config::Config;
use failover::family::Family;
use failover::health::Health;
use failover::policy::{Facts, Offered, Otherwise, Policy, Rule, select_via};
use failover::select::{Candidate, Standing, select};
use failover::uplink::{UplinkId, UplinkName};

/// The uplinks as they are, and the rules.
#[derive(Clone, Debug)]
pub(super) struct Model {
    policy: Arc<Policy>,
    /// By the way in which rules name uplinks: those that carry new flows; none is usable.
    pools: Vec<BTreeSet<u8>>,
    common: BTreeSet<u8>,
}

/// Where a packet may go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Expected {
    /// The rule that decides.
    pub(super) rule: Option<usize>,
    /// The uplinks by which it may leave; none: it is dropped.
    pub(super) uplinks: BTreeSet<u8>,
}

impl Model {
    /// All uplinks are up, but for those with these ids.
    pub(super) fn new(config: &Config, rules: &[Rule], down: &[u8]) -> Self {
        let standing = |id: UplinkId| {
            Standing::Routed(if down.contains(&id.get()) {
                Health::Down
            } else {
                Health::Up
            })
        };
        let offered = |name: &UplinkName| {
            let uplink = config.uplinks.get(name)?;
            Some(Offered {
                id: uplink.id?,
                standing: standing(uplink.id?),
            })
        };
        let candidates: Vec<Candidate> = config
            .uplinks
            .values()
            .filter_map(|uplink| {
                Some(Candidate {
                    id: uplink.id?,
                    weight: uplink.weight,
                    priority: uplink.priority,
                    new_flows: uplink.new_flows,
                    standing: standing(uplink.id?),
                })
            })
            .collect();
        let ids = |members: Vec<&UplinkId>| members.into_iter().map(|id| id.get()).collect();
        let policy = Policy::new(rules.to_vec());
        let pools = policy
            .vias
            .iter()
            .map(|via| match select_via(via, &offered) {
                Some(pool) => ids(pool.members.keys().collect()),
                None => BTreeSet::new(),
            })
            .collect();
        Self {
            policy,
            pools,
            common: ids(select(&candidates).members.keys().collect()),
        }
    }

    pub(super) fn expected(&self, packet: &Facts) -> Expected {
        debug_assert_eq!(Family::of(packet.source), Family::of(packet.destination));
        self.expected_by(self.policy.first_match(packet))
    }

    fn expected_by(&self, rule: Option<usize>) -> Expected {
        let own = rule.and_then(|rule| {
            let pool = self.pools.get(*self.policy.pool_of.get(rule)?)?;
            let otherwise = self.policy.rules.get(rule)?.otherwise;
            (!pool.is_empty() || otherwise == Otherwise::Drop).then_some(pool)
        });
        Expected {
            rule,
            uplinks: own.unwrap_or(&self.common).clone(),
        }
    }

    /// What people call a rule.
    pub(super) fn name(&self, rule: Option<usize>) -> &str {
        let rule = rule.and_then(|rule| self.policy.rules.get(rule));
        rule.map_or("no rule", |rule| &rule.name)
    }
}
