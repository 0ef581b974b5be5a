//! Ways that are not plain: another family's next hop, and links that take less of IPv6.

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, Protocol};

use super::established::pass_unseen;
use super::exchange::Plan;
use super::looking::{fast_flows, observe, observed, server};
use crate::Outcome;
use crate::case::Case;
use crate::narrow::path_mtu;
use crate::scene::TWO;

const TCP: u16 = 9001;
const UDP: u16 = 9002;
const ROUNDS: u64 = 20;

/// Both ends of the link speak IPv4 by next hops that only have IPv6 addresses (RFC 5549), as some
/// providers have it, and clients behind a router may.
pub(crate) async fn of_another_family(case: &Case) -> Outcome {
    let scene = case.open(Lab::builder(), TWO).await?;
    for number in [1, 2] {
        let uplink = scene.uplink(number)?;
        let next_hop = uplink.next_hop(Family::Ipv6).ok_or("no next hop")?;
        let interface = uplink.interface();
        scene
            .in_gateway(&format!("ip -4 route del default dev {interface}"))
            .await?;
        let line =
            format!("ip -4 route add default via inet6 {next_hop} dev {interface} metric {number}");
        scene.in_gateway(&line).await?;
    }
    let client = scene.client()?;
    let inside = client.address(Family::Ipv6).ok_or("no address")?;
    let own = client.address(Family::Ipv4).ok_or("no address")?;
    let line = format!("ip -4 route add {own} via inet6 {inside} dev lan0");
    scene.in_gateway(&line).await?;
    scene
        .eventually("the daemon knows the next hops", || async {
            let routes = scene.in_gateway("ip -4 route show table all").await?;
            let ours = |line: &&str| line.contains("via inet6") && line.contains("table 30");
            Ok(routes.lines().filter(ours).count() >= 2)
        })
        .await?;
    for number in [1, 2] {
        scene.until_state(number, Family::Ipv4, State::Up).await?;
    }
    observe(scene, &[TCP, UDP]).await?;
    let flows = |port, protocol| fast_flows(scene, Family::Ipv4, port, Plan::calm(protocol, 10));
    let tcp = flows(TCP, Protocol::Tcp).await?;
    let udp = flows(UDP, Protocol::Udp).await?;
    pass_unseen(scene, &[(TCP, &tcp), (UDP, &udp)]).await?;
    scene.expect_no_strays_since(None)
}

/// How long packets of IPv6 may be from now on: less than the interfaces take.
const SHORTER: &str = "1300";

/// What IPv6 may use of an uplink becomes less while flows are on the fast path: whoever sends more is told.
pub(crate) async fn shorter_for_ipv6(case: &Case) -> Outcome {
    let scene = case.open(Lab::builder(), TWO).await?;
    let plan = Plan {
        block: 1400,
        ..Plan::calm(Protocol::Udp, 2)
    };
    let flows = fast_flows(scene, Family::Ipv6, UDP, plan).await?;
    let client = scene.client()?.node();
    let to = server(Family::Ipv6)?;
    assert_eq!(path_mtu(client, to).await?, None);
    for number in [1, 2] {
        let interface = scene.uplink(number)?.interface();
        let key = format!("net/ipv6/conf/{interface}/mtu");
        scene.lab.gateway().node().set_sysctl(&key, SHORTER).await?;
    }
    let told = scene.eventually("the client knows what fits", || async {
        let known = path_mtu(client, to).await.ok().flatten();
        Ok(known.as_deref() == Some(SHORTER))
    });
    told.await?;
    // What told the client was not delivered; all others are.
    drop(flows);
    let plan = Plan {
        block: 1200,
        ..plan
    };
    let flows = fast_flows(scene, Family::Ipv6, UDP + 1, plan).await?;
    flows.go_on(ROUNDS).await
}

/// Where the kernel does not tell which flows end, none takes the fast path, and it is said why.
pub(crate) async fn untold(case: &Case) -> Outcome {
    let scene = case.open(Lab::builder(), TWO).await?;
    let flows = fast_flows(scene, Family::Ipv4, TCP, Plan::calm(Protocol::Tcp, 5)).await?;
    let gateway = scene.lab.gateway().node();
    let events = "net/netfilter/nf_conntrack_events";
    gateway.set_sysctl(events, "0").await?;
    let status = scene
        .until("the fast path is off", |status| !status.fastpath.on)
        .await?;
    let reason = status.fastpath.reason.unwrap_or_default();
    assert!(reason.contains("nf_conntrack_events is 0"), "{reason}");
    observe(scene, &[TCP]).await?;
    flows.go_on(ROUNDS).await?;
    assert!(observed(scene, TCP).await? >= 2 * ROUNDS * 5);
    gateway.set_sysctl(events, "2").await?;
    scene
        .until("the fast path is on", |status| status.fastpath.on)
        .await?;
    let newer = fast_flows(scene, Family::Ipv4, UDP, Plan::calm(Protocol::Udp, 5)).await;
    newer?.go_on(ROUNDS).await
}
