//! Far more flows than the flow table holds.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use failover::family::Family;
use failover_tests::addressing::servers;
use failover_tests::daemon::FlowTable;
use failover_tests::{Lab, LabError, Node, Protocol, Tally, Traffic, is_slow};

use crate::Outcome;
use crate::case::Case;
use crate::fastpath::exchange::{Exchange, Plan};
use crate::fastpath::looking::{self, offloaded};
use crate::scene::{PATIENT, Scene, THREE};
use crate::steering::Steering;

const FLOWS: [(Protocol, usize); 3] = [
    (Protocol::Udp, 60),
    (Protocol::Tcp, 60),
    (Protocol::Icmp, 30),
];

/// The size of the flow table by default.
const CAPACITY: u64 = 262_144;
/// A million flows: from so many sources to so many ports of each of four servers, in so many waves.
const SOURCES: u16 = 4;
const PORTS: u16 = 62_500;
const WAVES: u16 = 20;

/// By so much everything is smaller where the million would take minutes.
fn part() -> u16 {
    if is_slow() { 5 } else { 1 }
}

/// Another client opens a million flows. The first one's stay where they are, since they are in use;
/// new ones are steered as ever.
pub(crate) async fn a_million_flows(case: &Case, family: Family) -> Outcome {
    let lab = Lab::builder().uplinks(3).clients(2).capture(false);
    let wanted = CAPACITY / u64::from(part());
    let smaller = format!("{THREE}flows: {{capacity: {wanted}}}\n");
    let config = if part() == 1 { THREE } else { &smaller };
    let scene = case.open(lab, config).await?;
    let gateway = scene.lab.gateway().node();
    // So that connection tracking, whose size is the whole machine's, has room for all of them.
    gateway
        .set_sysctl("net/netfilter/nf_conntrack_udp_timeout", "1")
        .await?;
    let flows = scene.converse(family, &FLOWS).await?;
    let fast = match scene.steering() {
        Steering::FastPath => Some(fast_flows(scene, family).await?),
        Steering::Classic | Steering::Ebpf => None,
    };
    let flooder = scene.lab.client(2)?.node();
    for wave in 0..WAVES {
        flood(flooder, family, wave, PORTS / part() / WAVES).await?;
        flows.expect_unmoved(&[1, 2, 3]).await?;
        if let Some(fast) = &fast {
            expect_fast(scene, fast).await?;
        }
    }
    let table = (scene.daemon()?.status().await?.flow_table).ok_or("no flow table is told of")?;
    let FlowTable {
        capacity,
        entries,
        live,
        entered,
        evicted,
        held_off,
    } = table;
    assert_eq!(capacity, wanted);
    let sent = u64::from(SOURCES) * u64::from(PORTS / part()) * 4;
    assert!(held_off > 0 && entered + held_off >= sent, "{table:?}");
    assert_eq!(evicted, entered - entries);
    assert!(entries <= capacity && entries > capacity / 8, "{table:?}");
    assert!(live <= entries && live >= 150, "{live} live");

    let tally = scene.new_flows(Protocol::Udp, family, 1200).await?;
    for uplink in 1..=3 {
        assert!((320..=480).contains(&tally.on(uplink)), "{tally}");
    }
    flows.expect_unmoved(&[1, 2, 3]).await?;
    // Also of the client with the million.
    let traffic = Traffic::new(Protocol::Tcp, family, 30).within(PATIENT);
    let asked = scene.lab.client(2)?.burst(traffic).await?;
    assert_eq!(Tally::of(&asked).answered(), 30);
    Ok(())
}

/// Where some flows go that take the fast path: the flood goes to lower ports.
const FAST: u16 = 64_000;

/// Flows that take the fast path.
async fn fast_flows(scene: &Scene, family: Family) -> Result<Exchange, Box<dyn std::error::Error>> {
    let plan = Plan::calm(Protocol::Udp, 50);
    looking::fast_flows(scene, family, FAST, plan).await
}

/// All of them take it still, and nothing of them is lost.
async fn expect_fast(scene: &Scene, fast: &Exchange) -> Outcome {
    fast.expect_whole();
    assert_eq!(offloaded(scene, FAST).await?, fast.len());
    Ok(())
}

/// One wave: a packet of each flow, to so many ports.
async fn flood(node: &Node, family: Family, wave: u16, ports: u16) -> Result<(), LabError> {
    let work = move || -> std::io::Result<()> {
        let any: IpAddr = match family {
            Family::Ipv4 => [0; 4].into(),
            Family::Ipv6 => [0; 16].into(),
        };
        let first = 1024 + wave * ports;
        for source in 0..SOURCES {
            let socket = UdpSocket::bind(SocketAddr::new(any, 20_000 + source))?;
            for server in servers(family) {
                for port in first..first + ports {
                    send(&socket, SocketAddr::new(server, port))?;
                }
            }
        }
        Ok(())
    };
    let sent = node.run(move || async move { work() }).await?;
    sent.map_err(|source| LabError::Io {
        what: "send a wave of packets".to_owned(),
        source,
    })
}

/// Nobody listens there: the kernel tells the socket about one of the last packets instead of sending
/// this one.
fn send(socket: &UdpSocket, to: SocketAddr) -> std::io::Result<()> {
    loop {
        match socket.send_to(b"?", to) {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            other => return other.map(drop),
        }
    }
}
