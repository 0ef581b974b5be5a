//! Packets that stand for many (GSO, GRO): counted as what they are on the wire, in one flow.

use std::io;
use std::net::SocketAddr;

use failover_common::lifetime::protocol::TCP;
use failover_common::{Affinity, Family, Flow};
use failover_tests::{Node, within};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::{Attached, MASQUERADE, PATIENCE};
use crate::gateway::{BOTH, ends, length};
use crate::trial::{SystemTest, TestResult};

pub(crate) fn trials() -> Vec<SystemTest> {
    vec![SystemTest::new("bulk_traffic_is_one_flow", bulk)]
}

const PORT: u16 = 7200;
/// Bytes each way.
const BULK: usize = 8 << 20;
/// The most that a packet has on the wire: the usual MTU and an Ethernet header.
const LONGEST: u64 = 1514;

async fn bulk() -> TestResult {
    let mut attached = Attached::new().await?;
    attached.gateway().nft(MASQUERADE).await?;
    for family in BOTH {
        attached.programs.select(family, Affinity::Flow, &[1])?;
        let before = attached.seen("ask").await? + attached.seen("sure").await?;
        let lab = attached.stand.lab();
        let server = SocketAddr::new(ends(family).outside, PORT);
        let local = exchange(lab.internet().node(), lab.client(1)?.node(), server).await?;
        let key = crate::frames::Ends {
            inside: local.ip(),
            outside: server.ip(),
        }
        .key(TCP, local.port(), PORT);
        let flow = attached.flow(&key).await?;
        let others = attached.programs.flows()?;
        let of_family = others.iter().filter(|key| key.family == family);
        assert_eq!(of_family.count(), 1, "it is one flow");
        assert_eq!((flow.uplink, flow.confirmed), (1, true));
        plausible(family, &flow)?;
        let marked = attached.seen("ask").await? + attached.seen("sure").await? - before;
        assert!(
            marked < flow.out_packets / 2,
            "{family:?}: {marked} packets for {} on the wire: nothing was offloaded",
            flow.out_packets
        );
        let counters = attached.programs.counters(1)?;
        assert!(counters.lan_in.packets >= flow.out_packets);
        assert!(counters.lan_out.packets >= flow.in_packets);
    }
    Ok(())
}

/// As many packets as the bytes need on the wire, in both directions.
fn plausible(family: Family, flow: &Flow) -> TestResult {
    for (direction, packets, bytes) in [
        ("out", flow.out_packets, flow.out_bytes),
        ("in", flow.in_packets, flow.in_bytes),
    ] {
        let what = format!("{family:?} {direction}: {packets} packets, {bytes} bytes");
        assert!(bytes >= length(BULK), "{what}: less than was sent");
        assert!(
            bytes <= length(BULK) * 11 / 10,
            "{what}: much more than was sent"
        );
        assert!(
            bytes <= packets * LONGEST,
            "{what}: longer than a packet can be"
        );
        // Acknowledgements are packets, too.
        assert!(packets <= 3 * bytes / LONGEST, "{what}: very short ones");
    }
    Ok(())
}

/// Sends much both ways over one connection, and returns the client's end.
async fn exchange(
    server: &Node,
    client: &Node,
    address: SocketAddr,
) -> Result<SocketAddr, Box<dyn std::error::Error>> {
    let (served, done) = oneshot::channel();
    let listener = server
        .run(move || async move { TcpListener::bind(address).await })
        .await??;
    server.start_task(move || async move {
        let result = serve(listener).await;
        // The test has failed already if nobody waits.
        served.send(result).ok();
    })?;
    let asked = client.run(move || async move {
        let mut stream = TcpStream::connect(address).await?;
        let local = stream.local_addr()?;
        send(&mut stream).await?;
        receive(&mut stream).await?;
        Ok::<_, io::Error>(local)
    });
    let local = within("all is sent and received", 4 * PATIENCE, asked).await???;
    within("the server is done", PATIENCE, done).await???;
    Ok(local)
}

async fn serve(listener: TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept().await?;
    receive(&mut stream).await?;
    send(&mut stream).await
}

async fn send(stream: &mut TcpStream) -> io::Result<()> {
    let chunk = vec![0x5a; 64 * 1024];
    for _ in 0..BULK / chunk.len() {
        stream.write_all(&chunk).await?;
    }
    stream.flush().await
}

async fn receive(stream: &mut TcpStream) -> io::Result<()> {
    let mut rest = BULK;
    let mut buffer = vec![0; 256 * 1024];
    while rest > 0 {
        match stream.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => rest = rest.saturating_sub(count),
        }
    }
    Ok(())
}
