//! The buckets of the fast path's index, as the daemon writes them while the programs read.
//!
//! Each change of a cell is one store, and the cells in use are the first ones at any moment: a program
//! finds what it looks for, or for the moment that a cell takes to move it does not, and the stack has
//! one packet.

use std::sync::atomic::{AtomicU64, Ordering};

use failover_common::fastpath::{cell, tag_of};

/// Puts a cell into a bucket; returns whether there was room. Where another one has the same tag there
/// is none, since only the first of them would be found.
pub(super) fn put(bucket: &[AtomicU64], tag: u32, slot: u32) -> bool {
    for place in bucket {
        match place.load(Ordering::Relaxed) {
            0 => {
                place.store(cell(tag, slot), Ordering::Release);
                return true;
            }
            taken if tag_of(taken) == tag => return false,
            _ => {}
        }
    }
    false
}

/// Takes a cell out of a bucket, if it is there.
pub(super) fn take(bucket: &[AtomicU64], tag: u32, slot: u32) {
    let taken = cell(tag, slot);
    let used = bucket
        .iter()
        .take_while(|place| place.load(Ordering::Relaxed) != 0);
    let Some(last) = used.last() else {
        return;
    };
    let place = bucket
        .iter()
        .find(|place| place.load(Ordering::Relaxed) == taken);
    if let Some(place) = place {
        place.store(last.load(Ordering::Relaxed), Ordering::Release);
        last.store(0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use failover_common::fastpath::{CELLS, slot_of};

    use super::*;

    fn bucket() -> [AtomicU64; CELLS] {
        std::array::from_fn(|_| AtomicU64::new(0))
    }

    fn cells(bucket: &[AtomicU64]) -> Vec<(u32, u32)> {
        bucket
            .iter()
            .map(|place| place.load(Ordering::Relaxed))
            .take_while(|cell| *cell != 0)
            .map(|cell| (tag_of(cell), slot_of(cell)))
            .collect()
    }

    #[test]
    fn those_in_use_are_the_first_ones_whichever_is_taken_out() {
        for out in 0..3 {
            let bucket = bucket();
            for slot in 0..3 {
                assert!(put(&bucket, 100 + slot, slot));
            }
            take(&bucket, 100 + out, out);
            let mut left = cells(&bucket);
            left.sort_unstable();
            let others = (0..3).filter(|slot| *slot != out);
            let others: Vec<_> = others.map(|slot| (100 + slot, slot)).collect();
            assert_eq!(left, others);
        }
    }

    #[test]
    fn a_full_bucket_and_a_tag_that_is_there_take_no_more() {
        let bucket = bucket();
        assert!(put(&bucket, 0, u32::MAX - 1));
        assert!(!put(&bucket, 0, 5));
        for slot in 1..8 {
            assert!(put(&bucket, slot, slot));
        }
        assert!(!put(&bucket, 9, 9));
        take(&bucket, 0, 5);
        assert_eq!(cells(&bucket).len(), CELLS, "it was another one's tag");
        take(&bucket, 0, u32::MAX - 1);
        assert!(put(&bucket, 9, 9));
    }

    #[test]
    fn what_is_not_there_is_not_missed() {
        take(&bucket(), 1, 1);
        take(&[], 1, 1);
        assert!(!put(&[], 1, 1));
    }
}
