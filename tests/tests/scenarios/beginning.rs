//! The daemon starts before the network is as it should be.

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, Protocol};

use crate::Outcome;
use crate::case::Case;
use crate::scene::{TWO, of};

/// A modem that is not plugged in yet.
pub(crate) async fn interface_comes_later(case: &Case) -> Outcome {
    let scene = case.prepare(Lab::builder()).await?;
    scene.uplink(2)?.remove_interface().await?;
    scene.run_daemon(TWO).await?;
    for family in Family::ALL {
        scene.until_state(1, family, State::Up).await?;
    }
    let status = scene.daemon()?.status().await?;
    let missing = of(&status, 2, Family::Ipv4).ok_or("not in the status")?;
    assert_eq!(missing.state, State::Down, "{status}");
    assert!(missing.reason.contains("does not exist"), "{status}");
    for family in Family::ALL {
        let tally = scene.new_flows(Protocol::Udp, family, 40).await?;
        assert_eq!(tally.on(1), 40, "{family}: {tally}");
    }
    scene.uplink(2)?.remake_interface().await?;
    scene.until_all_up().await?;
    for family in Family::ALL {
        let tally = scene.new_flows(Protocol::Udp, family, 100).await?;
        assert!(tally.on(2) > 25, "{family}: {tally}");
    }
    scene.expect_no_strays_since(None)
}

/// An uplink that is dead from the beginning is not used once that is known.
pub(crate) async fn dead_from_the_beginning(case: &Case, family: Family) -> Outcome {
    let scene = case.prepare(Lab::builder()).await?;
    scene.uplink(2)?.black_hole().await?;
    scene.run_daemon(TWO).await?;
    scene.until_state(1, family, State::Up).await?;
    // Not even before: one that is proven comes before one that is not.
    let tally = scene.new_flows(Protocol::Udp, family, 100).await?;
    assert_eq!(tally.on(1), 100, "{tally}");
    scene.until_state(2, family, State::Down).await?;
    let tally = scene.new_flows(Protocol::Tcp, family, 100).await?;
    assert_eq!(tally.on(1), 100, "{tally}");
    scene.uplink(2)?.heal().await?;
    scene.until_state(2, family, State::Up).await?;
    let tally = scene.new_flows(Protocol::Udp, family, 100).await?;
    assert!(tally.on(2) > 25, "{tally}");
    Ok(())
}

/// Left alone, old flows would go by the second uplink now.
const SECOND_IS_BETTER: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2, weight: 30}
downlinks: [lan0]
";

/// Flows that were there before the daemon stay with the uplink to whose address they are
/// translated.
pub(crate) async fn older_flows(case: &Case, family: Family) -> Outcome {
    let scene = case.prepare(Lab::builder()).await?;
    let masquerade = "table inet users_own {
        chain postrouting {
            type nat hook postrouting priority srcnat; policy accept;
            oifname \"wan*\" masquerade
        }
    }";
    scene.lab.gateway().node().nft(masquerade).await?;
    let flows = scene
        .converse(family, &[(Protocol::Udp, 40), (Protocol::Tcp, 40)])
        .await?;
    assert_eq!(flows.on(1), 80);
    scene.run_daemon(SECOND_IS_BETTER).await?;
    flows.expect_unmoved(&[1]).await?;
    scene.until_all_up().await?;
    flows.expect_unmoved(&[1]).await?;
    let tally = scene.new_flows(Protocol::Udp, family, 100).await?;
    assert!(tally.on(2) > 25, "{tally}");
    flows.expect_unmoved(&[1]).await?;
    scene.expect_no_strays_since(None)
}
