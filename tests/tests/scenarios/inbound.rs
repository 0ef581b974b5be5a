//! Connections from the internet are answered by the uplink by which they come.

use std::net::SocketAddr;

use failover::family::Family;
use failover_tests::capture::FlowProtocol;
use failover_tests::daemon::State;
use failover_tests::{Lab, Protocol, addressing};

use crate::Outcome;
use crate::case::Case;
use crate::scene::{Scene, of};
use crate::service::{self, Visitor};

const PORT: u16 = 8080;

const ONE_FOR_INBOUND: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2}
  inbound: {interface: wan3, new_flows: false}
downlinks: [lan0]
";

/// A service of the router itself.
pub(crate) async fn to_the_router(case: &Case, family: Family) -> Outcome {
    let scene = case
        .open(Lab::builder().uplinks(3), ONE_FOR_INBOUND)
        .await?;
    service::start(scene.lab.gateway().node(), PORT).await?;
    let mut visitors = visit_all(scene, family).await?;

    // Not chosen for flows from inside.
    let tally = scene.new_flows(Protocol::Udp, family, 200).await?;
    assert_eq!(tally.on(3), 0, "{tally}");
    let status = scene.daemon()?.status().await?;
    let inbound = of(&status, 3, family).map(|found| (found.state, found.share));
    assert_eq!(inbound, Some((State::Up, 0.0)));

    stay_when_another_dies(scene, family, &mut visitors).await
}

/// A client in the network behind, to which the user's own rules lead.
pub(crate) async fn to_a_client(case: &Case, family: Family) -> Outcome {
    let scene = case
        .open(Lab::builder().uplinks(3), ONE_FOR_INBOUND)
        .await?;
    service::start(scene.client()?.node(), PORT).await?;
    forward_to_client(scene, "tcp", family, PORT).await?;
    let mut visitors = visit_all(scene, family).await?;
    stay_when_another_dies(scene, family, &mut visitors).await
}

/// The user's own rules, which lead visitors of a port (of `tcp` or `udp`) to the first client.
pub(crate) async fn forward_to_client(
    scene: &Scene,
    transport: &str,
    family: Family,
    port: u16,
) -> Outcome {
    let (protocol, client) = client_at(scene, family, port)?;
    let forwarding = format!(
        "table {protocol} users_own {{
            chain prerouting {{
                type nat hook prerouting priority dstnat; policy accept;
                iifname \"wan*\" {transport} dport {port} dnat to {client}
            }}
        }}"
    );
    scene.lab.gateway().node().nft(forwarding).await?;
    Ok(())
}

/// The same by UDP, also for the uplink that takes no new flows from inside.
pub(crate) async fn udp_to_a_client(case: &Case, family: Family) -> Outcome {
    let scene = case
        .open(Lab::builder().uplinks(3), ONE_FOR_INBOUND)
        .await?;
    service::start_udp(scene.client()?.node(), PORT).await?;
    forward_to_client(scene, "udp", family, PORT).await?;
    asked_at_all(scene, family).await?;
    scene.uplink(1)?.black_hole().await?;
    scene.until_state(1, family, State::Down).await?;
    scene.uplink(1)?.heal().await?;
    scene.until_state(1, family, State::Up).await?;
    asked_at_all(scene, family).await
}

/// A client asks for another one by the address of an uplink, where the user's own rules provide it;
/// no uplink has to do with it.
pub(crate) async fn hairpin(case: &Case, family: Family) -> Outcome {
    let lab = Lab::builder().uplinks(3).downlinks([2]);
    let scene = case.open(lab, ONE_FOR_INBOUND).await?;
    service::start(scene.client()?.node(), PORT).await?;
    let (protocol, client) = client_at(scene, family, PORT)?;
    let uplinks = scene.lab.uplinks();
    let public: Vec<String> = uplinks
        .iter()
        .filter_map(|uplink| Some(uplink.gateway_address(family)?.to_string()))
        .collect();
    let public = public.join(", ");
    let rules = format!(
        "table {protocol} users_own {{
            chain prerouting {{
                type nat hook prerouting priority dstnat; policy accept;
                {protocol} daddr {{ {public} }} tcp dport {PORT} dnat to {client}
            }}
            chain postrouting {{
                type nat hook postrouting priority srcnat; policy accept;
                iifname lan0 oifname lan0 masquerade
            }}
        }}"
    );
    scene.lab.gateway().node().nft(rules).await?;
    let own = scene.lab.gateway().address(family).ok_or("no address")?;
    let mut visitors = Vec::new();
    for number in [1, 2] {
        for uplink in uplinks {
            let at = uplink.gateway_address(family).ok_or("no address")?;
            let neighbour = scene.lab.client(number)?.node();
            let at = SocketAddr::new(at, PORT);
            let mut visitor = Visitor::connect(neighbour, None, at).await?;
            assert_eq!(visitor.ask().await?.ip(), own, "client {number} at {at}");
            visitors.push(visitor);
        }
    }
    scene.uplink(1)?.black_hole().await?;
    scene.until_state(1, family, State::Down).await?;
    for visitor in &mut visitors {
        visitor.ask().await?;
    }
    for uplink in uplinks {
        let flows = uplink.capture()?.flows()?;
        let ours = |port: u16| port == PORT;
        let seen = flows
            .iter()
            .any(|flow| ours(flow.key.source.port()) || ours(flow.key.destination.port()));
        assert!(!seen, "{} saw neighbours", uplink.interface());
    }
    Ok(())
}

/// How nft calls the family, and where the first client serves.
fn client_at(
    scene: &Scene,
    family: Family,
    port: u16,
) -> Result<(&'static str, SocketAddr), Box<dyn std::error::Error>> {
    let client = scene.client()?.address(family).ok_or("no address")?;
    let protocol = match family {
        Family::Ipv4 => "ip",
        Family::Ipv6 => "ip6",
    };
    Ok((protocol, SocketAddr::new(client, port)))
}

/// A UDP service of the router that listens on all addresses and leaves the source of its answers to
/// the kernel. Several hosts ask it, since the kernel spreads unbound answers by address.
pub(crate) async fn to_a_udp_service(case: &Case, family: Family) -> Outcome {
    let scene = case
        .open(Lab::builder().uplinks(3), ONE_FOR_INBOUND)
        .await?;
    service::start_udp(scene.lab.gateway().node(), PORT).await?;
    asked_at_all(scene, family).await
}

/// Several hosts ask a UDP service at each uplink's address.
async fn asked_at_all(scene: &Scene, family: Family) -> Outcome {
    let internet = scene.lab.internet().node();
    for from in addressing::servers(family) {
        for uplink in scene.lab.uplinks() {
            let at = uplink.gateway_address(family).ok_or("no address")?;
            let at = SocketAddr::new(at, PORT);
            // The second question is of a known connection.
            for seen in service::ask_udp(internet, from, at, 2).await? {
                assert_eq!(seen.ip(), from, "asked at {at}");
            }
        }
    }
    scene.expect_no_strays_since(None)
}

/// Somebody from the internet connects to each uplink's address. He is seen by his own address, and
/// answered by the very uplink.
async fn visit_all(
    scene: &Scene,
    family: Family,
) -> Result<Vec<Visitor>, Box<dyn std::error::Error>> {
    let internet = scene.lab.internet().node();
    let from = addressing::servers(family);
    let from = *from.first().ok_or("the internet has no address")?;
    let mut visitors = Vec::new();
    for uplink in scene.lab.uplinks() {
        let at = uplink.gateway_address(family).ok_or("no address")?;
        let at = SocketAddr::new(at, PORT);
        for _ in 0..10 {
            let mut visitor = Visitor::connect(internet, Some(from), at).await?;
            assert_eq!(visitor.ask().await?.ip(), from);
            visitors.push(visitor);
        }
    }
    answered_by_their_uplinks(scene)?;
    Ok(visitors)
}

/// Answers of the service leave by the uplink whose address they bear, and each uplink has some.
fn answered_by_their_uplinks(scene: &Scene) -> Outcome {
    scene.expect_no_strays_since(None)?;
    for uplink in scene.lab.uplinks() {
        let answers = uplink.capture()?.flows()?;
        let answers = answers.iter().filter(|flow| {
            flow.key.protocol == FlowProtocol::Tcp && flow.key.source.port() == PORT
        });
        assert_eq!(answers.count(), 10, "answers by {}", uplink.interface());
    }
    Ok(())
}

/// Visitors of the uplinks that live notice nothing when another dies.
async fn stay_when_another_dies(
    scene: &Scene,
    family: Family,
    visitors: &mut [Visitor],
) -> Outcome {
    scene.uplink(1)?.black_hole().await?;
    scene.until_state(1, family, State::Down).await?;
    for visitor in visitors.iter_mut().skip(10) {
        visitor.ask().await?;
    }
    answered_by_their_uplinks(scene)
}
