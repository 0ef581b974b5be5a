//! What the kernel says of an uplink's interface counts at once.

use std::time::Instant;

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, Protocol};

use crate::Outcome;
use crate::case::Case;
use crate::scene::{Scene, THREE, of};
use crate::silence::only_survivors;

/// Probes that would need longer than any scenario to find something out, and one round of which is
/// enough to prove that an uplink is back.
const SLOW: &str = "
uplinks:
  one: {interface: wan1, probe: {interval: 3s, down_after: 30, up_after: 1}}
  two: {interface: wan2, probe: {interval: 3s, down_after: 30, up_after: 1}}
  three: {interface: wan3, probe: {interval: 3s, down_after: 30, up_after: 1}}
downlinks: [lan0]
";

const FLOWS: [(Protocol, usize); 3] = [
    (Protocol::Udp, 60),
    (Protocol::Tcp, 60),
    (Protocol::Icmp, 30),
];

pub(crate) async fn carrier(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), SLOW).await?;
    let mut flows = scene.converse(family, &FLOWS).await?;

    scene.uplink(2)?.carrier_loss().await?;
    down_because(scene, family, "no carrier").await?;
    let known = Instant::now();
    flows.expect_unmoved(&[1, 3]).await?;
    flows.expect_moved(2, &[1, 3]).await?;
    only_survivors(scene, family, known).await?;

    scene.uplink(2)?.heal().await?;
    scene.until_state(2, family, State::Up).await?;
    flows.expect_unmoved(&[1, 3]).await?;
    used_again(scene, family).await?;
    scene.expect_no_strays_since(None)
}

pub(crate) async fn interface(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), SLOW).await?;
    let mut flows = scene.converse(family, &FLOWS).await?;
    let gateway = scene.lab.gateway().node();
    let index = gateway.interface_index("wan2").await?;

    scene.uplink(2)?.remove_interface().await?;
    down_because(scene, family, "does not exist").await?;
    let known = Instant::now();
    flows.expect_unmoved(&[1, 3]).await?;
    flows.expect_moved(2, &[1, 3]).await?;
    only_survivors(scene, family, known).await?;

    scene.uplink(2)?.remake_interface().await?;
    assert_ne!(gateway.interface_index("wan2").await?, index);
    scene.until_state(2, family, State::Up).await?;
    flows.expect_unmoved(&[1, 3]).await?;
    used_again(scene, family).await?;
    scene.expect_no_strays_since(None)
}

/// A user who sets the interface down, and up again. The addresses of IPv6 and the routes are gone
/// until a DHCP client puts them back.
pub(crate) async fn set_down(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), SLOW).await?;
    let mut flows = scene.converse(family, &FLOWS).await?;
    let gateway = scene.lab.gateway().node();

    gateway.set_down("wan2").await?;
    down_because(scene, family, "is set down").await?;
    flows.expect_unmoved(&[1, 3]).await?;
    flows.expect_moved(2, &[1, 3]).await?;

    gateway.set_up("wan2").await?;
    // Puts addresses and routes back, too.
    scene.uplink(2)?.heal().await?;
    scene.until_state(2, family, State::Up).await?;
    flows.expect_unmoved(&[1, 3]).await?;
    used_again(scene, family).await
}

/// Flows that are translated to the old address go on from the new one, by the same uplink.
pub(crate) async fn address(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let mut flows = scene.converse(family, &FLOWS).await?;

    scene.uplink(2)?.change_address().await?;
    let new = scene.uplink(2)?.gateway_address(family);
    let new = new.ok_or("wan2 has no address")?.to_string();
    scene
        .until(&format!("wan2 is up as {new}"), |status| {
            of(status, 2, family).is_some_and(|found| {
                found.state == State::Up && found.source.as_ref() == Some(&new)
            })
        })
        .await?;
    flows.expect_unmoved(&[1, 3]).await?;
    flows.expect_moved(2, &[2]).await?;
    flows.expect_unmoved(&[1, 2, 3]).await?;
    used_again(scene, family).await?;
    scene.expect_no_strays_since(None)
}

async fn down_because(scene: &Scene, family: Family, reason: &str) -> Outcome {
    let what = format!("wan2 is down in {family} because of {reason:?}");
    scene
        .until(&what, |status| {
            of(status, 2, family)
                .is_some_and(|found| found.state == State::Down && found.reason.contains(reason))
        })
        .await?;
    Ok(())
}

async fn used_again(scene: &Scene, family: Family) -> Outcome {
    let tally = scene.new_flows(Protocol::Udp, family, 300).await?;
    for uplink in 1..=3 {
        assert!((55..=145).contains(&tally.on(uplink)), "{tally}");
    }
    Ok(())
}
