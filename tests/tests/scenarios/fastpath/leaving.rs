//! What sends flows back to the stack, and what they follow on the fast path.

use std::time::{Duration, Instant};

use failover::family::Family;
use failover_tests::{Lab, LabError, Node, ProgramSpec, Protocol, eventually, patient};

use super::exchange::Plan;
use super::looking::{
    fast_flows, is_sent_from, is_sent_to, led, listed, observe, observed, offloaded, timeouts,
    until_fast,
};
use crate::Outcome;
use crate::case::Case;
use crate::scene::{LIMIT, TWO};

const TCP: u16 = 9001;
const UDP: u16 = 9002;
const ROUNDS: u64 = 20;

/// How long a flow may stay on the fast path whose connection was deleted. It takes some milliseconds;
/// the rest is for machines that have much else to do.
const FORGOTTEN_WITHIN: Duration = Duration::from_millis(500);

/// Says how long something took.
#[expect(clippy::print_stderr, reason = "a test tells how long it took")]
fn tell(what: &str, took: Duration) {
    eprintln!("{what} after {took:?}");
}

/// What connection tracking is told to forget leaves the fast path at once, and its next packet begins
/// anew.
pub(crate) async fn forgotten(case: &Case, family: Family) -> Outcome {
    // All of a small table is soon looked at.
    let config = format!("{TWO}flows: {{capacity: 4096}}\n");
    let scene = case.open(Lab::builder(), &config).await?;
    observe(scene, &[TCP, UDP]).await?;
    for (port, protocol) in [(TCP, Protocol::Tcp), (UDP, Protocol::Udp)] {
        let exchange = fast_flows(scene, family, port, Plan::calm(protocol, 20)).await?;
        exchange.pause().await?;
        let before = led(scene)?;
        assert!(before >= 2 * exchange.len(), "{before}");
        let seen = observed(scene, port).await?;
        let transport = if port == TCP { "tcp" } else { "udp" };
        let ip = if family == Family::Ipv4 {
            "ipv4"
        } else {
            "ipv6"
        };
        let line = format!("conntrack -D -f {ip} -p {transport} --dport {port}");
        scene.in_gateway(&line).await?;
        let deleted = Instant::now();
        while led(scene)? > 0 {
            assert!(deleted.elapsed() < patient(LIMIT), "they do not leave");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let took = deleted.elapsed();
        tell("what was forgotten left the fast path", took);
        assert!(took < patient(FORGOTTEN_WITHIN), "it took {took:?}");
        exchange.resume()?;
        exchange.go_on(2).await?;
        assert!(observed(scene, port).await? >= seen + 20);
        assert_eq!(timeouts(scene, family, transport, port).await?.len(), 20);
        until_fast(scene, port, &exchange).await?;
        // So that none of them is counted next time.
        exchange.pause().await?;
        scene.daemon()?.failover().command("flush").await?;
    }
    Ok(())
}

/// A client, or a provider, gets another network card: packets go to its new address, as soon as the
/// gateway's kernel knows that.
pub(crate) async fn other_hardware(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder(), TWO).await?;
    let tcp = fast_flows(scene, family, TCP, Plan::calm(Protocol::Tcp, 20)).await?;
    let udp = fast_flows(scene, family, UDP, Plan::calm(Protocol::Udp, 20)).await?;
    let client = scene.client()?;
    let host = client.address(family).ok_or("no address")?;
    let uplink = scene.uplink(1)?;
    let provider = uplink.next_hop(family).ok_or("no next hop")?;
    let cards = [
        (client.node(), host, "lan0", [2, 0, 0, 0x77, 0, 1]),
        (uplink.provider(), provider, "wan1", [2, 0, 0, 0x77, 0, 2]),
    ];
    for (node, address, interface, mac) in cards {
        tcp.pause().await?;
        udp.pause().await?;
        let card = card_with(node, address).await?;
        let text = exchange_card(node, &card, mac).await?;
        let line =
            format!("ip neigh replace {address} lladdr {text} dev {interface} nud reachable");
        scene.in_gateway(&line).await?;
        let follow = || async { Ok(is_sent_to(scene, mac).unwrap_or(false).then_some(())) };
        eventually("packets are sent to the new address", LIMIT, follow).await?;
        tcp.resume()?;
        udp.resume()?;
        tcp.go_on(ROUNDS).await?;
        udp.go_on(ROUNDS).await?;
        until_fast(scene, TCP, &tcp).await?;
        until_fast(scene, UDP, &udp).await?;
    }
    Ok(())
}

/// The gateway gets other network cards itself: packets say its new addresses, and the neighbours that
/// the kernel forgets with the old card are asked for again.
pub(crate) async fn own_hardware(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder(), TWO).await?;
    let tcp = fast_flows(scene, family, TCP, Plan::calm(Protocol::Tcp, 20)).await?;
    let udp = fast_flows(scene, family, UDP, Plan::calm(Protocol::Udp, 20)).await?;
    let gateway = scene.lab.gateway().node();
    let client = scene.client()?;
    let host = client.address(family).ok_or("no address")?;
    let uplink = scene.uplink(1)?;
    let provider = uplink.next_hop(family).ok_or("no next hop")?;
    let cards = [
        ("lan0", client.node(), host, [2, 0, 0, 0x78, 0, 1]),
        ("wan1", uplink.provider(), provider, [2, 0, 0, 0x78, 0, 2]),
    ];
    for (card, neighbour, address, mac) in cards {
        tcp.pause().await?;
        udp.pause().await?;
        let former = gateway.hardware_address(card).await?;
        assert!(is_sent_from(scene, former)?, "{card}");
        exchange_card(gateway, card, mac).await?;
        let behind = card_with(neighbour, address).await?;
        let line = format!("ip neigh flush dev {behind}");
        neighbour.must(ProgramSpec::line(&line)).await?;
        tcp.resume()?;
        udp.resume()?;
        tcp.go_on(ROUNDS).await?;
        udp.go_on(ROUNDS).await?;
        let follow = || async {
            let is_from = |mac| is_sent_from(scene, mac).ok();
            let follows = (is_from(mac), is_from(former)) == (Some(true), Some(false));
            Ok(follows.then_some(()))
        };
        eventually("packets are sent from the new address", LIMIT, follow).await?;
        until_fast(scene, TCP, &tcp).await?;
        until_fast(scene, UDP, &udp).await?;
    }
    Ok(())
}

/// Gives an interface another hardware address; returns it as text.
async fn exchange_card(node: &Node, card: &str, mac: [u8; 6]) -> Result<String, LabError> {
    let text = mac.map(|byte: u8| format!("{byte:02x}")).join(":");
    let line = format!("ip link set dev {card} address {text}");
    node.must(ProgramSpec::line(&line)).await?;
    Ok(text)
}

/// The interface of a node that has an address.
async fn card_with(
    node: &Node,
    address: std::net::IpAddr,
) -> Result<String, Box<dyn std::error::Error>> {
    let text = node
        .must(ProgramSpec::line(&format!("ip -o addr show to {address}")))
        .await?;
    let word = text.split_whitespace().nth(1).ok_or("nobody has it")?;
    Ok(word.split('@').next().unwrap_or(word).to_owned())
}

/// How long connection tracking remembers a UDP flow here: half of it is less than the scenario takes.
const REMEMBERED: u64 = 64;
/// How long connection tracking's timeouts of flows that move are looked at.
const WATCHED: Duration = Duration::from_secs(36);
/// By how much clocks and counts to a second may differ.
const SLACK: u64 = 3;

/// A silent flow is the stack's again, and is left as much time as it would be anyway; one that moves is
/// never left less than half of its timeout.
pub(crate) async fn timed(case: &Case) -> Outcome {
    let scene = case.open(Lab::builder(), TWO).await?;
    let gateway = scene.lab.gateway().node();
    gateway
        .set_sysctl(
            "net/netfilter/nf_conntrack_udp_timeout_stream",
            &REMEMBERED.to_string(),
        )
        .await?;
    let mut moving = Vec::new();
    let mut silent = Vec::new();
    for (place, family) in (0_u16..).zip(Family::ALL) {
        let port = UDP + 10 * place;
        let plan = Plan::calm(Protocol::Udp, 5);
        moving.push((family, port, fast_flows(scene, family, port, plan).await?));
        let port = port + 1;
        let exchange = fast_flows(scene, family, port, plan).await?;
        let before = Instant::now();
        exchange.pause().await?;
        silent.push((family, port, before, Instant::now(), exchange));
    }
    let began = Instant::now();
    let mut released = 0;
    while began.elapsed() < WATCHED || released < silent.len() {
        assert!(began.elapsed() < patient(2 * WATCHED), "silent flows stay");
        for (family, port, _) in &moving {
            let left = timeouts(scene, *family, "udp", *port).await?;
            assert_eq!(left.len(), 5, "port {port}");
            for left in left {
                assert!(left + SLACK >= REMEMBERED / 2, "{left} s are left");
            }
        }
        released = 0;
        for (family, port, before, after, _) in &silent {
            if offloaded(scene, *port).await? > 0 {
                continue;
            }
            released += 1;
            let least = before.elapsed().as_secs();
            let left = timeouts(scene, *family, "udp", *port).await?;
            let most = after.elapsed().as_secs();
            assert_eq!(left.len(), 5);
            for left in left {
                let silent = REMEMBERED.saturating_sub(left);
                assert!(
                    silent + SLACK >= most.min(least) && silent <= least + SLACK,
                    "{left} s are left after {most} to {least} s"
                );
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    for (_, port, exchange) in &moving {
        until_fast(scene, *port, exchange).await?;
    }
    for (_, port, _, _, exchange) in &silent {
        exchange.resume()?;
        exchange.go_on(2).await?;
        until_fast(scene, *port, exchange).await?;
    }
    Ok(())
}

/// The daemon is killed: soon all flows pass the stack, and nothing is lost. The next one has flows take
/// the fast path again.
pub(crate) async fn killed(case: &Case) -> Outcome {
    let scene = case.open(Lab::builder(), TWO).await?;
    let mut services = Vec::new();
    for (place, family) in (0_u16..).zip(Family::ALL) {
        for (port, protocol) in [(TCP, Protocol::Tcp), (UDP, Protocol::Udp)] {
            services.push((port + 10 * place, protocol, family));
        }
    }
    let ports: Vec<u16> = services.iter().map(|(port, ..)| *port).collect();
    observe(scene, &ports).await?;
    let mut known = Vec::new();
    for (port, protocol, family) in &services {
        let plan = Plan::calm(*protocol, 10);
        known.push((*port, fast_flows(scene, *family, *port, plan).await?));
    }
    let mut seen = Vec::new();
    for port in &ports {
        seen.push(observed(scene, *port).await?);
    }
    scene.kill_daemon().await?;
    let killed = Instant::now();
    // Their packets take the fast path for as long as the dead one had it lent to them.
    for ((port, exchange), seen) in known.iter().zip(&seen) {
        scene
            .eventually("netfilter sees the flows again", || async {
                Ok(observed(scene, *port).await? > *seen)
            })
            .await?;
        exchange.expect_whole();
    }
    tell(
        "all flows of a killed daemon pass the stack",
        killed.elapsed(),
    );
    for (port, exchange) in &known {
        let seen = observed(scene, *port).await?;
        exchange.go_on(ROUNDS).await?;
        let packets = observed(scene, *port).await? - seen;
        assert!(packets >= 2 * ROUNDS * 10, "{packets} of port {port}");
    }
    scene.run_daemon(TWO).await?;
    scene.until_all_up().await?;
    for (_, exchange) in &known {
        exchange.go_on(ROUNDS).await?;
    }
    for (port, protocol, family) in &services {
        let plan = Plan::calm(*protocol, 10);
        let newcomers = fast_flows(scene, *family, *port + 100, plan).await?;
        newcomers.go_on(ROUNDS).await?;
    }
    // Those that began while nobody had the kernel tell of their end, or may have, pass the stack.
    for (port, exchange) in &known {
        exchange.go_on(ROUNDS).await?;
        let told = listed(scene, *port).await?;
        assert_eq!(told.len(), 10, "{told:#?}");
        for flow in told {
            assert_eq!(flow.fastpath.as_deref(), Some("old"), "{flow:?}");
        }
    }
    scene.expect_no_strays_since(None)
}
