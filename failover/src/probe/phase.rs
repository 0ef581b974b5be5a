//! When the rounds of different uplinks begin: not all in the same millisecond, and where there are
//! many, some together, since the processor is woken for each moment and not for each round.

use std::time::Duration;

use crate::family::Family;
use crate::uplink::UplinkId;

/// The moments of an interval at which rounds begin.
const MOMENTS: u32 = 25;

/// How long after the first round the second one begins: about between half an interval and a whole
/// one, another for each uplink and family, at a moment of the grid of an interval's 25th parts that
/// began `since` before the first round. All later rounds follow at the interval, and so on the grid.
pub(super) fn second_round(
    uplink: UplinkId,
    family: Family,
    interval: Duration,
    since: Duration,
) -> Duration {
    // Multiples of the golden ratio, in 2^16ths, spread evenly however many there are.
    const GOLDEN: u32 = 40_503;
    let place = u32::from(uplink.get()) * 2 + u32::from(family == Family::Ipv6);
    let fraction = place.wrapping_mul(GOLDEN) % 65_536;
    let half = interval / 2;
    let wanted = interval.saturating_sub((half / 65_536).saturating_mul(fraction));
    let part = (interval / MOMENTS).as_nanos().max(1);
    let beyond = since.saturating_add(wanted).as_nanos() % part;
    wanted.saturating_sub(Duration::from_nanos(u64::try_from(beyond).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn three_uplinks_with_both_families_keep_20_ms_apart() {
        let interval = Duration::from_millis(500);
        let mut moments: Vec<_> = UplinkId::all()
            .take(3)
            .flat_map(|uplink| {
                Family::ALL.map(|family| second_round(uplink, family, interval, Duration::ZERO))
            })
            .collect();
        moments.sort();
        for pair in moments.windows(2) {
            assert!(
                pair[1] - pair[0] >= Duration::from_millis(20),
                "{moments:?}"
            );
        }
    }

    #[test]
    fn the_second_round_comes_within_an_interval() {
        for interval in [Duration::from_millis(1), Duration::from_secs(3600)] {
            for uplink in UplinkId::all() {
                let moment = second_round(uplink, Family::Ipv4, interval, Duration::ZERO);
                assert!(moment >= interval * 23 / 50 && moment <= interval);
            }
        }
    }

    #[test]
    fn many_uplinks_share_few_moments_whenever_their_first_rounds_were() {
        let interval = Duration::from_millis(500);
        let moments: BTreeSet<_> = UplinkId::all()
            .take(64)
            .enumerate()
            .map(|(number, uplink)| {
                let first = Duration::from_micros(u64::try_from(number).unwrap() * 777);
                (first + second_round(uplink, Family::Ipv4, interval, first)).as_millis()
            })
            .collect();
        assert!((10..=17).contains(&moments.len()), "{moments:?}");
    }
}
