//! Which of several uplinks answers soonest, without flapping between near equals.

use std::time::Duration;

use crate::uplink::UplinkId;

/// So much of the leader's latency is left to one that takes its place, in percent, at most: the means
/// of equal lines differ by some percent, and by more while few probes are counted.
const MUCH_BETTER: u32 = 80;
/// By so much it is better at least: on lines of few milliseconds the scheduling of this host and of
/// those that answer makes up larger parts, and nobody notices less.
const NOTICEABLE: Duration = Duration::from_millis(2);

/// One that may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Runner {
    pub(super) id: UplinkId,
    pub(super) weight: u16,
    /// The mean time of its answers; `None`: not known.
    pub(super) latency: Option<Duration>,
}

/// The one that leads among these, where `present` led up to now. It is followed by one that is
/// clearly better only; one of which nothing is known, by any of which something is.
pub(super) fn leader(runners: &[Runner], present: Option<UplinkId>) -> Option<UplinkId> {
    // Those without a figure come last; among equals the one of the greater weight, then the lower id.
    let rank = |runner: &Runner| {
        let latency = runner.latency.unwrap_or(Duration::MAX);
        (latency, std::cmp::Reverse(runner.weight), runner.id)
    };
    let best = runners.iter().min_by_key(|runner| rank(runner))?;
    let present = runners.iter().find(|runner| Some(runner.id) == present);
    match present {
        Some(present) if !is_clearly_better(best, present) => Some(present.id),
        _ => Some(best.id),
    }
}

fn is_clearly_better(challenger: &Runner, present: &Runner) -> bool {
    match (challenger.latency, present.latency) {
        (Some(challenger), Some(present)) => {
            let much = challenger.saturating_mul(100) < present.saturating_mul(MUCH_BETTER);
            much && present.saturating_sub(challenger) > NOTICEABLE
        }
        (challenger, present) => challenger.is_some() && present.is_none(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(n: u8) -> UplinkId {
        UplinkId::try_from(n).unwrap()
    }

    fn runner(n: u8, micros: Option<u64>) -> Runner {
        Runner {
            id: id(n),
            weight: 1,
            latency: micros.map(Duration::from_micros),
        }
    }

    fn led(latencies: &[Option<u64>], present: Option<u8>) -> Option<u8> {
        let runners: Vec<Runner> = (1..).zip(latencies).map(|(n, l)| runner(n, *l)).collect();
        leader(&runners, present.map(id)).map(UplinkId::get)
    }

    #[test]
    fn the_lowest_leads_and_is_followed_by_one_that_is_clearly_better() {
        let (low, high) = (Some(10_000), Some(30_000));
        assert_eq!(led(&[high, low], None), Some(2));
        assert_eq!(led(&[high, low], Some(1)), Some(2));
        // 20 % and a little less.
        assert_eq!(led(&[high, Some(24_100)], Some(1)), Some(1));
        assert_eq!(led(&[high, Some(23_900)], Some(1)), Some(2));
        // A half, but nobody would notice.
        assert_eq!(led(&[Some(3_900), Some(2_000)], Some(1)), Some(1));
        assert_eq!(led(&[Some(4_100), Some(2_000)], Some(1)), Some(2));
        // Gone.
        assert_eq!(led(&[high, low], Some(3)), Some(2));
        assert_eq!(led(&[], Some(3)), None);
    }

    #[test]
    fn those_of_which_nothing_is_known_come_last() {
        assert_eq!(led(&[None, Some(90_000)], None), Some(2));
        assert_eq!(led(&[None, Some(90_000)], Some(1)), Some(2));
        assert_eq!(led(&[Some(90_000), None], Some(1)), Some(1));
        assert_eq!(led(&[None, None], Some(2)), Some(2));
        assert_eq!(led(&[None, None], None), Some(1));
        let heavy = Runner {
            weight: 3,
            ..runner(2, None)
        };
        assert_eq!(leader(&[runner(1, None), heavy], None), Some(id(2)));
    }

    proptest! {
        /// Means that differ by a tenth each way, of lines of any latency.
        #[test]
        fn near_equals_never_take_turns(
            mean in 100_u64..1_000_000,
            noise in prop::collection::vec(prop::collection::vec(0.9_f64..1.1, 4), 1..100),
        ) {
            let mut present = None;
            let mut changes = 0;
            for figures in noise {
                #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation,
                    clippy::cast_sign_loss, reason = "a few seconds in microseconds")]
                let figures: Vec<Option<u64>> =
                    figures.iter().map(|part| Some((mean as f64 * part) as u64)).collect();
                let next = led(&figures, present);
                changes += usize::from(present.is_some() && next != present);
                present = next;
            }
            prop_assert_eq!(changes, 0);
        }

        /// Whatever was before, one that is clearly better than all others leads; and who leads
        /// now, leads as long as nothing changes.
        #[test]
        fn a_clear_best_leads_and_goes_on_leading(
            others in prop::collection::vec(prop::option::of(5_000_u64..1_000_000), 1..8),
            present in 1_u8..9,
        ) {
            let least = others.iter().flatten().min().copied().unwrap_or(10_000);
            let mut all = others.clone();
            all.push(Some(least * 79 / 100 - 1_100));
            let best = u8::try_from(all.len()).ok();
            prop_assert_eq!(led(&all, Some(present)).filter(|_| least >= 5_000), best);
            let now = led(&others, Some(present));
            prop_assert_eq!(led(&others, now), now);
        }
    }
}
