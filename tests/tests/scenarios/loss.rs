//! Packets that are lost now and then, and flows that are to be kept whatever happens.

use std::cell::Cell;
use std::time::Instant;

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, Percent, Protocol, patient};

use crate::Outcome;
use crate::case::Case;
use crate::scene::{LIMIT, of};

/// A round is bad when all four targets of a family fail: with 20 % of the packets of each direction
/// lost one round of 60, and three in a row one time in 200,000.
const FOUR_TARGETS: &str = r#"
uplinks:
  one: {interface: wan1}
  two:
    interface: wan2
    probe: {targets: ["icmp://203.0.113.1", "icmp://203.0.113.2", "icmp://203.0.113.3", "icmp://203.0.113.4",
                      "icmp://fd00:203::1", "icmp://fd00:203::2", "icmp://fd00:203::3", "icmp://fd00:203::4"]}
downlinks: [lan0]
"#;

/// How many rounds of probes are waited for, of eight packets each.
const ROUNDS: u64 = 20;

pub(crate) async fn some(case: &Case) -> Outcome {
    let scene = case.open(Lab::builder(), FOUR_TARGETS).await?;
    let mut flows = Vec::new();
    for family in Family::ALL {
        flows.push(
            scene
                .converse(family, &[(Protocol::Udp, 40), (Protocol::Tcp, 40)])
                .await?,
        );
    }
    let since = scene.daemon()?.status().await?;
    let since = since
        .uplink("two")
        .ok_or("not in the status")?
        .since
        .clone();
    let part = Percent::new(20).ok_or("20 is a percentage")?;
    let uplink = scene.uplink(2)?;
    uplink.loss(part).await?;
    let before = uplink.capture()?.probe_packets()?;
    let lossy = Cell::new(false);
    let start = Instant::now();
    while uplink.capture()?.probe_packets()? < before + ROUNDS * 8 {
        assert!(
            start.elapsed() < patient(LIMIT),
            "{ROUNDS} rounds took too long"
        );
        scene
            .until("wan2 stays up", |status| {
                let families = Family::ALL.map(|family| of(status, 2, family));
                lossy.set(lossy.get() || families.iter().flatten().any(|f| f.loss > Some(0.0)));
                assert!(
                    families
                        .iter()
                        .flatten()
                        .all(|found| found.state == State::Up),
                    "{status}"
                );
                true
            })
            .await?;
    }
    assert!(lossy.get(), "the status told nothing of the loss");
    uplink.heal().await?;
    for flows in &flows {
        flows.expect_unmoved(&[1, 2]).await?;
    }
    let status = scene.daemon()?.status().await?;
    let uplink = status.uplink("two").ok_or("not in the status")?;
    assert_eq!(uplink.since, since, "{status}");
    Ok(())
}

const KEEP: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2, flows: {on_down: keep}}
  three: {interface: wan3}
downlinks: [lan0]
";

/// Flows of an uplink that is to keep them wait for it.
pub(crate) async fn keep(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), KEEP).await?;
    let mut flows = scene
        .converse(
            family,
            &[
                (Protocol::Udp, 60),
                (Protocol::Tcp, 60),
                (Protocol::Icmp, 30),
            ],
        )
        .await?;
    let before = scene.tracked(family).await?;
    scene.uplink(2)?.black_hole().await?;
    scene.until_state(2, family, State::Down).await?;
    let detected = Instant::now();
    flows.expect_unmoved(&[1, 3]).await?;
    flows.expect_silence(&[2]).await?;
    crate::silence::only_survivors(scene, family, detected).await?;
    let after = scene.tracked(family).await?;
    for (flow, mark) in &before {
        assert_eq!(after.get(flow), Some(mark), "{flow}");
    }
    // The other uplinks' flows are still forgotten.
    scene.uplink(1)?.black_hole().await?;
    scene.until_state(1, family, State::Down).await?;
    flows.expect_moved(1, &[3]).await?;

    scene.uplink(2)?.heal().await?;
    scene.until_state(2, family, State::Up).await?;
    flows.expect_unmoved(&[2, 3]).await?;
    scene.expect_no_strays_since(None)
}
