//! Which flows go together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Host, Lab, LabError, Protocol, Traffic, addressing};
use serde_json::Value;

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

/// Echoes are a rule's, with a memory of their own that is soon over.
const REMEMBERED: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2}
downlinks: [lan0]
flows: {affinity: {source: 10m}}
rules:
  - {name: echoes, match: {protocol: [icmp, icmpv6]}, via: {one: 1, two: 1}, affinity: {source: 2s}}
";

const PAIRS_REMEMBERED: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2}
downlinks: [lan0]
flows: {affinity: {pair: 10m}}
";

const BETTER_AND_WORSE: &str = "
uplinks:
  better: {interface: wan1}
  worse: {interface: wan2, priority: 2}
downlinks: [lan0]
flows: {affinity: {source: 10m}}
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

/// While it is remembered, a client stays where it was sent when its own uplink died, also when that
/// returns and when the daemon is started anew. It moves when this one dies, too. In the pool of a rule
/// it is chosen anew once it was quiet for that rule's time, whatever the other pool remembers.
pub(crate) async fn remembered(case: &Case, family: Family) -> Outcome {
    let scene = case
        .open(Lab::builder().clients(CLIENTS), REMEMBERED)
        .await?;
    let of_client = |_server: usize| 0;
    let datagrams = || of_clients(scene, family, Protocol::Udp, of_client);
    let echoes = || of_clients(scene, family, Protocol::Icmp, of_client);
    let (before, echoed_before) = (datagrams().await?, echoes().await?);
    for used in [&before, &echoed_before] {
        let used: BTreeSet<u8> = used.values().copied().collect();
        assert_eq!(used.len(), 2, "{before:?} {echoed_before:?}");
    }

    dies(scene, 2, family).await?;
    expect_all_on(1, &datagrams().await?);
    expect_all_on(1, &echoes().await?);
    returns(scene, 2, family).await?;
    expect_all_on(1, &datagrams().await?);

    for client in scene.lab.clients() {
        let address = client
            .address(family)
            .ok_or("a client without an address")?;
        let what = format!("the echoes of {address} are forgotten");
        let forgotten = || async move {
            let explained = explain_echo(scene, address).await?;
            Ok(explained.get("remembered") == Some(&Value::Null))
        };
        scene.eventually(&what, forgotten).await?;
    }
    assert_eq!(echoes().await?, echoed_before, "they are chosen anew");
    expect_all_on(1, &datagrams().await?);

    scene.kill_daemon().await?;
    scene.run_daemon(REMEMBERED).await?;
    scene.until_all_up().await?;
    expect_all_on(1, &datagrams().await?);

    dies(scene, 1, family).await?;
    expect_all_on(2, &datagrams().await?);
    returns(scene, 1, family).await?;
    expect_all_on(2, &datagrams().await?);
    Ok(())
}

/// The same for the flows of a client to a server, and `failover explain` says so.
pub(crate) async fn pairs_remembered(case: &Case, family: Family) -> Outcome {
    let scene = case
        .open(Lab::builder().clients(CLIENTS), PAIRS_REMEMBERED)
        .await?;
    let pairs = || of_clients(scene, family, Protocol::Udp, |server| server);
    let before = pairs().await?;
    assert!(before.values().any(|uplink| *uplink == 2), "{before:?}");
    dies(scene, 2, family).await?;
    expect_all_on(1, &pairs().await?);
    returns(scene, 2, family).await?;
    expect_all_on(1, &pairs().await?);
    let client = scene.client()?.address(family);
    let address = client.ok_or("a client without an address")?;
    let explained = explain_echo(scene, address).await?;
    for (place, word) in [
        ("/decided_by", "memory"),
        ("/fate/uplink", "one"),
        ("/remembered/uplink", "one"),
        ("/without/one/uplink", "two"),
    ] {
        let found = explained.pointer(place).and_then(Value::as_str);
        assert_eq!(found, Some(word), "{place} of {explained}");
    }
    let left = explained.pointer("/remembered/seconds_left");
    let left = left.and_then(Value::as_f64);
    assert!(
        left.is_some_and(|left| left > 0.0 && left <= 600.0),
        "{explained}"
    );
    Ok(())
}

/// What is remembered keeps nobody on a worse uplink.
pub(crate) async fn better(case: &Case, family: Family) -> Outcome {
    let scene = case
        .open(Lab::builder().clients(CLIENTS), BETTER_AND_WORSE)
        .await?;
    let datagrams = || of_clients(scene, family, Protocol::Udp, |_| 0);
    expect_all_on(1, &datagrams().await?);
    dies(scene, 1, family).await?;
    expect_all_on(2, &datagrams().await?);
    returns(scene, 1, family).await?;
    expect_all_on(1, &datagrams().await?);
    Ok(())
}

fn expect_all_on(uplink: u8, groups: &BTreeMap<(String, usize), u8>) {
    assert!(
        groups.values().all(|found| *found == uplink),
        "not all on {uplink}: {groups:?}"
    );
}

async fn dies(scene: &Scene, number: u8, family: Family) -> Outcome {
    scene.uplink(number)?.carrier_loss().await?;
    scene.until_state(number, family, State::Down).await?;
    Ok(())
}

async fn returns(scene: &Scene, number: u8, family: Family) -> Outcome {
    scene.uplink(number)?.heal().await?;
    scene.until_state(number, family, State::Up).await?;
    // A port that is used again soon after is the same flow for the gateway, and stays with it.
    scene.in_gateway("conntrack -F").await?;
    Ok(())
}

/// What the daemon says of an echo from an address to the first server.
async fn explain_echo(scene: &Scene, from: IpAddr) -> Result<Value, LabError> {
    let failed = |reason: String| LabError::Layout { reason };
    let family = Family::of(from);
    let server = addressing::servers(family).first().copied();
    let server = server.ok_or_else(|| failed("the lab has no server".to_owned()))?;
    let protocol = match family {
        Family::Ipv4 => "icmp",
        Family::Ipv6 => "icmpv6",
    };
    let line = format!("explain --from {from} --to {server} --proto {protocol} --json");
    let daemon = scene.daemon().map_err(|error| failed(error.to_string()))?;
    let output = daemon.failover().command(&line).await?;
    serde_json::from_str(&output.stdout)
        .map_err(|error| failed(format!("{line}: {error}: {}", output.stdout)))
}

/// The uplink of each group of flows of a protocol by client and what `group` makes of the server's
/// number.
async fn of_clients(
    scene: &Scene,
    family: Family,
    protocol: Protocol,
    group: fn(usize) -> usize,
) -> Result<BTreeMap<(String, usize), u8>, Box<dyn std::error::Error>> {
    let mut groups = BTreeMap::new();
    for client in scene.lab.clients() {
        for (server, uplink) in uplinks_by_server(client, protocol, family).await? {
            let name = (client.node().name().to_owned(), group(server));
            let found = *groups.entry(name.clone()).or_insert(uplink);
            assert_eq!(found, uplink, "{name:?} is not together: {protocol}");
        }
    }
    Ok(groups)
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
