//! Connections of real sockets, which send packets that stand for many.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};

use failover_common::Affinity;
use failover_common::lifetime::protocol::TCP;
use failover_tests::tun::Tun;
use failover_tests::within;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::oneshot;

use super::{line, next, remote, with_tun};
use crate::fastpath::{Line, Way};
use crate::frames::{ACK, Message, Packet, SYN};
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
        let before = attached.counted()?;
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
        let [out, back] = attached.moved(&line).await?;
        let what = format!("{family:?}: {fast} packets, {out:?}, {back:?}");
        assert!(out.1 >= length(BULK) && back.1 >= length(BULK), "{what}");
        // Beside these are the beginning of the connection and its end, with which some data comes.
        const REST: u64 = 100;
        assert!(fast + REST >= out.0 + back.0, "{what}");
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

/// Less than a host sends before it hears anything, in many segments.
const BURST: usize = 3000;

/// A connection with the TUN, which sees each segment with its checksum.
pub(super) async fn segments() -> TestResult {
    let (mut attached, mut tun) = with_tun().await?;
    attached.gateway().nft(MASQUERADE).await?;
    for family in BOTH {
        let line = line(family, TCP, 40_004, 40_004, remote(family));
        let stream = connect(&attached, &line, &mut tun).await?;
        attached.offload(&line).await?;
        let before = attached.counted()?;
        let client = attached.stand.lab().client(1)?.node();
        let _open = client
            .run(move || async move {
                let mut stream = TcpStream::from_std(stream)?;
                let bytes: Vec<u8> = (0..BURST).map(content).collect();
                stream.write_all(&bytes).await?;
                stream.into_std()
            })
            .await??;
        let mut found = BTreeMap::new();
        while found.values().sum::<usize>() < BURST {
            let segment = received(&line, &next(&mut tun, &line).await?)?;
            let data = segment.message.bytes.len().saturating_sub(20);
            found.insert(number(&segment.message, 4)?, data);
            let right = segment.clone().sealed();
            assert_eq!(segment.message.bytes, right.message.bytes, "{family:?}");
        }
        assert!(found.len() > 1, "{family:?}: {found:?}");
        let (fast, returned) = attached.fast_since(before)?;
        assert!(fast >= length(found.len()), "{family:?}: {fast}, {found:?}");
        assert_eq!(returned, 0, "{family:?}");
    }
    Ok(())
}

/// A packet of the flow behind the gateway, whose IP header is a plain one.
fn received(line: &Line, bytes: &[u8]) -> Result<Packet, Box<dyn Error>> {
    let header = match line.own.ip() {
        IpAddr::V4(_) => 20,
        IpAddr::V6(_) => 40,
    };
    let (own, far) = (line.own, line.far);
    let message = Message {
        protocol: TCP,
        bytes: bytes.get(header..).ok_or("no header")?.to_vec(),
    };
    let ports = [own.port().to_be_bytes(), far.port().to_be_bytes()].concat();
    assert_eq!(message.bytes.get(..4), Some(&ports[..]), "it is translated");
    Ok(Packet::new(own.ip(), far.ip(), message))
}

/// A number of four bytes in a TCP header.
fn number(message: &Message, at: usize) -> Result<u32, Box<dyn Error>> {
    let bytes = message.bytes.get(at..at + 4).ok_or("no header")?;
    Ok(u32::from_be_bytes(bytes.try_into()?))
}

/// A connection of the client's, which the TUN accepts without any options.
async fn connect(
    attached: &Attached,
    line: &Line,
    tun: &mut Tun,
) -> Result<std::net::TcpStream, Box<dyn Error>> {
    let client = attached.stand.lab().client(1)?.node();
    let (from, to) = (line.inside, line.outside);
    let connect = client.run(move || async move {
        let socket = match from {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.bind(from)?;
        socket.connect(to).await?.into_std()
    });
    let accept = async {
        let syn = received(line, &next(tun, line).await?)?;
        let expected = number(&syn.message, 4)?.wrapping_add(1);
        let mut accepted = line.packet(Way::Back, 0);
        accepted.message = Message::tcp(line.far.port(), line.own.port(), SYN | ACK);
        let bytes = &mut accepted.message.bytes;
        bytes.splice(8..12, expected.to_be_bytes());
        tun.deliver.send(accepted.sealed().bytes())?;
        // The SYN may be there twice.
        while received(line, &next(tun, line).await?)?
            .message
            .bytes
            .get(13)
            != Some(&ACK)
        {}
        Ok::<_, Box<dyn Error>>(())
    };
    let (stream, accepted) = tokio::join!(within("it is accepted", PATIENCE, connect), accept);
    accepted?;
    Ok(stream???)
}
