//! From the states of uplinks to the pool that new flows of one family use.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::config::Percent;
use crate::health::Health;
use crate::select::latency::{Runner, leader};
use crate::select::maglev::{Member, SlotTable};
use crate::select::strategy::Strategy;
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
    /// By what its members were chosen among those of their priority.
    pub strategy: Strategy,
    /// Weight by member; empty when there is nothing.
    pub members: BTreeMap<UplinkId, u16>,
    /// Uplinks that are as usable and get no new flows by the strategy; those that they have stay.
    pub resting: BTreeSet<UplinkId>,
    /// Uplinks that are passed over since they are full, or all that could be chosen if they are.
    pub full: BTreeSet<UplinkId>,
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

/// What strategies go by.
#[derive(Clone, Copy)]
pub struct Measures<'m> {
    /// The strategy of each priority.
    pub strategy: &'m dyn Fn(u32) -> Strategy,
    /// The mean time of an uplink's answers; `None`: not known.
    pub latency: &'m dyn Fn(UplinkId) -> Option<Duration>,
    /// Whether an uplink is full by a share of its capacity.
    pub is_full: &'m dyn Fn(UplinkId, Percent) -> bool,
    /// The uplink that got all new flows since it answered soonest.
    pub leader: Option<UplinkId>,
}

impl Measures<'_> {
    /// Nothing is measured, since all goes by weight.
    pub const NONE: Self = Self {
        strategy: &|_| Strategy::Weight,
        latency: &|_| None,
        is_full: &|_, _| false,
        leader: None,
    };
}

/// Who is to get new flows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Why these.
    pub tier: Tier,
    /// The priority of all of them; `None`: whatever theirs are.
    pub priority: Option<u32>,
    /// The strategy of that priority.
    pub strategy: Strategy,
    /// The one of them that gets all; `None`: all of them, by weight.
    pub only: Option<UplinkId>,
    /// Those that would come before and are full; where all are, all of them.
    pub full: BTreeSet<UplinkId>,
}

impl Chosen {
    /// The one that gets all since it answers soonest.
    #[must_use]
    pub fn leader(&self) -> Option<UplinkId> {
        self.only
            .filter(|_| self.strategy == Strategy::LeastLatency)
    }

    /// Whether an uplink may have flows by the strategy, and gets no new ones now. What overflowed
    /// may be in any priority.
    fn rests(&self, candidate: &Candidate) -> bool {
        let reached = match self.strategy {
            Strategy::Weight | Strategy::LeastLatency => {
                self.priority.is_some_and(|p| candidate.priority <= p)
            }
            Strategy::Overflow(_) => true,
        };
        self.only.is_some_and(|only| only != candidate.id)
            && reached
            && self.takes(candidate.standing)
    }

    const fn takes(&self, standing: Standing) -> bool {
        matches!(
            (self.tier, standing),
            (Tier::Up, Standing::Routed(Health::Up))
                | (Tier::Degraded, Standing::Routed(Health::Degraded))
                | (Tier::Unproven, Standing::Routed(Health::Unknown))
                | (Tier::LastResort, Standing::Routed(_))
        )
    }
}

/// Chooses who gets the new flows of one family: the best priority with an uplink that is up; else
/// the best priority with one that is degraded; else the best among those without a verdict; else all
/// that have a route. Of the uplinks of a priority all, or one, as its strategy says; where it says
/// that they are full, those of the next priority that are as good; where all of these are, too,
/// those of the best priority by weight.
#[must_use]
pub fn choose(candidates: &[Candidate], measures: &Measures<'_>) -> Chosen {
    let offered = || candidates.iter().filter(|c| c.new_flows);
    let chosen = |tier, priority, strategy, only, full| Chosen {
        tier,
        priority,
        strategy,
        only,
        full,
    };
    let mut passed = BTreeSet::new();
    let tiers = [
        (Tier::Up, Health::Up),
        (Tier::Degraded, Health::Degraded),
        (Tier::Unproven, Health::Unknown),
    ];
    for (tier, health) in tiers {
        let usable: Vec<&Candidate> = offered()
            .filter(|c| c.standing == Standing::Routed(health))
            .collect();
        let priorities: BTreeSet<u32> = usable.iter().map(|c| c.priority).collect();
        let Some(&best) = priorities.first() else {
            continue;
        };
        for priority in priorities {
            let members = usable.iter().copied().filter(|c| c.priority == priority);
            let strategy = (measures.strategy)(priority);
            let only = match strategy {
                Strategy::Weight => None,
                Strategy::LeastLatency => {
                    let runner = |c: &Candidate| Runner {
                        id: c.id,
                        weight: c.weight,
                        latency: (measures.latency)(c.id),
                    };
                    let runners: Vec<Runner> = members.map(runner).collect();
                    leader(&runners, measures.leader)
                }
                Strategy::Overflow(share) => {
                    let mut ranked: Vec<&Candidate> = members.collect();
                    ranked.sort_by_key(|c| (Reverse(c.weight), c.id));
                    let mut ranked = ranked.into_iter().map(|c| c.id);
                    let free = ranked.find(|id| {
                        let is_full = (measures.is_full)(*id, share);
                        if is_full {
                            passed.insert(*id);
                        }
                        !is_full
                    });
                    match free {
                        Some(first) => Some(first),
                        None => continue,
                    }
                }
            };
            return chosen(tier, Some(priority), strategy, only, passed);
        }
        return chosen(tier, Some(best), (measures.strategy)(best), None, passed);
    }
    let any = offered().any(|c| matches!(c.standing, Standing::Routed(_)));
    let tier = if any { Tier::LastResort } else { Tier::Nothing };
    chosen(tier, None, Strategy::Weight, None, passed)
}

/// The pool of one family, by weight alone.
#[must_use]
pub fn select(candidates: &[Candidate]) -> Pool {
    select_by(candidates, &Measures::NONE)
}

/// The pool of those that [`choose`] chooses.
#[must_use]
pub fn select_by(candidates: &[Candidate], measures: &Measures<'_>) -> Pool {
    let chosen = choose(candidates, measures);
    // Members of the priority that are not usable keep their place in the table, so that their
    // return moves nobody else.
    let members: Vec<Member> = candidates
        .iter()
        .filter(|c| c.new_flows && chosen.priority.is_none_or(|p| p == c.priority))
        .map(|c| Member {
            id: c.id,
            weight: c.weight,
            usable: chosen.takes(c.standing) && chosen.only.is_none_or(|only| only == c.id),
        })
        .collect();
    Pool {
        tier: chosen.tier,
        strategy: chosen.strategy,
        members: members
            .iter()
            .filter(|m| m.usable)
            .map(|m| (m.id, m.weight))
            .collect(),
        resting: candidates
            .iter()
            .filter(|c| c.new_flows && chosen.rests(c))
            .map(|c| c.id)
            .collect(),
        full: chosen.full,
        table: SlotTable::fill(&members),
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

    /// Full ones by their numbers, each at any share; latencies in milliseconds by number.
    fn by(
        candidates: &[Candidate],
        strategy: &dyn Fn(u32) -> Strategy,
        full: &[u8],
        latencies: &[u64],
    ) -> (Vec<u8>, Strategy) {
        let measures = Measures {
            strategy,
            latency: &|id| {
                let position = usize::from(id.get()) - 1;
                latencies.get(position).copied().map(Duration::from_millis)
            },
            is_full: &|id, _| full.contains(&id.get()),
            leader: None,
        };
        let pool = select_by(candidates, &measures);
        let members: Vec<u8> = pool.members.keys().map(|id| id.get()).collect();
        let mut shares: Vec<u8> = pool.shares().keys().map(|id| id.get()).collect();
        shares.sort_unstable();
        assert_eq!(members, shares, "members are those that get flows");
        (members, pool.strategy)
    }

    const OVERFLOW: fn() -> Strategy = || Strategy::Overflow(Percent::from_tenths(900).unwrap());

    #[test]
    fn the_first_that_is_not_full_gets_all_and_the_next_priority_the_rest() {
        let mut heavy = candidate(2, 1, UP);
        heavy.weight = 2;
        let all = [
            candidate(1, 1, UP),
            heavy,
            candidate(3, 1, DOWN),
            candidate(4, 2, DOWN),
            candidate(5, 3, UP),
            candidate(6, 3, UP),
        ];
        let overflow = |_| OVERFLOW();
        let chosen = |full: &[u8]| by(&all, &overflow, full, &[]).0;
        let passed = |full: &[u8]| {
            let measures = Measures {
                strategy: &overflow,
                is_full: &|id, _| full.contains(&id.get()),
                ..Measures::NONE
            };
            let pool = select_by(&all, &measures);
            pool.full.iter().map(|id| id.get()).collect::<Vec<u8>>()
        };
        assert_eq!(chosen(&[]), [2], "the greater weight comes first");
        assert_eq!(chosen(&[2]), [1]);
        assert_eq!(chosen(&[1, 2]), [5], "4 is down");
        assert_eq!(chosen(&[1, 2, 5]), [6]);
        assert_eq!(chosen(&[1, 2, 5, 6]), [1, 2], "by weight as without it");
        assert!(passed(&[1]).is_empty(), "2 comes before it");
        assert_eq!(passed(&[1, 2, 3]), [1, 2], "3 is down");
        assert_eq!(passed(&[1, 2, 5, 6]), [1, 2, 5, 6]);
    }

    #[test]
    fn each_priority_has_its_own_strategy() {
        let all = [
            candidate(1, 1, UP),
            candidate(2, 2, UP),
            candidate(3, 2, UP),
            candidate(4, 3, UP),
        ];
        let strategy = |priority| match priority {
            1 => OVERFLOW(),
            2 => Strategy::LeastLatency,
            _ => Strategy::Weight,
        };
        let latencies = [1, 30, 20, 1];
        assert_eq!(by(&all, &strategy, &[], &latencies), (vec![1], OVERFLOW()));
        assert_eq!(
            by(&all, &strategy, &[1], &latencies),
            (vec![3], Strategy::LeastLatency)
        );
        let weight = |_| Strategy::Weight;
        assert_eq!(
            by(&all[1..], &weight, &[1], &latencies),
            (vec![2, 3], Strategy::Weight)
        );
    }

    #[test]
    fn no_strategy_prefers_one_that_is_degraded() {
        let all = [
            candidate(1, 1, Standing::Routed(Health::Degraded)),
            candidate(2, 1, UP),
            candidate(3, 2, UP),
        ];
        let overflow = |_| OVERFLOW();
        let fastest = |_| Strategy::LeastLatency;
        assert_eq!(by(&all, &overflow, &[2, 3], &[]).0, [2]);
        assert_eq!(by(&all, &fastest, &[], &[1, 50, 2]).0, [2]);
        assert_eq!(by(&all[..1], &overflow, &[], &[]).0, [1]);
        assert_eq!(
            by(
                &[candidate(1, 1, DOWN), candidate(2, 1, DOWN)],
                &fastest,
                &[],
                &[1, 2]
            )
            .0,
            [1, 2]
        );
    }
}
