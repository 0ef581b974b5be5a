//! Which flows take the fast path, and what passes by unseen.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use failover::family::Family;
use failover_tests::{Lab, Protocol};

use super::exchange::{Exchange, Plan};
use super::looking::{
    Listed, fast_flows, flows, listed, observe, observed, offloaded, server, until_fast,
};
use crate::Outcome;
use crate::case::Case;
use crate::inbound::forward_to_client;
use crate::scene::{Scene, THREE, TWO};

const TCP: u16 = 9001;
const UDP: u16 = 9002;
const ROUNDS: u64 = 20;

/// Connections that users opened take the fast path in both directions: netfilter sees none of their
/// packets, and all of them are counted.
pub(crate) async fn from_inside(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    observe(scene, &[TCP, UDP]).await?;
    let tcp = fast_flows(scene, family, TCP, Plan::calm(Protocol::Tcp, 20)).await?;
    let udp = fast_flows(scene, family, UDP, Plan::calm(Protocol::Udp, 20)).await?;
    pass_unseen(scene, &[(TCP, &tcp), (UDP, &udp)]).await?;
    stays_counted(scene, UDP, &udp).await?;
    scene.expect_no_strays_since(None)
}

/// What moved on the fast path stays counted when flows leave it, though the programs had not counted all
/// of it with them.
async fn stays_counted(scene: &Scene, port: u16, exchange: &Exchange) -> Outcome {
    exchange.pause().await?;
    let packets = |flows: Vec<Listed>| -> BTreeMap<Option<u16>, [u64; 4]> {
        let counted = |flow: Listed| {
            let counts = [
                flow.out_packets,
                flow.out_bytes,
                flow.in_packets,
                flow.in_bytes,
            ];
            (flow.inside_port, counts)
        };
        flows.into_iter().map(counted).collect()
    };
    let before = packets(listed(scene, port).await?);
    assert_eq!(before.len(), exchange.len());
    scene.daemon()?.failover().command("flush").await?;
    let what = "all that moved is counted with flows on the stack";
    scene
        .eventually(what, || async {
            let none_is_fast = offloaded(scene, port).await? == 0;
            Ok(none_is_fast && packets(listed(scene, port).await?) == before)
        })
        .await?;
    exchange.resume()?;
    exchange.go_on(2).await
}

/// Connections from outside that the user's own rules forward to a client do so, too.
pub(crate) async fn from_outside(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    observe(scene, &[TCP, UDP]).await?;
    forward_to_client(scene, "tcp", family, TCP).await?;
    forward_to_client(scene, "udp", family, UDP).await?;
    let tcp = visit(scene, family, TCP, Protocol::Tcp).await?;
    let udp = visit(scene, family, UDP, Protocol::Udp).await?;
    pass_unseen(scene, &[(TCP, &tcp), (UDP, &udp)]).await?;
    let from: IpAddr = server(family)?;
    for exchange in [&tcp, &udp] {
        let sources = exchange.sources();
        let strange = sources.iter().find(|source| source.ip() != from);
        assert_eq!(strange, None, "visitors are seen by their own address");
    }
    scene.expect_no_strays_since(None)
}

/// Somebody on the internet visits a service of the client by each uplink's address.
async fn visit(
    scene: &Scene,
    family: Family,
    port: u16,
    protocol: Protocol,
) -> Result<Exchange, Box<dyn std::error::Error>> {
    let uplinks = scene.lab.uplinks().iter();
    let places: Vec<SocketAddr> = uplinks
        .filter_map(|uplink| Some(SocketAddr::new(uplink.gateway_address(family)?, port)))
        .collect();
    let client = scene.client()?;
    let at = SocketAddr::new(client.address(family).ok_or("no address")?, port);
    let internet = scene.lab.internet().node();
    let plan = Plan {
        source: Some(server(family)?),
        ..Plan::calm(protocol, 5)
    };
    let exchange = Exchange::begin(plan, internet, &places, (client.node(), at)).await?;
    until_fast(scene, port, &exchange).await?;
    Ok(exchange)
}

/// Flows of services go on, and netfilter sees nothing of it; the list of flows tells what passes in
/// both directions.
pub(super) async fn pass_unseen(scene: &Scene, services: &[(u16, &Exchange)]) -> Outcome {
    for (port, exchange) in services {
        let (seen, before) = (observed(scene, *port).await?, listed(scene, *port).await?);
        exchange.go_on(ROUNDS).await?;
        let (after, still) = (listed(scene, *port).await?, observed(scene, *port).await?);
        assert_eq!(seen, still, "netfilter sees packets of port {port}");
        assert_eq!(after.len(), exchange.len(), "{after:#?}");
        for flow in &after {
            let same = |known: &&Listed| {
                (known.inside_port, known.outside_port) == (flow.inside_port, flow.outside_port)
            };
            // Ports of visitors of several uplinks may be the same.
            let known: Vec<_> = before.iter().filter(same).collect();
            let grew = known.iter().any(|known| {
                flow.out_packets >= known.out_packets + ROUNDS
                    && flow.in_packets >= known.in_packets + ROUNDS
                    && flow.out_bytes >= known.out_bytes + ROUNDS * 500
                    && flow.in_bytes >= known.in_bytes + ROUNDS * 500
            });
            assert!(grew, "{known:#?} became {flow:#?}");
        }
    }
    Ok(())
}

const WITH_A_RULE: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2}
downlinks: [lan0]
rules:
  - {name: watched, match: {protocol: tcp, ports: 9001}, via: {one: 1, two: 1}, fastpath: off}
";

/// A rule keeps its flows from the fast path; a reload sends all flows back and has them take it again.
pub(crate) async fn forbidden(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder(), WITH_A_RULE).await?;
    observe(scene, &[TCP, UDP]).await?;
    let watched = flows(scene, family, TCP, Plan::calm(Protocol::Tcp, 10)).await?;
    let others = fast_flows(scene, family, UDP, Plan::calm(Protocol::Udp, 10)).await?;
    watched.go_on(ROUNDS).await?;
    let told = listed(scene, TCP).await?;
    assert_eq!(told.len(), 10);
    for flow in told {
        assert_eq!(flow.fastpath.as_deref(), Some("rule"), "{flow:?}");
    }
    let seen = observed(scene, TCP).await?;
    watched.go_on(ROUNDS).await?;
    assert!(observed(scene, TCP).await? >= seen + 2 * ROUNDS * 10);

    scene.reload(TWO).await?;
    until_fast(scene, TCP, &watched).await?;
    scene.reload(&format!("{TWO}fastpath: off\n")).await?;
    let status = scene
        .until("it is off", |status| !status.fastpath.on)
        .await?;
    assert_eq!(status.fastpath.flows, 0, "{:?}", status.fastpath);
    assert_eq!(
        offloaded(scene, UDP).await? + offloaded(scene, TCP).await?,
        0
    );
    let seen = observed(scene, UDP).await?;
    others.go_on(ROUNDS).await?;
    assert!(observed(scene, UDP).await? >= seen + 2 * ROUNDS * 10);
    scene.reload(TWO).await?;
    until_fast(scene, TCP, &watched).await?;
    until_fast(scene, UDP, &others).await?;
    scene.reload(WITH_A_RULE).await?;
    scene
        .eventually("the rule is followed", || async {
            Ok(offloaded(scene, TCP).await? == 0)
        })
        .await?;
    watched.go_on(ROUNDS).await?;
    others.go_on(ROUNDS).await?;
    until_fast(scene, UDP, &others).await
}

/// How long a block is that is more than a packet: as the kernel of the client hands it over.
const LARGE: usize = 30_000;

/// Flows move between the fast path and the stack again and again under load, and nothing is lost or
/// changed, and nobody is seen from elsewhere.
pub(crate) async fn moves(case: &Case) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let mut services = Vec::new();
    for (place, family) in (0_u16..).zip(Family::ALL) {
        for (port, protocol, block) in [(TCP, Protocol::Tcp, LARGE), (UDP, Protocol::Udp, 1000)] {
            let plan = Plan {
                protocol,
                flows: 15,
                block,
                every: Duration::ZERO,
                source: None,
            };
            let port = port + 10 * place;
            services.push((port, flows(scene, family, port, plan).await?));
        }
    }
    for (port, exchange) in &services {
        until_fast(scene, *port, exchange).await?;
    }
    let daemon = scene.daemon()?;
    let mut moved = 0;
    while moved < MOVES {
        let output = daemon.failover().command("flush --json").await?;
        let told: serde_json::Value = serde_json::from_str(&output.stdout)?;
        moved += told
            .get("flows")
            .and_then(serde_json::Value::as_u64)
            .ok_or("no number")?;
        for (_, exchange) in &services {
            exchange.expect_whole();
            exchange.go_on(1).await?;
        }
    }
    for (port, exchange) in &services {
        until_fast(scene, *port, exchange).await?;
        exchange.go_on(ROUNDS).await?;
    }
    drop(services);
    scene.expect_no_strays_since(None)
}

/// How many times a flow is sent back, of all flows together.
const MOVES: u64 = 1000;
