//! What a flow has counted: in its entry, and by the fast path since. Both are read while packets pass,
//! and every few seconds a packet moves the one into the other.

use failover_common::Flow;
use failover_common::fastpath::SEEN_SHIFT;

use crate::fastpath::standing::{Standing, Uncounted};

/// How often both are read until nothing moves in between: one who is told of millions of flows is not
/// kept waiting for one of them.
const READINGS: usize = 4;

/// A flow and how it stands, so that nothing is missing and nothing counted twice. The entry was read at
/// `read_ns` of `CLOCK_MONOTONIC` or later; `read` reads it again, if it is still there.
pub fn counted(
    mut flow: Flow,
    read_ns: u64,
    standing: impl Fn(&Flow) -> Standing,
    mut read: impl FnMut() -> Option<Flow>,
) -> (Flow, Standing) {
    let mut known = standing(&flow);
    for _ in 0..READINGS {
        let Standing::Offloaded(before) = &known else {
            break;
        };
        let Some(again) = passed_since(before, read_ns).then(&mut read).flatten() else {
            break;
        };
        flow = again;
        let after = standing(&flow);
        if !matches!(&after, Standing::Offloaded(after) if moved_on(before, after)) {
            break;
        }
        known = after;
    }
    (flow, known)
}

/// Whether a packet may have taken the fast path since then, and may have had the entry told what moved.
const fn passed_since(uncounted: &Uncounted, read_ns: u64) -> bool {
    uncounted.seen_ns >> SEEN_SHIFT >= read_ns >> SEEN_SHIFT
}

/// Whether the entry was told in between.
const fn moved_on(before: &Uncounted, after: &Uncounted) -> bool {
    after.out.packets < before.out.packets || after.back.packets < before.back.packets
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use failover_common::Counters;

    use super::*;
    use crate::fastpath::standing::Why;

    const NOW: u64 = 1_000 << SEEN_SHIFT;

    fn flow(out_packets: u64) -> Flow {
        Flow {
            out_packets,
            ..Flow::begun(NOW)
        }
    }

    fn uncounted(packets: u64, seen_ns: u64) -> Standing {
        Standing::Offloaded(Uncounted {
            out: Counters { packets, bytes: 0 },
            back: Counters::default(),
            seen_ns,
        })
    }

    fn sum((flow, standing): &(Flow, Standing)) -> u64 {
        match standing {
            Standing::Offloaded(more) => flow.out_packets + more.out.packets,
            Standing::Stack(_) => flow.out_packets,
        }
    }

    #[test]
    fn what_is_moved_while_both_are_read_is_neither_missing_nor_told_twice() {
        // 30 packets are in the entry and 60 are not, until a packet moves them.
        for moves_before in 0..6 {
            let reads = Cell::new(0);
            let moved = || {
                let number = reads.get();
                reads.set(number + 1);
                number >= moves_before
            };
            let told = counted(
                flow(30),
                NOW,
                |_| uncounted(if moved() { 0 } else { 60 }, NOW),
                || Some(flow(if moved() { 90 } else { 30 })),
            );
            assert_eq!(sum(&told), 90, "{moves_before}: {told:?}");
        }
    }

    #[test]
    fn where_no_packet_passed_since_nothing_is_read_again() {
        let told = counted(
            flow(30),
            NOW,
            |_| uncounted(60, NOW - (1 << SEEN_SHIFT)),
            || None,
        );
        assert_eq!(sum(&told), 90);
        let told = counted(
            flow(30),
            NOW,
            |_| Standing::Stack(Why::Off),
            || panic!("it does not take the fast path"),
        );
        assert_eq!(sum(&told), 30);
    }
}
