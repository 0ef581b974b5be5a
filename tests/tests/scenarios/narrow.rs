//! Uplinks whose interfaces, or ways behind them, let only smaller packets through.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, Node, ProgramSpec, addressing, patient, within};
use nix::sys::socket::{getsockopt, sockopt::TcpMaxSeg};
use tokio::net::{TcpListener, UdpSocket};

use crate::Outcome;
use crate::case::Case;
use crate::inbound;
use crate::scene::{PATIENT, Scene};
use crate::service::{connect, connect_udp};

/// The second is the reserve of the first.
const TWO: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2, priority: 2}
downlinks: [lan0]
";
const PORT: u16 = 8080;
/// What a segment's data lose to the option for timestamps, which both sides use (RFC 7323).
const TIMESTAMPS: u32 = 12;

/// TCP uses segments that fit the uplink that the connection takes, whoever began it.
pub(crate) async fn segments(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(2), TWO).await?;
    expect_segments(scene, family, 1, 1500).await?;

    narrow(scene, 1, 1400).await?;
    expect_segments(scene, family, 1, 1400).await?;
    narrow(scene, 2, 1300).await?;
    scene.uplink(1)?.black_hole().await?;
    scene.until_state(1, family, State::Down).await?;
    expect_segments(scene, family, 2, 1300).await?;
    narrow(scene, 2, 1500).await?;
    expect_segments(scene, family, 2, 1500).await?;

    narrow(scene, 2, 1300).await?;
    expect_segments(scene, family, 2, 1300).await?;
    scene.reload(&format!("{TWO}flows: {{mss: off}}\n")).await?;
    expect_segments(scene, family, 2, 1500).await
}

/// Makes both ends of an uplink's link narrow, and waits until the rules know.
async fn narrow(scene: &Scene, number: u8, mtu: u32) -> Outcome {
    let uplink = scene.uplink(number)?;
    let ours = format!("ip link set {} mtu {mtu}", uplink.interface());
    scene.in_gateway(&ours).await?;
    let provider = uplink.provider();
    let theirs = format!("ip link set access mtu {mtu}");
    provider.must(ProgramSpec::line(&theirs)).await?;
    let any = format!("\"{}\" : jump mss_", uplink.interface());
    let known = format!("{any}{}", mtu - 40);
    scene
        .eventually("the rules know the MTU", || async {
            let rules = scene.in_gateway("nft list table inet failover").await?;
            Ok(rules.contains(if mtu < 1500 { &known } else { &any }) == (mtu < 1500))
        })
        .await
}

/// A connection from inside and one from outside by an uplink use segments of its size.
async fn expect_segments(scene: &Scene, family: Family, number: u8, mtu: u32) -> Outcome {
    let header = match family {
        Family::Ipv4 => 40,
        Family::Ipv6 => 60,
    };
    let fits = mtu - header - TIMESTAMPS..=mtu - header;
    let client = scene.client()?;
    let internet = scene.lab.internet().node();
    let server = *addressing::servers(family).first().ok_or("no server")?;

    let at = SocketAddr::new(server, PORT);
    let sizes = connection(internet, at, client.node(), None, at).await?;
    expect(&sizes, &fits, "from inside");

    let own = client.address(family).ok_or("no address")?;
    let public = scene.uplink(number)?.gateway_address(family);
    let public = SocketAddr::new(public.ok_or("no address")?, PORT);
    inbound::forward_to_client(scene, "tcp", family, PORT).await?;
    let at = SocketAddr::new(own, PORT);
    let sizes = connection(client.node(), at, internet, Some(server), public).await?;
    scene.in_gateway("nft delete table ip users_own").await.ok();
    scene
        .in_gateway("nft delete table ip6 users_own")
        .await
        .ok();
    expect(&sizes, &fits, "from outside");
    Ok(())
}

fn expect(sizes: &[u32; 2], fits: &RangeInclusive<u32>, what: &str) {
    assert!(
        sizes.iter().all(|size| fits.contains(size)),
        "segments of {sizes:?} on a connection {what}, {fits:?} fit"
    );
}

/// Connects, and says how large the segments are that the listener and the other side would send.
async fn connection(
    listens: &Node,
    at: SocketAddr,
    connects: &Node,
    from: Option<IpAddr>,
    to: SocketAddr,
) -> Result<[u32; 2], Box<dyn std::error::Error>> {
    let listener = listens
        .run(move || async move { TcpListener::bind(at).await })
        .await??;
    let (stream, (accepted, _)) = within("a connection", PATIENT, async {
        let connected = connects.run(move || connect(from, to));
        let accepted = async { Ok::<_, io::Error>(listener.accept().await) };
        tokio::join!(connected, accepted)
    })
    .await
    .map(|(connected, accepted)| {
        Ok::<_, Box<dyn std::error::Error>>((connected??, accepted??))
    })??;
    Ok([
        getsockopt(&accepted, TcpMaxSeg)?,
        getsockopt(&stream, TcpMaxSeg)?,
    ])
}

/// The provider's interface to the internet.
const CORE: &str = "core";
/// Data that fit through the first uplink only, and data that fit through the second, but not through
/// what is behind it.
const LARGE: [usize; 2] = [1420, 1340];

/// Large datagrams of a flow that moves to an uplink with a smaller MTU, and on through an even
/// smaller one, arrive as soon as the client was told what fits.
pub(crate) async fn discovery(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(2), TWO).await?;
    narrow(scene, 2, 1400).await?;
    let provider = scene.uplink(2)?.provider();
    let internet = scene.lab.internet().node();
    for (node, interface) in [(provider, CORE), (internet, "prov2")] {
        let further = format!("ip link set {interface} mtu 1300");
        node.must(ProgramSpec::line(&further)).await?;
    }

    let server = *addressing::servers(family).first().ok_or("no server")?;
    let at = SocketAddr::new(server, PORT);
    let service = internet
        .run(move || async move { UdpSocket::bind(at).await })
        .await??;
    internet.start_task(move || async move {
        let mut question = [0; 2048];
        while let Ok((length, peer)) = service.recv_from(&mut question).await {
            // Who is gone needs no answer.
            let answer = question.get(..length).unwrap_or_default();
            drop(service.send_to(answer, peer).await);
        }
    })?;
    let client = scene.client()?.node();
    let socket = client.run(move || connect_udp(at)).await??;
    until_answered(&socket, LARGE[0]).await?;
    assert_eq!(path_mtu(client, server).await?, None);

    scene.uplink(1)?.black_hole().await?;
    scene.until_state(1, family, State::Down).await?;
    for length in LARGE {
        until_answered(&socket, length).await?;
    }
    assert_eq!(path_mtu(client, server).await?.as_deref(), Some("1300"));
    scene.expect_no_strays_since(None)
}

/// Asks with large datagrams again and again, until one is answered. Some are lost while each side
/// learns what fits.
async fn until_answered(socket: &UdpSocket, length: usize) -> Outcome {
    const EACH: Duration = Duration::from_millis(200);
    let exchange = async {
        let mut answer = [0; 2048];
        loop {
            // The error is that of the datagram before: the path is narrower.
            drop(socket.send(&vec![7; length]).await);
            let answered = tokio::time::timeout(patient(EACH), socket.recv(&mut answer)).await;
            if answered.is_ok_and(|found| found.is_ok_and(|found| found == length)) {
                return;
            }
        }
    };
    within("a large datagram is answered", PATIENT, exchange).await?;
    Ok(())
}

/// What a node was told of the way to an address.
pub(crate) async fn path_mtu(
    node: &Node,
    to: IpAddr,
) -> Result<Option<String>, Box<dyn std::error::Error>> {
    let route = node
        .must(ProgramSpec::line(&format!("ip route get {to}")))
        .await?;
    let mut words = route.split_whitespace().skip_while(|word| *word != "mtu");
    Ok(words.nth(1).map(str::to_owned))
}
