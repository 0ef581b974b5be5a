//! When the rounds of different uplinks begin, so that not all go out in the same millisecond.

use std::time::Duration;

use crate::family::Family;
use crate::uplink::UplinkId;

/// How long after the first round the second one begins: between half an interval and a whole one,
/// another for each uplink and family. All later rounds follow at the interval.
pub(super) fn second_round(uplink: UplinkId, family: Family, interval: Duration) -> Duration {
    // Multiples of the golden ratio, in 2^16ths, spread evenly however many there are.
    const GOLDEN: u32 = 40_503;
    let place = u32::from(uplink.get()) * 2 + u32::from(family == Family::Ipv6);
    let fraction = place.wrapping_mul(GOLDEN) % 65_536;
    let half = interval / 2;
    interval.saturating_sub((half / 65_536).saturating_mul(fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_uplinks_with_both_families_keep_20_ms_apart() {
        let interval = Duration::from_millis(500);
        let mut moments: Vec<_> = UplinkId::all()
            .take(3)
            .flat_map(|uplink| Family::ALL.map(|family| second_round(uplink, family, interval)))
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
                let moment = second_round(uplink, Family::Ipv4, interval);
                assert!(moment >= interval / 2 && moment <= interval);
            }
        }
    }
}
