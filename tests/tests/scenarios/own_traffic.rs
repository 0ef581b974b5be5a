//! The gateway's own traffic.

use std::time::Instant;

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, Protocol, Tally, Traffic, eventually};

use crate::Outcome;
use crate::case::Case;
use crate::conversations::Conversations;
use crate::scene::{PATIENT, Scene, THREE, answered_flows};

/// Three uplinks and nobody behind.
pub(crate) const HOST: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2}
  three: {interface: wan3}
";

/// What goes by the second returns to the first at once.
const RETURNING: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2, priority: 2, flows: {on_up: move}}
downlinks: [lan0]
";

const FLOWS: [(Protocol, usize); 3] = [
    (Protocol::Udp, 60),
    (Protocol::Tcp, 60),
    (Protocol::Icmp, 30),
];

pub(crate) async fn of_a_host(case: &Case, family: Family) -> Outcome {
    let scene = case
        .open(Lab::builder().uplinks(3).host_only(), HOST)
        .await?;
    fails_over(scene, family).await
}

pub(crate) async fn of_a_router(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    fails_over(scene, family).await
}

/// Whichever uplink the kernel gave the flows first: it dies, and they go on.
pub(crate) async fn fails_over(scene: &Scene, family: Family) -> Outcome {
    let host = scene.lab.gateway();
    let flows = Conversations::open(host, family, &FLOWS).await?;
    let mut flows = flows.untold();
    let victim = (1..=3).max_by_key(|uplink| flows.on(*uplink)).unwrap_or(1);
    assert!(flows.on(victim) >= 50, "most flows are on wan{victim}");
    let survivors: Vec<u8> = (1..=3).filter(|uplink| *uplink != victim).collect();
    flows.expect_unmoved(&[1, 2, 3]).await?;

    scene.uplink(victim)?.black_hole().await?;
    flows.expect_unmoved(&survivors).await?;
    scene.until_state(victim, family, State::Down).await?;
    let detected = Instant::now();
    flows.expect_unmoved(&survivors).await?;
    flows.expect_moved(victim, &survivors).await?;
    for protocol in Protocol::ALL {
        let tally = answered_flows(host, Traffic::new(protocol, family, 60)).await?;
        assert_eq!(tally.on(victim), 0, "{protocol}: {tally}");
    }
    assert_eq!(scene.begun_at(victim, detected)?, []);

    scene.uplink(victim)?.heal().await?;
    scene.until_state(victim, family, State::Up).await?;
    flows.expect_unmoved(&survivors).await?;
    let tally = answered_flows(host, Traffic::new(Protocol::Udp, family, 60)).await?;
    assert!(tally.on(victim) > 0, "{tally}");
    scene.expect_no_strays_since(None)
}

/// The router's own flows that are bound to no address are spread, too.
pub(crate) async fn bound_to_an_address(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    for uplink in scene.lab.uplinks() {
        let address = uplink.gateway_address(family).ok_or("no address")?;
        for protocol in Protocol::ALL {
            let traffic = Traffic::new(protocol, family, 20).from_address(address);
            let tally = answered_flows(scene.lab.gateway(), traffic).await?;
            assert_eq!(
                tally.on(uplink.number()),
                20,
                "{protocol} {address}: {tally}"
            );
        }
    }
    // Seen by the right address and sent by the right uplink.
    scene.expect_no_strays_since(None)
}

/// Probes of an uplink leave by it in any state, so that one that is dead is never taken for well.
pub(crate) async fn probes(case: &Case) -> Outcome {
    let scene = case.prepare(Lab::builder().uplinks(3)).await?;
    watch_probes(scene).await?;
    scene.run_daemon(THREE).await?;
    scene.until_all_up().await?;

    scene.uplink(1)?.carrier_loss().await?;
    scene.uplink(2)?.black_hole().await?;
    scene.uplink(3)?.remove_interface().await?;
    for uplink in 1..=3 {
        for family in Family::ALL {
            scene.until_state(uplink, family, State::Down).await?;
        }
    }
    scene.uplink(3)?.remake_interface().await?;
    scene.uplink(2)?.change_address().await?;
    let sent = scene.uplink(2)?.capture()?.probe_packets()?;
    scene
        .eventually("the dead uplink is asked ten times more", || async {
            Ok(scene.lab.uplink(2)?.capture()?.probe_packets()? >= sent + 40)
        })
        .await?;
    for family in Family::ALL {
        scene.until_state(3, family, State::Up).await?;
        scene.until_state(2, family, State::Down).await?;
        scene.until_state(1, family, State::Down).await?;
    }
    let strays = scene
        .in_gateway("nft list chain inet lab_probes out")
        .await?;
    assert!(
        strays.matches("packets 0 bytes 0").count() == 6,
        "probes left by other uplinks than their own:\n{strays}"
    );
    Ok(())
}

/// Counts probes on their way out whose source, before any translation, is another uplink's.
async fn watch_probes(scene: &Scene) -> Outcome {
    let mut rules = String::new();
    for uplink in scene.lab.uplinks() {
        let name = uplink.interface();
        let net = uplink.number() + 10;
        rules.push_str(&format!(
            "oifname {name} ip daddr 203.0.113.1-203.0.113.4 ip saddr != 198.18.{net}.0/24 counter
             oifname {name} ip6 daddr fd00:203::1-fd00:203::4 ip6 saddr != fd00:18:{net}::/64 counter\n"
        ));
    }
    let table = format!(
        "table inet lab_probes {{
            chain out {{
                type filter hook postrouting priority mangle; policy accept;
                {rules}
            }}
        }}"
    );
    scene.lab.gateway().node().nft(table).await?;
    Ok(())
}

/// A long-lived socket of the router that is bound to an uplink's address, like a tunnel's, is not
/// tied to it when it dies.
pub(crate) async fn a_bound_socket_survives(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let host = scene.lab.gateway();
    let address = scene
        .uplink(2)?
        .gateway_address(family)
        .ok_or("no address")?;
    let flows = host
        .open(Traffic::new(Protocol::Udp, family, 20).from_address(address))
        .await?;
    let before = Tally::of(&flows.ask(PATIENT).await?);
    assert_eq!(before.on(2), 20, "{before}");
    scene.uplink(2)?.black_hole().await?;
    scene.until_state(2, family, State::Down).await?;
    let after = Tally::of(&flows.ask(PATIENT).await?);
    assert_eq!(after.on(1) + after.on(3), 20, "{after}");
    scene.expect_no_strays_since(None)
}

/// A socket that keeps its address, such as that of a VPN's outer packets, goes on by another uplink
/// while its own is dead, and comes back as `on_up` says.
pub(crate) async fn a_bound_socket_returns(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(2), RETURNING).await?;
    let host = scene.lab.gateway();
    let uplink = scene.uplink(1)?;
    let address = uplink.gateway_address(family).ok_or("no address")?;
    let flows = host
        .open(Traffic::new(Protocol::Udp, family, 20).from_address(address))
        .await?;
    for (state, expected) in [(State::Down, 2), (State::Up, 1)] {
        if state == State::Down {
            uplink.black_hole().await?;
        } else {
            uplink.heal().await?;
        }
        scene.until_state(1, family, state).await?;
        eventually("the flows are where they belong", PATIENT, || async {
            let tally = Tally::of(&flows.ask(PATIENT).await?);
            Ok((tally.on(expected) == 20).then_some(()))
        })
        .await?;
    }
    scene.expect_no_strays_since(None)
}
