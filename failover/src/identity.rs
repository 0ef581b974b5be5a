//! Which uplink has which id: decided from the names alone, so that ids neither depend on the order
//! in the file nor change because other uplinks come and go.
//!
//! Ids stand in connection marks and in the numbers of routing tables: an id that went to another
//! uplink would carry living connections over with it.

use std::collections::{BTreeMap, BTreeSet};

use thiserror::Error;

use crate::mark::MarkMask;
use crate::uplink::{UplinkId, UplinkName};

/// Ids by name.
pub type Ids = BTreeMap<UplinkName, UplinkId>;

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identities {
    /// The id of each configured uplink.
    pub ids: Ids,
    /// What to remember for the next time: these, and those of uplinks that are no longer
    /// configured, which get their own id back when they return.
    pub remembered: Ids,
}

/// Why ids cannot be given.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IdentityError {
    /// Two uplinks claim one id.
    #[error("the uplinks `{first}` and `{second}` both have the id {id}: give each its own")]
    Claimed {
        /// One of them.
        first: UplinkName,
        /// The other.
        second: UplinkName,
        /// The id.
        id: UplinkId,
    },
    /// An id that the mask has no room for.
    #[error(
        "the uplink `{uplink}` has the id {id}, and `marks.mask` {mask} has room for 1 to {}: give a smaller id or a wider mask",
        mask.max_id()
    )]
    BeyondMask {
        /// The uplink.
        uplink: UplinkName,
        /// The id.
        id: UplinkId,
        /// The mask.
        mask: MarkMask,
    },
    /// More uplinks than ids.
    #[error(
        "no id is left for the uplink `{uplink}`: `marks.mask` {mask} can tell {} uplinks apart",
        mask.max_id()
    )]
    Exhausted {
        /// The uplink.
        uplink: UplinkName,
        /// The mask.
        mask: MarkMask,
    },
}

/// Gives every configured uplink its id: the one that the configuration says; else the one that is
/// remembered, unless another uplink claims it; else the lowest that nobody has or had. Only when
/// none of those is left, the id of an uplink that is no longer configured is given away.
///
/// # Errors
/// When the configured ids collide or do not fit the mask, or when there are more uplinks than ids.
pub fn assign(
    configured: &BTreeMap<UplinkName, Option<UplinkId>>,
    remembered: &Ids,
    mask: MarkMask,
) -> Result<Identities, IdentityError> {
    let mut ids = claimed(configured, mask)?;
    let mut taken: BTreeSet<UplinkId> = ids.values().copied().collect();
    for name in configured.keys() {
        if let Some(id) = remembered.get(name)
            && !ids.contains_key(name)
            && mask.holds(*id)
            && taken.insert(*id)
        {
            ids.insert(name.clone(), *id);
        }
    }
    let reserved: BTreeSet<UplinkId> = remembered.values().copied().collect();
    for name in configured.keys() {
        if ids.contains_key(name) {
            continue;
        }
        let free = || UplinkId::all().filter(|id| mask.holds(*id) && !taken.contains(id));
        let id = free()
            .find(|id| !reserved.contains(id))
            .or_else(|| free().next())
            .ok_or_else(|| IdentityError::Exhausted {
                uplink: name.clone(),
                mask,
            })?;
        taken.insert(id);
        ids.insert(name.clone(), id);
    }
    let mut next = ids.clone();
    for (name, id) in remembered {
        if !configured.contains_key(name) && taken.insert(*id) {
            next.insert(name.clone(), *id);
        }
    }
    Ok(Identities {
        ids,
        remembered: next,
    })
}

fn claimed(
    configured: &BTreeMap<UplinkName, Option<UplinkId>>,
    mask: MarkMask,
) -> Result<Ids, IdentityError> {
    let mut holders: BTreeMap<UplinkId, &UplinkName> = BTreeMap::new();
    let mut ids = Ids::new();
    for (name, id) in configured {
        let Some(id) = *id else { continue };
        if !mask.holds(id) {
            return Err(IdentityError::BeyondMask {
                uplink: name.clone(),
                id,
                mask,
            });
        }
        if let Some(first) = holders.insert(id, name) {
            return Err(IdentityError::Claimed {
                first: first.clone(),
                second: name.clone(),
                id,
            });
        }
        ids.insert(name.clone(), id);
    }
    Ok(ids)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> UplinkName {
        text.parse().unwrap()
    }

    fn id(number: u8) -> UplinkId {
        UplinkId::try_from(number).unwrap()
    }

    fn configured(uplinks: &[(&str, Option<u8>)]) -> BTreeMap<UplinkName, Option<UplinkId>> {
        uplinks.iter().map(|(n, i)| (name(n), i.map(id))).collect()
    }

    fn ids(uplinks: &[(&str, u8)]) -> Ids {
        uplinks.iter().map(|(n, i)| (name(n), id(*i))).collect()
    }

    fn mask(bits: u32) -> MarkMask {
        MarkMask::new(bits).unwrap()
    }

    #[test]
    fn the_first_time_ids_count_up_around_those_that_the_file_gives() {
        let uplinks = configured(&[("lte", None), ("dsl", None), ("fiber", Some(2))]);
        let given = assign(&uplinks, &Ids::new(), MarkMask::DEFAULT).unwrap();
        assert_eq!(given.ids, ids(&[("dsl", 1), ("fiber", 2), ("lte", 3)]));
        assert_eq!(given.remembered, given.ids);
    }

    #[test]
    fn an_uplink_that_was_taken_out_gets_its_id_back() {
        let before = ids(&[("dsl", 1), ("lte", 2)]);
        let without = assign(
            &configured(&[("lte", None), ("new", None)]),
            &before,
            MarkMask::DEFAULT,
        )
        .unwrap();
        assert_eq!(without.ids, ids(&[("lte", 2), ("new", 3)]));
        let back = assign(
            &configured(&[("dsl", None), ("lte", None), ("new", None)]),
            &without.remembered,
            MarkMask::DEFAULT,
        )
        .unwrap();
        assert_eq!(back.ids, ids(&[("dsl", 1), ("lte", 2), ("new", 3)]));
    }

    #[test]
    fn an_id_in_the_file_wins_over_one_that_is_remembered() {
        let before = ids(&[("dsl", 1), ("lte", 2)]);
        let uplinks = configured(&[("dsl", None), ("lte", Some(1))]);
        let given = assign(&uplinks, &before, MarkMask::DEFAULT).unwrap();
        assert_eq!(given.ids, ids(&[("dsl", 3), ("lte", 1)]));
    }

    #[test]
    fn ids_of_the_past_are_given_away_only_when_no_other_is_left() {
        let before = ids(&[("a", 1), ("b", 2), ("c", 3)]);
        let uplinks = configured(&[("c", None), ("d", None)]);
        let given = assign(&uplinks, &before, mask(0x700)).unwrap();
        assert_eq!(given.ids, ids(&[("c", 3), ("d", 1)]));
        assert_eq!(given.remembered, ids(&[("b", 2), ("c", 3), ("d", 1)]));
    }

    #[test]
    fn a_remembered_id_that_a_narrower_mask_has_no_room_for_is_replaced() {
        let given = assign(&configured(&[("a", None)]), &ids(&[("a", 9)]), mask(0x700)).unwrap();
        assert_eq!(given.ids, ids(&[("a", 1)]));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let assign = |uplinks| assign(&configured(uplinks), &Ids::new(), mask(0x300)).unwrap_err();
        assert!(matches!(
            assign(&[("a", Some(1)), ("b", Some(1))]),
            IdentityError::Claimed { .. }
        ));
        assert!(matches!(
            assign(&[("a", Some(2))]),
            IdentityError::BeyondMask { .. }
        ));
        assert!(matches!(
            assign(&[("a", None), ("b", None)]),
            IdentityError::Exhausted { .. }
        ));
    }

    fn names() -> impl Strategy<Value = BTreeSet<UplinkName>> {
        proptest::collection::btree_set("[a-h][0-9]?", 1..8)
            .prop_map(|names| names.iter().map(|n| name(n)).collect())
    }

    proptest! {
        /// Uplinks come and go, step after step: who stays keeps the id, who returns gets it back,
        /// and no two ever have the same one.
        #[test]
        fn ids_stay_with_their_names(steps in proptest::collection::vec(names(), 1..8)) {
            let mut remembered = Ids::new();
            let mut ever = Ids::new();
            for names in steps {
                let configured = names.into_iter().map(|n| (n, None)).collect();
                let given = assign(&configured, &remembered, MarkMask::DEFAULT).unwrap();
                prop_assert!(given.ids.keys().eq(configured.keys()));
                for (name, id) in &given.ids {
                    let first = *ever.entry(name.clone()).or_insert(*id);
                    prop_assert_eq!(first, *id);
                }
                let distinct: BTreeSet<_> = ever.values().collect();
                prop_assert_eq!(distinct.len(), ever.len());
                remembered = given.remembered;
            }
        }

        /// Whatever is remembered, also what a broken state file says: every uplink gets an id of
        /// its own that the mask holds.
        #[test]
        fn every_uplink_gets_its_own_id(
            names in names(),
            remembered in proptest::collection::btree_map("[a-h][0-9]?", 1_u8..=127, 0..20),
        ) {
            let remembered = remembered.iter().map(|(n, i)| (name(n), id(*i))).collect();
            let configured: BTreeMap<_, _> = names.into_iter().map(|n| (n, None)).collect();
            let given = assign(&configured, &remembered, mask(0xf00)).unwrap();
            let distinct: BTreeSet<_> = given.ids.values().collect();
            prop_assert_eq!(distinct.len(), configured.len());
            prop_assert!(given.ids.values().all(|id| id.get() <= 7));
        }
    }
}
