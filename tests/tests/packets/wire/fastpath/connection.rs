//! A connection between real sockets, which send packets that stand for many.

use std::io;
use std::net::SocketAddr;

use failover_common::Affinity;
use failover_common::lifetime::protocol::TCP;
use failover_tests::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::{PLACE, line};
use crate::gateway::{BOTH, ends, length};
use crate::trial::TestResult;
use crate::wire::{Attached, MASQUERADE, PATIENCE};

/// Bytes each way.
const BULK: usize = 8 << 20;

pub(super) async fn connection() -> TestResult {
    let mut attached = Attached::new().await?;
    attached.gateway().nft(MASQUERADE).await?;
    // It sees the end of a connection of which it has not seen the middle.
    let liberal = "net/netfilter/nf_conntrack_tcp_be_liberal";
    attached.gateway().set_sysctl(liberal, "1").await?;
    for family in BOTH {
        attached.programs.select(family, Affinity::Flow, &[1])?;
        let server = SocketAddr::new(ends(family).outside, 7201);
        let internet = attached.stand.lab().internet().node();
        let listener = internet
            .run(move || async move { TcpListener::bind(server).await })
            .await??;
        let (served, done) = oneshot::channel();
        internet.start_task(move || async move {
            // The test has failed already if nobody waits.
            served.send(serve(listener).await).ok();
        })?;
        let client = attached.stand.lab().client(1)?.node();
        let stream = client
            .run(move || async move {
                let mut stream = TcpStream::connect(server).await?;
                stream.write_all(b"?").await?;
                stream.read_u8().await?;
                stream.into_std()
            })
            .await??;
        let port = stream.local_addr()?.port();
        let line = line(family, TCP, port, port, server);
        attached.offload(&line).await?;
        let before = attached.programs.totals()?;
        let stack = attached.seen("sure").await?;
        let client = attached.stand.lab().client(1)?.node();
        let asked = client.run(move || async move {
            let mut stream = TcpStream::from_std(stream)?;
            upload(&mut stream).await?;
            download(&mut stream).await
        });
        within("all is sent and received", 4 * PATIENCE, asked).await???;
        within("the server is done", PATIENCE, done).await???;
        let (fast, _) = attached.fast_since(before)?;
        let flow = attached.flow(&line.key()).await?;
        let moved = attached.programs.pair(PLACE.slot)?.moved;
        let what = format!("{family:?}: {fast} packets, {flow:?}, {moved:?}");
        assert!(flow.out_bytes >= length(BULK), "{what}");
        assert!(moved.back_bytes + flow.in_bytes >= length(BULK), "{what}");
        // Beside these are the beginning of the connection and its end, with which some data comes.
        const REST: u64 = 100;
        assert!(
            fast + REST >= flow.out_packets + moved.back_packets,
            "{what}"
        );
        assert!(flow.in_packets < REST, "{what}");
        let stack = attached.seen("sure").await? - stack;
        assert!(stack < REST, "{what}: the stack saw {stack}");
    }
    Ok(())
}

async fn serve(listener: TcpListener) -> io::Result<()> {
    let (mut stream, _) = listener.accept().await?;
    stream.read_u8().await?;
    stream.write_all(b"!").await?;
    download(&mut stream).await?;
    upload(&mut stream).await
}

const CHUNK: usize = 64 * 1024;

/// What stands at a place of the stream.
fn content(place: usize) -> u8 {
    u8::try_from(place % 251).unwrap_or_default()
}

async fn upload(stream: &mut TcpStream) -> io::Result<()> {
    for chunk in 0..BULK / CHUNK {
        let bytes: Vec<u8> = (chunk * CHUNK..(chunk + 1) * CHUNK).map(content).collect();
        stream.write_all(&bytes).await?;
    }
    stream.flush().await
}

async fn download(stream: &mut TcpStream) -> io::Result<()> {
    let mut place = 0;
    let mut buffer = vec![0; CHUNK];
    while place < BULK {
        let count = match stream.read(&mut buffer).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => count,
        };
        let wrong = (place..).zip(&buffer).take(count);
        if wrong
            .into_iter()
            .any(|(place, byte)| content(place) != *byte)
        {
            return Err(io::ErrorKind::InvalidData.into());
        }
        place += count;
    }
    Ok(())
}
