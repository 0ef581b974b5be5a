//! All uplinks are down.

use std::time::{Duration, Instant};

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, Protocol, Traffic, Uplink};
use futures_util::future::try_join_all;

use crate::Outcome;
use crate::case::Case;
use crate::conversations::Conversations;
use crate::scene::{BRIEF, LIMIT, Scene, THREE, TWO};

/// One new flow after the other.
const EVERY: Duration = Duration::from_millis(20);

const FLOWS: [(Protocol, usize); 2] = [(Protocol::Udp, 60), (Protocol::Tcp, 60)];

/// All die at once. Nothing is forgotten, so when all return at once, everything goes on.
pub(crate) async fn nothing_is_forgotten(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let flows = scene.converse(family, &FLOWS).await?;
    all_die(scene, family, &flows).await?;
    for uplink in scene.lab.uplinks() {
        uplink.heal().await?;
    }
    flows.expect_unmoved(&[1, 2, 3]).await?;
    for uplink in 1..=3 {
        scene.until_state(uplink, family, State::Up).await?;
    }
    flows.expect_unmoved(&[1, 2, 3]).await?;
    scene.expect_no_strays_since(None)
}

/// One returns: its own flows go on, and those of the others move to it.
pub(crate) async fn the_first_that_returns(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let mut flows = scene.converse(family, &FLOWS).await?;
    all_die(scene, family, &flows).await?;

    scene.uplink(2)?.heal().await?;
    flows.expect_unmoved(&[2]).await?;
    // Every uplink is tried, so some of the new flows get through before the daemon knows more.
    let traffic = Traffic::new(Protocol::Udp, family, 1);
    let client = scene.client()?;
    client
        .first_answer(traffic, EVERY, LIMIT, |answer| answer.uplink() == Some(2))
        .await?;
    scene.until_state(2, family, State::Up).await?;
    flows.expect_unmoved(&[2]).await?;
    flows.expect_moved(1, &[2]).await?;
    flows.expect_moved(3, &[2]).await?;
    let tally = scene.new_flows(Protocol::Tcp, family, 60).await?;
    assert_eq!(tally.on(2), 60, "{tally}");

    for number in [1, 3] {
        scene.uplink(number)?.heal().await?;
        scene.until_state(number, family, State::Up).await?;
    }
    flows.expect_unmoved(&[2]).await?;
    scene.expect_no_strays_since(None)
}

/// All uplinks die at once: nothing that is tracked is forgotten or gets another mark, and new flows
/// are tried by every uplink.
async fn all_die(scene: &Scene, family: Family, flows: &Conversations) -> Outcome {
    let before = scene.tracked(family).await?;
    assert_eq!(before.len(), 120);
    // One after the other they would not die at once on a machine that has much to do.
    try_join_all(scene.lab.uplinks().iter().map(Uplink::black_hole)).await?;
    for uplink in 1..=3 {
        let on = flows.on(uplink);
        assert!(on > 10, "{on} of 120 flows by wan{uplink}");
        scene.until_state(uplink, family, State::Down).await?;
    }
    let down = Instant::now();
    let after = scene.tracked(family).await?;
    let lost = before.len()
        - before
            .iter()
            .filter(|(k, v)| after.get(*k) == Some(v))
            .count();
    assert_eq!(lost, 0, "of {} tracked flows", before.len());
    let traffic = Traffic::new(Protocol::Udp, family, 90).within(BRIEF);
    scene.client()?.burst(traffic).await?;
    for uplink in 1..=3 {
        let tried = scene.begun_at(uplink, down)?.len();
        assert!((10..=50).contains(&tried), "{tried} of 90 by wan{uplink}");
    }
    Ok(())
}

/// They die one after the other, so that flows move while there is somewhere to go; then nothing is
/// forgotten any more.
pub(crate) async fn one_after_the_other(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(2), TWO).await?;
    let mut flows = scene.converse(family, &FLOWS).await?;
    scene.uplink(2)?.black_hole().await?;
    scene.until_state(2, family, State::Down).await?;
    flows.expect_moved(2, &[1]).await?;
    let before = scene.tracked(family).await?;

    scene.uplink(1)?.black_hole().await?;
    scene.until_state(1, family, State::Down).await?;
    let after = scene.tracked(family).await?;
    for (flow, mark) in &before {
        // Connections of the uplink that died first end by and by.
        if flow.starts_with("udp") {
            assert_eq!(after.get(flow), Some(mark), "{flow}");
        }
    }
    scene.uplink(2)?.heal().await?;
    scene.until_state(2, family, State::Up).await?;
    flows.expect_moved(1, &[2]).await?;
    scene.uplink(1)?.heal().await?;
    scene.until_state(1, family, State::Up).await?;
    flows.expect_unmoved(&[2]).await
}
