//! Which flows go together.

use std::collections::{BTreeMap, BTreeSet};

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Host, Lab, Protocol, Traffic, addressing};

use crate::Outcome;
use crate::case::Case;
use crate::scene::{PATIENT, Scene};

const BY_SOURCE: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2}
downlinks: [lan0]
flows: {affinity: source}
";

const BY_PAIR: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2}
downlinks: [lan0]
flows: {affinity: pair}
";

/// The hash is the same in every run, and so is what these clients get.
const CLIENTS: usize = 8;

/// All flows of a client go by one uplink; not all clients go by the same.
pub(crate) async fn source(case: &Case, family: Family) -> Outcome {
    let scene = case
        .open(Lab::builder().clients(CLIENTS), BY_SOURCE)
        .await?;
    let of_client = |_server: usize| 0;
    let before = uplinks_of_groups(scene, family, of_client).await?;
    let used: BTreeSet<u8> = before.values().copied().collect();
    assert_eq!(used.len(), 2, "{before:?}");
    only_the_dead_ones_move(scene, family, &before, of_client).await
}

/// All flows of a client to a server go by one uplink; not all servers are reached by the same.
pub(crate) async fn pair(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().clients(CLIENTS), BY_PAIR).await?;
    let before = uplinks_of_groups(scene, family, |server| server).await?;
    let mut by_client: BTreeMap<&str, BTreeSet<u8>> = BTreeMap::new();
    for ((client, _), uplink) in &before {
        by_client.entry(client).or_default().insert(*uplink);
    }
    assert!(by_client.values().any(|used| used.len() == 2), "{before:?}");
    only_the_dead_ones_move(scene, family, &before, |server| server).await
}

/// The uplink of each group of flows by client and what `group` makes of the server's number. A
/// group that is not together fails the scenario.
async fn uplinks_of_groups(
    scene: &Scene,
    family: Family,
    group: fn(usize) -> usize,
) -> Result<BTreeMap<(String, usize), u8>, Box<dyn std::error::Error>> {
    let mut groups = BTreeMap::new();
    for client in scene.lab.clients() {
        for protocol in Protocol::ALL {
            for (server, uplink) in uplinks_by_server(client, protocol, family).await? {
                let name = (client.node().name().to_owned(), group(server));
                let found = *groups.entry(name.clone()).or_insert(uplink);
                assert_eq!(found, uplink, "{name:?} is not together: {protocol}");
            }
        }
    }
    Ok(groups)
}

/// Servers by their number with the uplink of each new flow there.
async fn uplinks_by_server(
    client: &Host,
    protocol: Protocol,
    family: Family,
) -> Result<Vec<(usize, u8)>, Box<dyn std::error::Error>> {
    let servers = addressing::servers(family).len();
    let traffic = Traffic::new(protocol, family, 5 * servers).within(PATIENT);
    let mut found = Vec::new();
    // Flows go to the servers in turn.
    for (index, asked) in client.burst(traffic).await?.into_iter().enumerate() {
        let uplink = asked?.uplink().ok_or("seen by no uplink's address")?;
        found.push((index % servers, uplink));
    }
    Ok(found)
}

async fn only_the_dead_ones_move(
    scene: &Scene,
    family: Family,
    before: &BTreeMap<(String, usize), u8>,
    group: fn(usize) -> usize,
) -> Outcome {
    scene.uplink(2)?.carrier_loss().await?;
    scene.until_state(2, family, State::Down).await?;
    let during = uplinks_of_groups(scene, family, group).await?;
    assert!(during.values().all(|uplink| *uplink == 1), "{during:?}");
    scene.uplink(2)?.heal().await?;
    scene.until_state(2, family, State::Up).await?;
    // A port that is used again soon after is the same flow for the gateway, and stays with it.
    scene.in_gateway("conntrack -F").await?;
    let after = uplinks_of_groups(scene, family, group).await?;
    assert_eq!(
        &after, before,
        "the same clients get the same uplinks again"
    );
    Ok(())
}
