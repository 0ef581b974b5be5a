//! A better uplink and one in reserve.

use std::time::Instant;

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, Protocol};

use crate::Outcome;
use crate::case::Case;
use crate::conversations::Conversations;
use crate::scene::Scene;

const FIBER_AND_LTE: &str = "
uplinks:
  fiber: {interface: wan1, priority: 1}
  lte: {interface: wan2, priority: 2}
downlinks: [lan0]
";

const FLOWS: [(Protocol, usize); 3] = [
    (Protocol::Udp, 40),
    (Protocol::Tcp, 40),
    (Protocol::Icmp, 20),
];

pub(crate) async fn reserve(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder(), FIBER_AND_LTE).await?;
    let began = Instant::now();
    let mut on_fiber = all_on(scene, family, 1).await?;
    assert_eq!(scene.begun_at(2, began)?, []);

    scene.uplink(1)?.black_hole().await?;
    scene.until_state(1, family, State::Down).await?;
    on_fiber.expect_moved(1, &[2]).await?;
    let on_lte = all_on(scene, family, 2).await?;

    scene.uplink(1)?.heal().await?;
    scene.until_state(1, family, State::Up).await?;
    let returned = Instant::now();
    let on_fiber_again = all_on(scene, family, 1).await?;
    for flows in [&on_fiber, &on_lte] {
        flows.expect_unmoved(&[2]).await?;
    }
    on_fiber_again.expect_unmoved(&[1]).await?;
    assert_eq!(scene.begun_at(2, returned)?, []);
    scene.expect_no_strays_since(None)
}

/// When the one in reserve dies, nobody is hurt.
pub(crate) async fn reserve_dies(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder(), FIBER_AND_LTE).await?;
    let flows = all_on(scene, family, 1).await?;
    scene.uplink(2)?.black_hole().await?;
    scene.until_state(2, family, State::Down).await?;
    flows.expect_unmoved(&[1]).await?;
    scene.uplink(2)?.heal().await?;
    scene.until_state(2, family, State::Up).await?;
    flows.expect_unmoved(&[1]).await?;
    all_on(scene, family, 1).await?;
    Ok(())
}

/// New flows, all of which are on one uplink.
pub(crate) async fn all_on(
    scene: &Scene,
    family: Family,
    uplink: u8,
) -> Result<Conversations, Box<dyn std::error::Error>> {
    let flows = scene.converse(family, &FLOWS).await?;
    assert_eq!(flows.on(uplink), 100, "new flows on wan{uplink}");
    Ok(flows)
}
