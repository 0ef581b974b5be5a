//! Interfaces of uplinks and downlinks come, go and change, again and again: what stays is not
//! disturbed, nothing leaks, and in the end all is as at first.

use std::time::Duration;

use failover::family::Family;
use failover_tests::chance::Chance;
use failover_tests::churn::{self, Rounds};
use failover_tests::daemon::Status;
use failover_tests::footprint::Footprint;
use failover_tests::{Keep, Protocol, is_slow};

use crate::Outcome;
use crate::case::Case;
use crate::steering::Steering;

/// In each of them every kind of change befalls an uplink and a downlink.
fn count() -> usize {
    if is_slow() { 5 } else { 15 }
}

/// Flows that are asked all the time.
const KEEP: Keep = Keep {
    each: 10,
    every: Duration::from_millis(20),
};

pub(crate) async fn rounds(case: &Case) -> Outcome {
    let scene = case.open(churn::lab(), &churn::config()).await?;
    let daemon = scene.daemon()?;
    let mut at_first = Footprint::of(&scene.lab, &daemon).await?;
    let unsteady = churn::unsteady();
    let flows = scene.client()?.keep(KEEP, &unsteady).await?;
    if scene.steering() == Steering::FastPath {
        // While flows take it, the daemon has a socket more, by which it is told of their end.
        let some_take_it = |status: &Status| status.fastpath.flows > 0;
        scene
            .until("flows take the fast path", some_take_it)
            .await?;
        at_first = Footprint::of(&scene.lab, &daemon).await?;
    }
    let rounds = Rounds {
        count: count(),
        seed: Chance::any_seed(),
    };
    rounds.run(&scene.lab, scene.mode()).await?;
    scene.until_all_up().await?;
    let steady = |home: Option<u8>| home.is_none_or(|home| !unsteady.contains(&home));
    let mut lived = 0;
    for flow in flows.finish().await {
        if steady(flow.home_uplink()) {
            lived += 1;
            let lost = (flow.moves, flow.lost, &flow.ended);
            assert_eq!(lost, (0, 0, &None), "{rounds:?}: {flow:?}");
        }
    }
    assert!(lived > 0, "no flow began on the uplink that stays");
    let left = at_first.settled(&scene.lab, &daemon).await?;
    assert!(left.is_empty(), "{rounds:?}: {left:#?}");
    for family in Family::ALL {
        let tally = scene.new_flows(Protocol::Udp, family, 300).await?;
        for uplink in 1..=6 {
            assert!(tally.on(uplink) > 15, "{rounds:?}: {tally}");
        }
    }
    Ok(())
}
