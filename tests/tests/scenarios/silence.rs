//! An uplink that dies without a sign.

use std::time::Instant;

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, Protocol, RpFilter};

use crate::Outcome;
use crate::case::Case;
use crate::scene::{Scene, THREE};
use crate::steering::Steering;

const FLOWS: [(Protocol, usize); 3] = [
    (Protocol::Udp, 200),
    (Protocol::Tcp, 200),
    (Protocol::Icmp, 60),
];

/// The second one is judged by its probes alone, so that its silence lasts for as long as it takes to
/// look at it.
const PATIENT: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2, probe: {passive: off}}
  three: {interface: wan3}
downlinks: [lan0]
";

pub(crate) async fn moves_only_its_own_flows(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), PATIENT).await?;
    let mut flows = scene.converse(family, &FLOWS).await?;
    for uplink in 1..=3 {
        assert!(flows.on(uplink) > 80, "{} on wan{uplink}", flows.on(uplink));
    }
    flows.expect_unmoved(&[1, 2, 3]).await?;
    if scene.steering() == Steering::FastPath {
        flows.until_fast(scene, &[1, 2, 3]).await?;
    }

    scene.uplink(2)?.black_hole().await?;
    flows.expect_unmoved(&[1, 3]).await?;
    // Unless it is found out before all were asked.
    if let Some(answered) = flows.first_answered(&[2]).await? {
        assert!(scene.is(2, family, State::Down).await?, "{answered}");
    }
    flows.expect_unmoved(&[1, 3]).await?;

    scene.until_state(2, family, State::Down).await?;
    let detected = Instant::now();
    flows.expect_unmoved(&[1, 3]).await?;
    flows.expect_moved(2, &[1, 3]).await?;
    only_survivors(scene, family, detected).await?;
    flows.expect_unmoved(&[1, 3]).await?;

    scene.uplink(2)?.heal().await?;
    scene.until_state(2, family, State::Up).await?;
    flows.expect_unmoved(&[1, 3]).await?;
    let tally = scene.new_flows(Protocol::Udp, family, 300).await?;
    assert!((55..=145).contains(&tally.on(2)), "{tally}");
    flows.expect_unmoved(&[1, 3]).await?;

    // Another dies: those that found a new place on uplink 1 are not reminded of their first one.
    scene.uplink(3)?.black_hole().await?;
    scene.until_state(3, family, State::Down).await?;
    flows.expect_unmoved(&[1]).await?;
    flows.expect_moved(3, &[1, 2]).await?;
    flows.expect_unmoved(&[1, 2]).await?;
    scene.expect_no_strays_since(None)
}

/// New flows of all protocols are answered, and the provider of uplink 2 sees nothing of them.
pub(crate) async fn only_survivors(scene: &Scene, family: Family, since: Instant) -> Outcome {
    for protocol in Protocol::ALL {
        let tally = scene.new_flows(protocol, family, 100).await?;
        assert_eq!(tally.on(2), 0, "{protocol}: {tally}");
    }
    let of_family: Vec<_> = scene
        .begun_at(2, since)?
        .into_iter()
        .filter(|flow| Family::of(flow.key.source.ip()) == family)
        .collect();
    assert!(of_family.is_empty(), "wan2's provider saw {of_family:#?}");
    Ok(())
}

/// Strict filters would swallow what answers the probes of an uplink that is not the best route,
/// and the flows on it.
pub(crate) async fn strict_filters(case: &Case) -> Outcome {
    let lab = Lab::builder().uplinks(3).rp_filter(RpFilter::Strict);
    let scene = case.open(lab, THREE).await?;
    let mut flows = scene.converse(Family::Ipv4, &FLOWS).await?;
    assert!(flows.on(2) > 80 && flows.on(3) > 80);
    scene.uplink(2)?.black_hole().await?;
    scene.until_state(2, Family::Ipv4, State::Down).await?;
    flows.expect_unmoved(&[1, 3]).await?;
    flows.expect_moved(2, &[1, 3]).await?;
    scene.uplink(2)?.heal().await?;
    scene.until_state(2, Family::Ipv4, State::Up).await?;
    flows.expect_unmoved(&[1, 3]).await
}
