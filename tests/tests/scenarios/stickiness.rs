//! Flows stay where they are, whatever happens to the daemon and to what it put into the kernel.

use std::time::Instant;

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, LabError, Protocol};

use crate::Outcome;
use crate::case::Case;
use crate::conversations::Conversations;
use crate::scene::{Scene, THREE};

const FLOWS: [(Protocol, usize); 3] = [
    (Protocol::Udp, 60),
    (Protocol::Tcp, 60),
    (Protocol::Icmp, 30),
];

/// The same uplinks in another order, and with other weights.
const REORDERED: &str = "
uplinks:
  three: {interface: wan3, weight: 7}
  two: {interface: wan2}
  one: {interface: wan1}
downlinks: [lan0]
";

/// One uplink is left out, and one has come that is the first by name and place.
const REPLACED: &str = "
uplinks:
  another: {interface: wan4}
  three: {interface: wan3}
  one: {interface: wan1}
downlinks: [lan0]
";

pub(crate) async fn killed_daemon(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let flows = scene.converse(family, &FLOWS).await?;
    scene.kill_daemon().await?;
    flows.expect_unmoved(&[1, 2, 3]).await?;
    let orphans = scene.converse(family, &FLOWS).await?;
    for uplink in 1..=3 {
        assert!(orphans.on(uplink) > 25, "new flows are spread all the same");
    }
    scene.run_daemon(THREE).await?;
    flows.expect_unmoved(&[1, 2, 3]).await?;
    scene.until_all_up().await?;
    flows.expect_unmoved(&[1, 2, 3]).await?;
    orphans.expect_unmoved(&[1, 2, 3]).await?;
    scene.expect_no_strays_since(None)
}

/// The daemon is killed while an uplink is dead, and started when it is still dead.
pub(crate) async fn killed_amid_a_failure(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let mut flows = scene.converse(family, &FLOWS).await?;
    scene.uplink(2)?.black_hole().await?;
    scene.until_state(2, family, State::Down).await?;
    flows.expect_moved(2, &[1, 3]).await?;
    scene.kill_daemon().await?;
    flows.expect_unmoved(&[1, 3]).await?;
    scene.run_daemon(THREE).await?;
    // Its last state counts until there is a new verdict: nothing is sent into the hole.
    let started = Instant::now();
    crate::silence::only_survivors(scene, family, started).await?;
    flows.expect_unmoved(&[1, 3]).await?;
    scene.uplink(2)?.heal().await?;
    scene.until_state(2, family, State::Up).await?;
    flows.expect_unmoved(&[1, 3]).await
}

pub(crate) async fn other_configurations(case: &Case) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(4), THREE).await?;
    let (v4, v6) = (
        scene.converse(Family::Ipv4, &FLOWS).await?,
        scene.converse(Family::Ipv6, &FLOWS).await?,
    );
    let ids = ids(scene).await?;
    scene.kill_daemon().await?;
    scene.run_daemon(REORDERED).await?;
    scene.until_all_up().await?;
    assert_eq!(self::ids(scene).await?, ids);
    v4.expect_unmoved(&[1, 2, 3]).await?;
    v6.expect_unmoved(&[1, 2, 3]).await?;

    scene.kill_daemon().await?;
    scene.run_daemon(REPLACED).await?;
    scene.until_all_up().await?;
    for known in self::ids(scene).await? {
        if known.0 == "another" {
            assert!(ids.iter().all(|(_, id)| *id != known.1), "{known:?}");
        } else {
            assert!(ids.contains(&known), "{known:?}");
        }
    }
    v4.expect_unmoved(&[1, 3]).await?;
    v6.expect_unmoved(&[1, 3]).await
}

async fn ids(scene: &Scene) -> Result<Vec<(String, u8)>, Box<dyn std::error::Error>> {
    let status = scene.daemon()?.status().await?;
    let mut ids: Vec<(String, u8)> = status
        .uplinks
        .into_iter()
        .map(|uplink| (uplink.name, uplink.id))
        .collect();
    ids.sort();
    Ok(ids)
}

/// Somebody flushes all of nftables.
pub(crate) async fn flushed_ruleset(case: &Case) -> Outcome {
    broken(case, &["nft flush ruleset"]).await
}

/// Somebody deletes all rules and sets them as they are at boot.
pub(crate) async fn flushed_rules(case: &Case) -> Outcome {
    broken(
        case,
        &[
            "ip rule flush",
            "ip rule add lookup main pref 32766",
            "ip rule add lookup default pref 32767",
            "ip -6 rule flush",
            "ip -6 rule add lookup main pref 32766",
        ],
    )
    .await
}

/// Somebody flushes the tables of the uplinks.
pub(crate) async fn flushed_tables(case: &Case) -> Outcome {
    broken(
        case,
        &[
            "ip route flush table 300",
            "ip route flush table 301",
            "ip route flush table 302",
            "ip route flush table 303",
            "ip -6 route flush table 300",
            "ip -6 route flush table 302",
        ],
    )
    .await
}

/// Somebody breaks what the daemon put into the kernel: it is repaired, and flows go on.
async fn broken(case: &Case, commands: &[&str]) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let mut all: Vec<Conversations> = Vec::new();
    for family in Family::ALL {
        all.push(scene.converse(family, &FLOWS).await?);
    }
    let before = kernel(scene).await?;
    for command in commands {
        scene.in_gateway(command).await?;
    }
    scene
        .eventually("the kernel's state is as before", || async {
            Ok(kernel(scene).await? == before)
        })
        .await?;
    let repaired = Instant::now();
    for flows in &all {
        flows.expect_unmoved(&[1, 2, 3]).await?;
    }
    for family in Family::ALL {
        for protocol in Protocol::ALL {
            let tally = scene.new_flows(protocol, family, 150).await?;
            for uplink in 1..=3 {
                assert!(tally.on(uplink) > 15, "{protocol} {family}: {tally}");
            }
        }
    }
    scene.expect_no_strays_since(Some(repaired))
}

/// Rules, routes and nftables of the gateway.
async fn kernel(scene: &Scene) -> Result<String, LabError> {
    let mut text = String::new();
    for question in [
        "ip rule",
        "ip -6 rule",
        "ip route show table all",
        "ip -6 route show table all",
        "nft --stateless list ruleset",
    ] {
        text.push_str(&scene.in_gateway(question).await?);
    }
    Ok(text)
}
