//! The table that turns a flow's hash into an uplink.
//!
//! It is filled in two steps. First all members of the pool, usable or not, fill it as in Maglev
//! (Eisenbud et al., NSDI 2016): each takes its turn by weight and claims the next free slot of its
//! own permutation, so shares are exact to a slot. Then each slot of a member that is not usable
//! goes to the usable member with the highest weighted rendezvous score for that slot. So an uplink
//! that fails moves its own slots and no others, and gets exactly these back when it returns; Maglev
//! alone would shuffle a few slots between the survivors.

use std::collections::BTreeMap;

use failover_common::SLOTS;

use crate::uplink::UplinkId;

/// A member of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// The uplink.
    pub id: UplinkId,
    /// Its weight, at least 1.
    pub weight: u16,
    /// Whether flows may use it now.
    pub usable: bool,
}

/// For each slot the uplink of the flows that hash to it; empty when no member is usable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotTable(Vec<UplinkId>);

impl SlotTable {
    /// Fills the table. The result depends on ids and weights alone, not on the order of members.
    #[must_use]
    pub fn fill(members: &[Member]) -> Self {
        let usable: Vec<Member> = members.iter().copied().filter(|m| m.usable).collect();
        if usable.is_empty() {
            return Self::default();
        }
        let owners = populate(members);
        let slots = owners
            .into_iter()
            .zip(0_u16..)
            .filter_map(|(owner, slot)| {
                if owner.usable {
                    Some(owner.id)
                } else {
                    successor(&usable, slot)
                }
            })
            .collect();
        Self(slots)
    }

    /// The uplinks by slot, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, UplinkId)> {
        (0_u16..).zip(self.0.iter().copied())
    }

    /// Whether no member is usable.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The fraction of slots of each uplink that has any.
    #[must_use]
    pub fn shares(&self) -> BTreeMap<UplinkId, f64> {
        let mut counts: BTreeMap<UplinkId, u16> = BTreeMap::new();
        for id in &self.0 {
            *counts.entry(*id).or_default() += 1;
        }
        counts
            .into_iter()
            .map(|(id, count)| (id, f64::from(count) / f64::from(SLOTS)))
            .collect()
    }
}

/// One member's walk through the slots, without end: every slot once per `SLOTS` steps.
struct Permutation {
    next: u16,
    skip: u16,
}

impl Permutation {
    fn of(id: UplinkId) -> Self {
        let hash = mix(u64::from(id.get()));
        Self {
            next: below(hash, SLOTS),
            skip: below(mix(hash), SLOTS - 1) + 1,
        }
    }

    fn step(&mut self) -> u16 {
        let slot = self.next;
        // Both are below SLOTS, so the sum is below 2 * 1021.
        self.next = (slot + self.skip) % SLOTS;
        slot
    }
}

/// Maglev's population, with turns by weight.
fn populate(members: &[Member]) -> Vec<Member> {
    struct Turn {
        member: Member,
        permutation: Permutation,
        claimed: i64,
    }
    let mut turns: Vec<Turn> = members
        .iter()
        .map(|&member| Turn {
            member,
            permutation: Permutation::of(member.id),
            claimed: 0,
        })
        .collect();
    turns.sort_by_key(|turn| turn.member.id);
    let total: i64 = members.iter().map(|m| i64::from(m.weight)).sum();
    let mut owners: Vec<Option<Member>> = vec![None; usize::from(SLOTS)];
    for filled in 0..i64::from(SLOTS) {
        // Whoever is furthest behind its share; on a tie the lower id.
        let Some(turn) = turns.iter_mut().max_by_key(|turn| {
            let behind = i64::from(turn.member.weight) * (filled + 1) - total * turn.claimed;
            (behind, std::cmp::Reverse(turn.member.id))
        }) else {
            break;
        };
        turn.claimed += 1;
        // A free slot exists while fewer than SLOTS are filled, and a permutation meets every slot.
        for _ in 0..SLOTS {
            let slot = turn.permutation.step();
            if let Some(owner @ None) = owners.get_mut(usize::from(slot)) {
                *owner = Some(turn.member);
                break;
            }
        }
    }
    owners.into_iter().flatten().collect()
}

/// The usable member with the highest score for a slot (weighted rendezvous hashing: Schindelhauer
/// and Schomaker, SPAA 2005).
fn successor(usable: &[Member], slot: u16) -> Option<UplinkId> {
    usable
        .iter()
        .map(|member| {
            let hash = mix((u64::from(member.id.get()) << 32) | u64::from(slot));
            // The upper 53 bits, so that the value is exact, shifted off zero and one, where the
            // logarithm is not finite or zero.
            #[expect(
                clippy::cast_precision_loss,
                reason = "53 bits are what an f64 holds exactly"
            )]
            let unit = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            (f64::from(member.weight) / -unit.ln(), member.id)
        })
        .max_by(|(score, id), (other_score, other_id)| {
            score.total_cmp(other_score).then(id.cmp(other_id))
        })
        .map(|(_, id)| id)
}

/// A number below `bound`, from the lower half of a hash.
fn below(hash: u64, bound: u16) -> u16 {
    u16::try_from(hash % u64::from(bound)).unwrap_or(0)
}

/// The finalizer of splitmix64: every input bit changes half of the output bits.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(id: u8, weight: u16, usable: bool) -> Member {
        Member {
            id: UplinkId::try_from(id).unwrap(),
            weight,
            usable,
        }
    }

    fn members() -> impl Strategy<Value = Vec<Member>> {
        prop::collection::btree_map(1_u8..=127, (1_u16..=256, any::<bool>()), 1..=12).prop_map(
            |map| {
                map.into_iter()
                    .map(|(id, (weight, usable))| member(id, weight, usable))
                    .collect()
            },
        )
    }

    #[test]
    fn shares_follow_weights_to_a_slot() {
        let table = SlotTable::fill(&[member(1, 3, true), member(2, 2, true), member(3, 1, true)]);
        let shares: Vec<f64> = table.shares().into_values().collect();
        for (share, wanted) in shares.into_iter().zip([3.0 / 6.0, 2.0 / 6.0, 1.0 / 6.0]) {
            assert!(
                (share - wanted).abs() <= 1.0 / f64::from(SLOTS),
                "{share} for {wanted}"
            );
        }
    }

    #[test]
    fn the_slots_of_a_dead_uplink_are_shared_by_weight() {
        let table = SlotTable::fill(&[member(1, 3, true), member(2, 1, true), member(3, 4, false)]);
        let shares = table.shares();
        let first = shares[&UplinkId::try_from(1).unwrap()];
        assert!((first - 0.75).abs() < 0.03, "{first}");
    }

    proptest! {
        #[test]
        fn every_slot_has_a_usable_owner_or_none_has(members in members()) {
            let table = SlotTable::fill(&members);
            let usable: Vec<UplinkId> =
                members.iter().filter(|m| m.usable).map(|m| m.id).collect();
            prop_assert_eq!(table.0.len(), if usable.is_empty() { 0 } else { usize::from(SLOTS) });
            prop_assert!(table.iter().all(|(_, id)| usable.contains(&id)));
        }

        #[test]
        fn the_order_of_members_means_nothing(members in members()) {
            let mut reversed = members.clone();
            reversed.reverse();
            prop_assert_eq!(SlotTable::fill(&members), SlotTable::fill(&reversed));
        }

        #[test]
        fn a_member_that_fails_moves_its_own_slots_only(members in members(), which in any::<prop::sample::Index>()) {
            let mut after = members.clone();
            let failing = which.index(after.len());
            after[failing].usable = false;
            let (before, after_table) = (SlotTable::fill(&members), SlotTable::fill(&after));
            let failed = members[failing].id;
            for ((_, old), (_, new)) in before.iter().zip(after_table.iter()) {
                prop_assert!(old == new || old == failed);
            }
        }
    }
}
