//! Several clients and several networks behind the gateway.

use std::net::SocketAddr;
use std::time::Instant;

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, Protocol, Traffic};

use crate::Outcome;
use crate::case::Case;
use crate::conversations::Conversations;
use crate::scene::answered_flows;
use crate::service::{self, Visitor};

const TWO_NETWORKS: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2}
downlinks: [lan0, lan1]
";

const PORT: u16 = 8080;

/// Clients of both networks use all uplinks and fail over.
pub(crate) async fn all_clients(case: &Case, family: Family) -> Outcome {
    let scene = case
        .open(Lab::builder().downlinks([2, 2]), TWO_NETWORKS)
        .await?;
    let mut all = Vec::new();
    for client in scene.lab.clients() {
        let counts = [(Protocol::Udp, 40), (Protocol::Tcp, 40)];
        let flows = Conversations::open(client, family, &counts).await?;
        assert!(flows.on(1) > 15 && flows.on(2) > 15);
        all.push(flows);
    }
    scene.uplink(2)?.black_hole().await?;
    scene.until_state(2, family, State::Down).await?;
    for flows in &mut all {
        flows.expect_unmoved(&[1]).await?;
        flows.expect_moved(2, &[1]).await?;
    }
    for client in scene.lab.clients() {
        let tally = answered_flows(client, Traffic::new(Protocol::Tcp, family, 20)).await?;
        assert_eq!(tally.on(1), 20, "{}: {tally}", client.node().name());
    }
    scene.expect_no_strays_since(None)
}

/// What goes from one network behind to the other meets no uplink and keeps its address.
pub(crate) async fn between(case: &Case, family: Family) -> Outcome {
    let scene = case
        .open(Lab::builder().downlinks([2, 1]), TWO_NETWORKS)
        .await?;
    let server = scene.lab.client(3)?.node();
    service::start(server, PORT).await?;
    let third = scene.lab.client(3)?.address(family).ok_or("no address")?;
    let third = SocketAddr::new(third, PORT);
    let began = Instant::now();
    let mut visitors = Vec::new();
    for number in [1, 2] {
        let client = scene.lab.client(number)?;
        for _ in 0..20 {
            let mut visitor = Visitor::connect(client.node(), None, third).await?;
            assert_eq!(Some(visitor.ask().await?.ip()), client.address(family));
            visitors.push(visitor);
        }
    }
    for uplink in scene.lab.uplinks() {
        uplink.black_hole().await?;
    }
    for uplink in 1..=2 {
        scene.until_state(uplink, family, State::Down).await?;
    }
    for visitor in &mut visitors {
        visitor.ask().await?;
    }
    for uplink in scene.lab.uplinks() {
        assert_eq!(uplink.capture()?.active_since(began)?, []);
    }
    let marked = scene.in_gateway("conntrack -L -p tcp --dport 8080").await?;
    assert!(
        marked.lines().all(|line| line.contains(" mark=0 ")),
        "{marked}"
    );
    Ok(())
}
