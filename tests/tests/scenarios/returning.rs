//! A better uplink returns: what becomes of the flows of the one that stood in for it.

use std::time::{Duration, Instant};

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::traffic::Keep;
use failover_tests::{Lab, Protocol, Tally, Traffic};

use crate::Outcome;
use crate::case::Case;
use crate::priorities::all_on;
use crate::residents::Residents;
use crate::scene::{PATIENT, Scene};

const FIBER: u8 = 1;
const LTE: u8 = 2;
const SATELLITE: u8 = 3;

fn draining_for(time: &str) -> String {
    format!(
        "
uplinks:
  fiber: {{interface: wan1, probe: {{up_after: 2}}}}
  lte: {{interface: wan2, priority: 2}}
downlinks: [lan0]
flows: {{on_up: {{drain: {time}}}}}
"
    )
}

/// What is said for all is not what is said for one, nor what holds for a metered one.
const EACH_ITS_OWN: &str = "
uplinks:
  fiber: {interface: wan1, probe: {up_after: 2}}
  lte: {interface: wan2, priority: 2, probe: {up_after: 2}, flows: {on_up: move}}
  satellite: {interface: wan3, priority: 3, metered: true}
downlinks: [lan0]
flows: {on_up: stay}
";

/// Open flows may finish; draining is called off when the better uplink fails again, goes on over a
/// restart, and ends in time.
pub(crate) async fn drains(case: &Case, family: Family) -> Outcome {
    let hours = draining_for("1h");
    let scene = case.open(Lab::builder(), &hours).await?;
    // A tunnel of the router, say, whose socket keeps the address of the better uplink.
    let fiber = scene.uplink(FIBER)?.gateway_address(family);
    let tunnel = Traffic::new(Protocol::Udp, family, 10).from_address(fiber.ok_or("no address")?);
    let tunnel = scene.lab.gateway().open(tunnel).await?;
    let tunnel_is_on = async |uplink| -> Outcome {
        let tally = Tally::of(&tunnel.ask(PATIENT).await?);
        assert_eq!(tally.on(uplink), 10, "the router's tunnel: {tally}");
        Ok(())
    };
    tunnel_is_on(FIBER).await?;

    fails(scene, FIBER).await?;
    let mut on_lte = all_on(scene, family, LTE).await?;
    let mut residents = Residents::settle(scene, family, LTE).await?;
    tunnel_is_on(LTE).await?;
    until_draining(scene, "lte", false).await?;

    returns(scene, FIBER).await?;
    until_draining(scene, "lte", true).await?;
    let on_fiber = all_on(scene, family, FIBER).await?;
    on_lte.expect_unmoved(&[LTE]).await?;

    fails(scene, FIBER).await?;
    until_draining(scene, "lte", false).await?;
    on_lte.expect_unmoved(&[LTE]).await?;
    drop(on_fiber);

    let before = Instant::now();
    returns(scene, FIBER).await?;
    until_draining(scene, "lte", true).await?;
    scene.kill_daemon().await?;
    scene.run_daemon(&hours).await?;
    until_draining(scene, "lte", true).await?;
    on_lte.expect_unmoved(&[LTE]).await?;
    tunnel_is_on(LTE).await?;
    residents.expect_unmoved().await?;

    // The time began to run before the restart.
    let soon = before.elapsed() + Duration::from_secs(3);
    scene.kill_daemon().await?;
    scene
        .run_daemon(&draining_for(&format!("{}s", soon.as_secs())))
        .await?;
    until_draining(scene, "lte", false).await?;
    assert!(scene.daemon()?.log().contains("drained"));
    on_lte.expect_moved(LTE, &[FIBER]).await?;
    tunnel_is_on(FIBER).await?;
    residents.expect_unmoved().await?;
    residents.expect_listed(scene).await?;
    scene.expect_no_strays_since(None)
}

/// Open flows of one uplink move at once, and those of another, which is metered, may finish.
pub(crate) async fn each_its_own(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), EACH_ITS_OWN).await?;
    fails(scene, FIBER).await?;
    fails(scene, LTE).await?;
    let on_satellite = all_on(scene, family, SATELLITE).await?;

    returns(scene, LTE).await?;
    until_draining(scene, "satellite", true).await?;
    on_satellite.expect_unmoved(&[SATELLITE]).await?;
    let mut on_lte = all_on(scene, family, LTE).await?;
    let mut residents = Residents::settle(scene, family, LTE).await?;
    // While these go on their packets and answers are on their way at any moment.
    let busy = Keep {
        each: 10,
        every: Duration::from_millis(10),
    };
    let busy = scene.client()?.keep(busy, &[LTE]).await?;

    returns(scene, FIBER).await?;
    on_lte.expect_moved(LTE, &[FIBER]).await?;
    residents.expect_unmoved().await?;
    residents.expect_listed(scene).await?;
    on_satellite.expect_unmoved(&[SATELLITE]).await?;
    until_draining(scene, "satellite", true).await?;
    scene
        .eventually("busy flows go by the better uplink", || async {
            let mut flows = busy.so_far().into_iter();
            Ok(flows.all(|flow| flow.protocol == Protocol::Tcp || flow.uplink() == Some(FIBER)))
        })
        .await?;
    let busy = busy.finish().await;
    let came_back: Vec<_> = busy
        .iter()
        .filter(|flow| {
            flow.protocol != Protocol::Tcp && (flow.moves, flow.uplink()) != (1, Some(FIBER))
        })
        .collect();
    assert!(came_back.is_empty(), "{came_back:#?}");
    scene.expect_no_strays_since(None)
}

/// Two uplinks of the same priority, which a rule puts in an order.
const IN_ORDER: &str = "
uplinks:
  fiber: {interface: wan1, probe: {up_after: 2}}
  lte: {interface: wan2}
downlinks: [lan0]
flows: {on_up: move}
rules:
  - {name: calls, match: {protocol: udp}, via: [fiber, lte]}
";

/// Flows of a rule go back to the uplink that it names first, and only these.
pub(crate) async fn in_the_order_of_a_rule(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder(), IN_ORDER).await?;
    fails(scene, FIBER).await?;
    let mut calls = scene.converse(family, &[(Protocol::Udp, 30)]).await?;
    let others = [(Protocol::Tcp, 30), (Protocol::Icmp, 20)];
    let others = scene.converse(family, &others).await?;
    assert_eq!((calls.on(LTE), others.on(LTE)), (30, 50));
    let mut residents = Residents::settle(scene, family, LTE).await?;

    returns(scene, FIBER).await?;
    calls.expect_moved(LTE, &[FIBER]).await?;
    others.expect_unmoved(&[LTE]).await?;
    residents.expect_unmoved().await?;
    let log = scene.daemon()?.log();
    assert!(log.contains("[fiber, lte]"), "it is told of which rules");
    scene.expect_no_strays_since(None)
}

async fn fails(scene: &Scene, uplink: u8) -> Outcome {
    scene.uplink(uplink)?.carrier_loss().await?;
    until_state(scene, uplink, State::Down).await
}

async fn returns(scene: &Scene, uplink: u8) -> Outcome {
    scene.uplink(uplink)?.heal().await?;
    until_state(scene, uplink, State::Up).await
}

async fn until_state(scene: &Scene, uplink: u8, state: State) -> Outcome {
    for family in Family::ALL {
        scene.until_state(uplink, family, state).await?;
    }
    Ok(())
}

async fn until_draining(scene: &Scene, name: &str, draining: bool) -> Outcome {
    let what = format!("{name} draining: {draining}");
    scene
        .until(&what, |status| {
            status
                .uplink(name)
                .is_some_and(|uplink| uplink.draining == draining)
        })
        .await?;
    Ok(())
}
