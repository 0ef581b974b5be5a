//! Who the flows of each rule go to at the moment.
//!
//! Rules that name the same uplinks in the same way share a pool. A rule's groups are to it what
//! priorities are to all flows: the first with an uplink that is up carries new flows, and one that
//! is up in a later group comes before one that is degraded. `new_flows: false` does not keep an
//! uplink from a rule that names it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, OnceLock};

use super::own_traffic::OwnTraffic;
use super::rule::{Group, Otherwise, Rule, Via};
use super::sets::{SetSource, Sets};
use crate::config::{Affinity, Config};
use crate::family::{Family, PerFamily};
use crate::select::{Candidate, Chosen, Measures, Pool, Standing, choose, select_by};
use crate::uplink::{UplinkId, UplinkName};

/// The rules, and the pool of each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The rules in their order.
    pub rules: Vec<Rule>,
    /// By rule, the position of its pool.
    pub pool_of: Vec<usize>,
    /// Distinct ways in which rules name uplinks, and what makes flows go together there.
    pub vias: Vec<Via>,
    /// By position of a pool, what it is known by.
    pub identities: Vec<PoolIdentity>,
    written: Written,
}

/// What the memory of a pool is known by, also after rules were changed: which uplinks are named in
/// which order. Other weights, and rules before and behind it, make it no other pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolIdentity(u32);

impl PoolIdentity {
    /// The pool of all flows that no rule names.
    pub const COMMON: Self = Self(0);

    /// The number that it has in the kernel.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Those of pools in this order. Of pools that differ only by what makes no other pool, each has its
    /// own.
    fn of(vias: &[Via]) -> Vec<Self> {
        let mut taken = BTreeSet::from([Self::COMMON]);
        let first = |via: &Via| {
            let mut hasher = DefaultHasher::new();
            for Group(members) in &via.groups {
                for (name, _) in members {
                    name.hash(&mut hasher);
                }
                members.len().hash(&mut hasher);
            }
            let [a, b, c, d, ..] = hasher.finish().to_le_bytes();
            u32::from_le_bytes([a, b, c, d])
        };
        let identity = |via: &Via| {
            let mut number = first(via);
            while !taken.insert(Self(number)) {
                number = number.wrapping_add(1);
            }
            Self(number)
        };
        vias.iter().map(identity).collect()
    }
}

impl fmt::Display for PoolIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// What follows from the rules alone, and is written once: thousands of addresses must hold up no
/// failover.
#[derive(Clone, Debug, Default)]
struct Written {
    text: OnceLock<String>,
    own_traffic: OnceLock<OwnTraffic>,
}

impl PartialEq for Written {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Written {}

impl Policy {
    /// The policy of a configuration, whose sets in files have these addresses.
    #[must_use]
    pub fn of(config: &Config, files: &Sets) -> Arc<Self> {
        let inline = config
            .sets
            .iter()
            .filter_map(|(name, source)| match source {
                SetSource::Inline(set) => Some((name.clone(), Arc::clone(set))),
                SetSource::File(_) => None,
            });
        let mut sets = files.clone();
        sets.extend(inline);
        let rules = config.rules.iter().map(|rule| rule.resolve(&sets));
        Self::new(rules.collect())
    }

    /// The policy of these rules.
    #[must_use]
    pub fn new(rules: Vec<Rule>) -> Arc<Self> {
        let mut known: BTreeMap<Via, usize> = BTreeMap::new();
        let mut vias = Vec::new();
        let mut pool_of = Vec::with_capacity(rules.len());
        for rule in &rules {
            let position = *known.entry(rule.via.clone()).or_insert_with(|| {
                vias.push(rule.via.clone());
                vias.len() - 1
            });
            pool_of.push(position);
        }
        Arc::new(Self {
            rules,
            pool_of,
            identities: PoolIdentity::of(&vias),
            vias,
            written: Written::default(),
        })
    }

    /// What follows from the rules alone, as it was written the first time: there is one who writes.
    pub fn written(&self, write: impl FnOnce(&Self) -> String) -> &str {
        self.written.text.get_or_init(|| write(self))
    }

    /// What the rules come to for the router's own packets.
    pub fn own_traffic(&self) -> &OwnTraffic {
        let own_traffic = &self.written.own_traffic;
        own_traffic.get_or_init(|| OwnTraffic::of(self))
    }

    /// Whether a rule has a condition on packet marks.
    #[must_use]
    pub fn asks_for_marks(&self) -> bool {
        self.rules.iter().any(|rule| rule.matching.marks.is_some())
    }

    /// Each rule with the position of its pool.
    pub fn iter(&self) -> impl Iterator<Item = (&Rule, usize)> {
        self.rules.iter().zip(self.pool_of.iter().copied())
    }
}

/// The uplinks of a pool at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulePool {
    /// What it is known by.
    pub identity: PoolIdentity,
    /// All uplinks that its rules name.
    pub named: BTreeSet<UplinkId>,
    /// What makes flows go together.
    pub affinity: Affinity,
    /// Who new flows go to, by family; `None` while none of the uplinks is usable.
    pub pools: PerFamily<Option<Pool>>,
}

/// How an uplink stands to rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The uplink.
    pub id: UplinkId,
    /// How it stands.
    pub standing: Standing,
}

/// Chooses who the flows of a way of naming uplinks go to, in one family, where nothing is measured.
/// `None` when none of them is usable: dead uplinks are never tried for a rule.
#[must_use]
pub fn select_via(via: &Via, uplinks: &impl Fn(&UplinkName) -> Option<Offered>) -> Option<Pool> {
    select_via_by(via, uplinks, &Measures::NONE)
}

/// The same by what is measured; the strategy is the rule's own.
#[must_use]
pub fn select_via_by(
    via: &Via,
    uplinks: &impl Fn(&UplinkName) -> Option<Offered>,
    measures: &Measures<'_>,
) -> Option<Pool> {
    let pool = by_strategy_of(via, measures, |measures| {
        select_by(&candidates(via, uplinks), measures)
    });
    pool.tier.is_usable().then_some(pool)
}

/// Who [`select_via_by`] chooses, without the pool.
#[must_use]
pub fn choose_via(
    via: &Via,
    uplinks: &impl Fn(&UplinkName) -> Option<Offered>,
    measures: &Measures<'_>,
) -> Chosen {
    by_strategy_of(via, measures, |measures| {
        choose(&candidates(via, uplinks), measures)
    })
}

fn by_strategy_of<T>(
    via: &Via,
    measures: &Measures<'_>,
    choose: impl FnOnce(&Measures<'_>) -> T,
) -> T {
    choose(&Measures {
        strategy: &|_| via.strategy,
        ..*measures
    })
}

/// The groups as priorities.
fn candidates(via: &Via, uplinks: &impl Fn(&UplinkName) -> Option<Offered>) -> Vec<Candidate> {
    (0_u32..)
        .zip(&via.groups)
        .flat_map(|(priority, Group(members))| {
            members.iter().filter_map(move |(name, weight)| {
                let offered = uplinks(name)?;
                Some(Candidate {
                    id: offered.id,
                    weight: *weight,
                    priority,
                    new_flows: true,
                    standing: offered.standing,
                })
            })
        })
        .collect()
}

/// Where a rule's flows go in a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination<'p> {
    /// To this pool.
    Pool(&'p Pool, Affinity),
    /// Where all others go.
    Common,
    /// Nowhere.
    Nowhere,
}

impl RulePool {
    /// Where flows go whose rule says so of what becomes of them otherwise.
    #[must_use]
    pub fn destination(&self, family: Family, otherwise: Otherwise) -> Destination<'_> {
        match (self.pools.get(family), otherwise) {
            (Some(pool), _) => Destination::Pool(pool, self.affinity),
            (None, Otherwise::Any) => Destination::Common,
            (None, Otherwise::Drop) => Destination::Nowhere,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FastPathSetting;
    use crate::health::Health;
    use crate::select::Strategy;

    fn via(groups: &[&[(&str, u16)]]) -> Via {
        let group = |members: &&[(&str, u16)]| {
            let named = members
                .iter()
                .map(|(name, weight)| (name.parse().unwrap(), *weight));
            Group(named.collect())
        };
        Via {
            groups: groups.iter().map(group).collect(),
            affinity: None,
            strategy: Strategy::Weight,
        }
    }

    /// Uplinks by number: `a` is 1.
    fn chosen(via: &Via, health: &[Health]) -> Option<Vec<(u8, u16)>> {
        let uplinks = |name: &UplinkName| {
            let number = name.as_str().bytes().next()? - b'a';
            Some(Offered {
                id: UplinkId::try_from(number + 1).ok()?,
                standing: Standing::Routed(*health.get(usize::from(number))?),
            })
        };
        let pool = select_via(via, &uplinks)?;
        Some(
            pool.members
                .iter()
                .map(|(id, weight)| (id.get(), *weight))
                .collect(),
        )
    }

    use Health::{Degraded, Down, Up};

    #[test]
    fn the_first_group_with_an_uplink_that_is_up_carries_new_flows() {
        let via = via(&[&[("a", 1)], &[("b", 3), ("c", 1)]]);
        assert_eq!(chosen(&via, &[Up, Up, Up]), Some(vec![(1, 1)]));
        assert_eq!(chosen(&via, &[Down, Up, Up]), Some(vec![(2, 3), (3, 1)]));
        assert_eq!(chosen(&via, &[Degraded, Down, Up]), Some(vec![(3, 1)]));
        assert_eq!(chosen(&via, &[Degraded, Down, Down]), Some(vec![(1, 1)]));
    }

    #[test]
    fn dead_uplinks_are_never_tried_for_a_rule() {
        assert_eq!(
            chosen(&via(&[&[("a", 1)], &[("b", 1)]]), &[Down, Down]),
            None
        );
    }

    #[test]
    fn rules_that_name_the_same_uplinks_share_a_pool() {
        let rule = |via: Via, otherwise| Rule {
            name: String::new(),
            matching: crate::policy::Matching::default(),
            via,
            otherwise,
            fast_path: FastPathSetting::Auto,
        };
        let (one, two) = (via(&[&[("a", 1)]]), via(&[&[("b", 1)]]));
        let policy = Policy::new(vec![
            rule(one.clone(), Otherwise::Any),
            rule(two.clone(), Otherwise::Any),
            rule(one.clone(), Otherwise::Drop),
        ]);
        assert_eq!(policy.pool_of, [0, 1, 0]);
        assert_eq!(policy.identities.len(), 2);
        assert_eq!(policy.vias, [one, two]);
    }

    #[test]
    fn pools_are_known_again_and_told_apart() {
        let one = via(&[&[("a", 1), ("b", 1)]]);
        let heavier = via(&[&[("a", 3), ("b", 1)]]);
        let groups = via(&[&[("a", 1)], &[("b", 1)]]);
        let alone = |via: &Via| PoolIdentity::of(std::slice::from_ref(via))[0];
        assert_eq!(alone(&one), alone(&heavier));
        assert_ne!(alone(&one), alone(&groups));
        let expected = alone(&one);
        let all = PoolIdentity::of(&[groups, one, heavier]);
        assert_eq!(all[1], expected);
        assert_eq!(BTreeSet::from_iter(&all).len(), 3);
        assert!(!all.contains(&PoolIdentity::COMMON));
    }
}
