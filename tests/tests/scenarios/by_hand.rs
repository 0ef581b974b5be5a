//! What operators do by hand: uplinks that work are disabled, drained and enabled again.

use std::time::{Duration, Instant};

use failover::family::Family;
use failover_tests::daemon::{ByHand, State, Status};
use failover_tests::traffic::Keep;
use failover_tests::{Lab, Protocol, Tally, Traffic, addressing};

use crate::Outcome;
use crate::case::Case;
use crate::resets;
use crate::scene::{BRIEF, PATIENT, Scene, THREE, TWO};
use crate::service::{self, Visitor};

const FLOWS: [(Protocol, usize); 3] = [
    (Protocol::Udp, 45),
    (Protocol::Tcp, 45),
    (Protocol::Icmp, 45),
];
const PORT: u16 = 8081;
const BUSY: Keep = Keep {
    each: 20,
    every: Duration::from_millis(10),
};

/// A disabled uplink is left by its own flows, and by no others; it is not used again before it is
/// enabled, whatever becomes of the daemon and of the others.
pub(crate) async fn disabled(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let mut flows = scene.converse(family, &FLOWS).await?;
    assert!(flows.on(2) > 20);
    // A tunnel of the router, say, whose socket keeps the address of the uplink.
    let address = scene.uplink(2)?.gateway_address(family);
    let tunnel = Traffic::new(Protocol::Udp, family, 10).from_address(address.ok_or("none")?);
    let tunnel = scene.lab.gateway().open(tunnel).await?;
    assert_eq!(Tally::of(&tunnel.ask(PATIENT).await?).on(2), 10);

    order(scene, "disable two", "two is disabled\n").await?;
    scene.until_state(2, family, State::Disabled).await?;
    flows.expect_moved(2, &[1, 3]).await?;
    flows.expect_unmoved(&[1, 3]).await?;
    let tally = Tally::of(&tunnel.ask(PATIENT).await?);
    assert_eq!((tally.on(1) + tally.on(3), tally.on(2)), (10, 0), "{tally}");
    none_new(scene, family, 2).await?;
    let said = by_hand(&scene.daemon()?.status().await?, "two")?;
    assert_eq!((said.what.as_str(), said.until.as_ref()), ("disable", None));

    scene.kill_daemon().await?;
    scene.run_daemon(THREE).await?;
    let status = scene.daemon()?.status().await?;
    assert_eq!(by_hand(&status, "two")?, said);
    assert!(status.is("two", State::Disabled), "{status}");
    scene
        .until("it is asked all the same", |status| {
            let two = status.uplink("two");
            two.is_some_and(|two| two.reason.ends_with("; 2 of 2 targets answer"))
        })
        .await?;
    flows.expect_unmoved(&[1, 3]).await?;
    none_new(scene, family, 2).await?;

    for uplink in [1, 3] {
        scene.uplink(uplink)?.black_hole().await?;
    }
    for uplink in [1, 3] {
        scene.until_state(uplink, family, State::Down).await?;
    }
    let tried = Traffic::new(Protocol::Udp, family, 60).within(BRIEF);
    let since = Instant::now();
    scene.client()?.burst(tried).await?;
    assert_eq!(scene.begun_at(2, since)?, [], "it is no last resort");
    assert!(!scene.begun_at(1, since)?.is_empty());
    for uplink in [1, 3] {
        scene.uplink(uplink)?.heal().await?;
        scene.until_state(uplink, family, State::Up).await?;
    }
    // Connections may have been given up meanwhile by whoever missed answers; the others stay.
    let others = scene.converse(family, &[(Protocol::Udp, 45)]).await?;
    assert_eq!(others.on(2), 0);

    order(scene, "enable two", "two takes part again: it is up\n").await?;
    scene.until_state(2, family, State::Up).await?;
    let tally = scene.new_flows(Protocol::Udp, family, 90).await?;
    assert!(tally.on(2) > 15, "{tally}");
    others.expect_unmoved(&[1, 3]).await?;
    told(scene, &["disabled", "enabled"]).await?;
    scene.expect_no_strays_since(None)
}

/// An uplink that drains keeps what it has and gets nothing new, unless there is no other; when its
/// time is over it is disabled.
pub(crate) async fn draining(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder(), TWO).await?;
    service::start(scene.lab.gateway().node(), PORT).await?;
    let mut visitor = visit(scene, family, 1).await?;
    let mut flows = scene.converse(family, &FLOWS).await?;
    // While these go on their packets and answers are on their way at any moment.
    let busy = scene
        .client()?
        .keep_of(&[family], &Protocol::ALL, BUSY, &[])
        .await?;
    order(scene, "drain one", "one is draining\n").await?;
    let status = scene.daemon()?.status().await?;
    assert!(status.is("one", State::Up), "{status}");
    assert!(status.uplink("one").is_some_and(|one| one.draining));
    none_new(scene, family, 1).await?;
    flows.expect_unmoved(&[1, 2]).await?;
    visitor.ask().await?;
    visit(scene, family, 1).await?.ask().await?;

    scene.kill_daemon().await?;
    scene.run_daemon(TWO).await?;
    let status = scene.daemon()?.status().await?;
    assert_eq!(by_hand(&status, "one")?.what, "drain");
    none_new(scene, family, 1).await?;
    flows.expect_unmoved(&[1, 2]).await?;
    visitor.ask().await?;

    scene.until_all_up().await?;
    let mut here = 0;
    for flow in busy.finish().await {
        assert_eq!((flow.lost, flow.moves), (0, 0), "{flow:?}");
        here += usize::from(flow.home_uplink() == Some(1));
    }
    assert!(here > 10, "{here} flows were on the uplink that drains");
    scene.expect_no_strays_since(None)?;
    scene.uplink(2)?.black_hole().await?;
    scene.until_state(2, family, State::Down).await?;
    flows.expect_moved(2, &[1]).await?;
    let tally = scene.new_flows(Protocol::Tcp, family, 30).await?;
    assert_eq!(tally.on(1), 30, "there is no other: {tally}");
    scene.uplink(2)?.heal().await?;
    scene.until_state(2, family, State::Up).await?;
    // Before that the router answered what servers sent again for flows that were forgotten, by resets
    // from the dead uplink's address, which leave by the other one.
    let returned = Instant::now();
    none_new(scene, family, 1).await?;
    flows.expect_unmoved(&[1]).await?;

    let failover = scene.daemon()?.failover().clone();
    let said = failover.command("drain one --for 3s").await?;
    assert!(said.stdout.contains("one is draining until "), "{said:?}");
    let status = scene.daemon()?.status().await?;
    assert!(by_hand(&status, "one")?.until.is_some());
    // The time goes on while no daemon runs.
    scene.kill_daemon().await?;
    scene.run_daemon(TWO).await?;
    scene.until_state(1, family, State::Disabled).await?;
    flows.expect_moved(1, &[2]).await?;
    none_new(scene, family, 1).await?;
    told(scene, &["draining", "drained"]).await?;

    order(scene, "enable one", "one takes part again: it is up\n").await?;
    let tally = scene.new_flows(Protocol::Udp, family, 90).await?;
    assert!(tally.on(1) > 20, "{tally}");
    scene.expect_no_strays_since(Some(returned))
}

/// Clients that only listen try again at once, though their servers send on by the disabled uplink.
pub(crate) async fn downloads(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    resets::downloads_without(scene, family, async || {
        order(scene, "disable two", "two is disabled\n").await
    })
    .await
}

/// Where the uplink that is disabled was the last one, its flows stay until another is usable, and
/// new ones wait for that: they do not leave by it as the routes of `main` would have it.
pub(crate) async fn no_other_way(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder(), TWO).await?;
    scene.uplink(2)?.carrier_loss().await?;
    scene.until_state(2, family, State::Down).await?;
    let mut flows = scene.converse(family, &FLOWS).await?;
    assert_eq!(flows.on(1), 135);
    let warned = "one is disabled\nno other uplink is usable\n";
    order(scene, "disable one", warned).await?;
    flows.expect_unmoved(&[1]).await?;
    let since = Instant::now();
    let tried = Traffic::new(Protocol::Udp, family, 30).within(BRIEF);
    let tally = Tally::of(&scene.client()?.burst(tried).await?);
    assert_eq!(tally.answered(), 0, "{tally}");
    assert_eq!(scene.begun_at(1, since)?, []);
    flows.expect_unmoved(&[1]).await?;

    scene.uplink(2)?.heal().await?;
    scene.until_state(2, family, State::Up).await?;
    flows.expect_moved(1, &[2]).await?;
    let tally = scene.new_flows(Protocol::Tcp, family, 30).await?;
    assert_eq!(tally.on(2), 30, "{tally}");
    order(scene, "enable one", "one takes part again: it is up\n").await?;
    scene.expect_no_strays_since(None)
}

async fn order(scene: &Scene, line: &str, answer: &str) -> Outcome {
    let daemon = scene.daemon()?;
    let said = daemon.failover().command(line).await?;
    assert!(said.status.success(), "{said:?}");
    assert_eq!(said.stdout, answer);
    Ok(())
}

fn by_hand(status: &Status, name: &str) -> Result<ByHand, Box<dyn std::error::Error>> {
    let uplink = status.uplink(name).ok_or("not in the status")?;
    Ok(uplink.by_hand.clone().ok_or("nobody did anything")?)
}

/// New flows go elsewhere, and all are answered.
async fn none_new(scene: &Scene, family: Family, uplink: u8) -> Outcome {
    for protocol in Protocol::ALL {
        let tally = scene.new_flows(protocol, family, 40).await?;
        assert_eq!(tally.on(uplink), 0, "{protocol:?}: {tally}");
    }
    Ok(())
}

/// Somebody who asks the router from outside by an uplink's address.
async fn visit(
    scene: &Scene,
    family: Family,
    uplink: u8,
) -> Result<Visitor, Box<dyn std::error::Error>> {
    let address = scene.uplink(uplink)?.gateway_address(family);
    let at = std::net::SocketAddr::new(address.ok_or("no address")?, PORT);
    let from = addressing::servers(family).first().copied();
    let internet = scene.lab.internet().node();
    let mut visitor = Visitor::connect(internet, from, at).await?;
    visitor.ask().await?;
    Ok(visitor)
}

/// The journal has all of this.
async fn told(scene: &Scene, words: &[&str]) -> Outcome {
    let failover = scene.daemon()?.failover().clone();
    scene
        .eventually(&format!("{words:?} in the journal"), || async {
            let told = failover.command("events").await?.stdout;
            let has = |word: &str| told.contains(&format!(" {word} "));
            Ok(words.iter().all(|word| has(word)))
        })
        .await
}
