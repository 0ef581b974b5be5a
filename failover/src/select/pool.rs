//! From the states of uplinks to the pool that new flows of one family use.

use std::collections::BTreeMap;

use crate::health::Health;
use crate::select::maglev::{Member, SlotTable};
use crate::uplink::UplinkId;

/// What selection needs to know of an uplink for one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The uplink.
    pub id: UplinkId,
    /// Its weight, at least 1.
    pub weight: u16,
    /// Lower is preferred.
    pub priority: u32,
    /// Whether new outbound flows may choose it at all.
    pub new_flows: bool,
    /// How it stands.
    pub standing: Standing,
}

/// How an uplink stands in one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No packet can leave by it: no address, no route, no carrier, no interface.
    Pathless,
    /// It has a route, and health says this of it.
    Routed(Health),
}

/// Why the members of a pool are its members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// They are up.
    Up,
    /// None is up; these answer, but badly.
    Degraded,
    /// None is up; these have not had their first verdict.
    Unproven,
    /// All are down; every uplink that has a route is tried.
    LastResort,
    /// No uplink has a route.
    Nothing,
}

impl Tier {
    /// Whether flows that lost their uplink have somewhere to go: while it is false nothing may be
    /// deleted or reset, since it would not help.
    #[must_use]
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Up | Self::Degraded | Self::Unproven)
    }
}

/// The uplinks that new flows of one family use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Why these.
    pub tier: Tier,
    /// Weight by member; empty when there is nothing.
    pub members: BTreeMap<UplinkId, u16>,
    /// Uplink by hash slot.
    pub table: SlotTable,
}

impl Pool {
    /// The fraction of new flows that an uplink gets.
    #[must_use]
    pub fn shares(&self) -> BTreeMap<UplinkId, f64> {
        self.table.shares()
    }
}

/// Chooses the pool of one family: the best priority with an uplink that is up; else the best
/// priority with one that is degraded; else the best among those without a verdict; else all that
/// have a route.
#[must_use]
pub fn select(candidates: &[Candidate]) -> Pool {
    let offered: Vec<&Candidate> = candidates.iter().filter(|c| c.new_flows).collect();
    let best = |health: Health| {
        offered
            .iter()
            .filter(|c| c.standing == Standing::Routed(health))
            .map(|c| c.priority)
            .min()
    };
    let preferred = [
        (Tier::Up, Health::Up),
        (Tier::Degraded, Health::Degraded),
        (Tier::Unproven, Health::Unknown),
    ]
    .into_iter()
    .find_map(|(tier, health)| Some((tier, health, best(health)?)));
    let (tier, priority) = preferred.map_or((Tier::LastResort, None), |(tier, _, priority)| {
        (tier, Some(priority))
    });
    let used = |standing: Standing| match preferred {
        Some((_, health, _)) => standing == Standing::Routed(health),
        None => matches!(standing, Standing::Routed(_)),
    };
    // Members of the priority that are not usable keep their place in the table, so that their
    // return moves nobody else.
    let members: Vec<Member> = offered
        .iter()
        .filter(|c| priority.is_none_or(|p| p == c.priority))
        .map(|c| Member {
            id: c.id,
            weight: c.weight,
            usable: used(c.standing),
        })
        .collect();
    let table = SlotTable::fill(&members);
    Pool {
        tier: if table.is_empty() {
            Tier::Nothing
        } else {
            tier
        },
        members: members
            .iter()
            .filter(|m| m.usable)
            .map(|m| (m.id, m.weight))
            .collect(),
        table,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> UplinkId {
        UplinkId::try_from(n).unwrap()
    }

    fn candidate(n: u8, priority: u32, standing: Standing) -> Candidate {
        Candidate {
            id: id(n),
            weight: 1,
            priority,
            new_flows: true,
            standing,
        }
    }

    fn chosen(candidates: &[Candidate]) -> (Tier, Vec<u8>) {
        let pool = select(candidates);
        (pool.tier, pool.members.keys().map(|id| id.get()).collect())
    }

    const UP: Standing = Standing::Routed(Health::Up);
    const DOWN: Standing = Standing::Routed(Health::Down);
    const UNKNOWN: Standing = Standing::Routed(Health::Unknown);

    #[test]
    fn the_best_priority_that_is_up_carries_new_flows() {
        assert_eq!(
            chosen(&[
                candidate(1, 1, UP),
                candidate(2, 1, UP),
                candidate(3, 2, UP)
            ]),
            (Tier::Up, vec![1, 2])
        );
        assert_eq!(
            chosen(&[
                candidate(1, 1, DOWN),
                candidate(2, 1, DOWN),
                candidate(3, 2, UP)
            ]),
            (Tier::Up, vec![3])
        );
    }

    #[test]
    fn no_verdict_yet_counts_only_when_nothing_is_up() {
        assert_eq!(
            chosen(&[candidate(1, 1, UNKNOWN), candidate(2, 2, UP)]),
            (Tier::Up, vec![2])
        );
        assert_eq!(
            chosen(&[
                candidate(1, 1, UNKNOWN),
                candidate(2, 2, UNKNOWN),
                candidate(3, 1, DOWN)
            ]),
            (Tier::Unproven, vec![1])
        );
    }

    #[test]
    fn with_all_down_every_uplink_that_has_a_route_is_tried() {
        assert_eq!(
            chosen(&[
                candidate(1, 1, DOWN),
                candidate(2, 2, DOWN),
                candidate(3, 1, Standing::Pathless)
            ]),
            (Tier::LastResort, vec![1, 2])
        );
    }

    #[test]
    fn without_any_route_there_is_nothing() {
        assert_eq!(
            chosen(&[candidate(1, 1, Standing::Pathless)]),
            (Tier::Nothing, vec![])
        );
        assert_eq!(chosen(&[]), (Tier::Nothing, vec![]));
    }

    #[test]
    fn an_uplink_without_new_flows_is_never_chosen() {
        let mut closed = candidate(1, 1, UP);
        closed.new_flows = false;
        assert_eq!(
            chosen(&[closed, candidate(2, 2, DOWN)]),
            (Tier::LastResort, vec![2])
        );
        assert_eq!(chosen(&[closed]), (Tier::Nothing, vec![]));
    }
}
