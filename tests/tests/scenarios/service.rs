//! Services on a node of the lab, and visitors to them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use failover::family::Family;
use failover_tests::Node;
use failover_tests::addressing::any;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::scene::PATIENT;

/// Longer than an address and a port are.
const GREETING: usize = 64;

/// Starts a service on all addresses of a node; it tells every visitor by which address it sees
/// him.
pub(crate) async fn start(node: &Node, port: u16) -> Result<(), Box<dyn std::error::Error>> {
    let listener = node
        .run(move || async move {
            // Of both families, unless the system says otherwise.
            TcpListener::bind(format!("[::]:{port}")).await
        })
        .await??;
    node.start_task(move || greet(listener))?;
    Ok(())
}

async fn greet(listener: TcpListener) {
    while let Ok((mut stream, peer)) = listener.accept().await {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        tokio::task::spawn_local(async move {
            let mut request = [0_u8; 1];
            // A visitor who is gone needs no answer.
            while stream.read_exact(&mut request).await.is_ok() {
                let mut greeting = peer.to_string().into_bytes();
                greeting.resize(GREETING, b' ');
                if stream.write_all(&greeting).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// Starts a UDP service on all addresses of a node; it tells who asks by which address it sees him.
pub(crate) async fn start_udp(node: &Node, port: u16) -> Result<(), Box<dyn std::error::Error>> {
    let socket = node
        .run(move || async move { UdpSocket::bind(format!("[::]:{port}")).await })
        .await??;
    node.start_task(move || async move {
        let mut question = [0_u8; 1];
        while let Ok((_, peer)) = socket.recv_from(&mut question).await {
            let seen = SocketAddr::new(peer.ip().to_canonical(), peer.port());
            // Who is gone needs no answer.
            drop(socket.send_to(seen.to_string().as_bytes(), peer).await);
        }
    })?;
    Ok(())
}

/// Asks a UDP service by a connected socket, which takes answers from the address that it asked
/// only; returns the addresses by which the service saw it.
pub(crate) async fn ask_udp(
    node: &Node,
    from: IpAddr,
    to: SocketAddr,
    times: usize,
) -> Result<Vec<SocketAddr>, Box<dyn std::error::Error>> {
    let answers = node
        .run(move || async move {
            let socket = UdpSocket::bind(SocketAddr::new(from, 0)).await?;
            socket.connect(to).await?;
            let mut answers = Vec::new();
            for _ in 0..times {
                socket.send(b"?").await?;
                let mut answer = [0_u8; GREETING];
                let length = in_time(PATIENT, socket.recv(&mut answer)).await?;
                answers.push(answer.get(..length).unwrap_or_default().to_vec());
            }
            Ok::<_, io::Error>(answers)
        })
        .await?
        .map_err(|error| format!("no answer from {to}: {error}"))?;
    answers
        .iter()
        .map(|answer| Ok(std::str::from_utf8(answer)?.parse()?))
        .collect()
}

/// Somebody who is connected with a service.
pub(crate) struct Visitor {
    node: Node,
    stream: Option<TcpStream>,
}

impl Visitor {
    /// Connects from an address of a node; from the one that the kernel chooses if there is none
    /// given.
    pub(crate) async fn connect(
        node: &Node,
        from: Option<IpAddr>,
        to: SocketAddr,
    ) -> Result<Self, Box<dyn std::error::Error>> {
        let stream = node
            .run(move || in_time(PATIENT, connect(from, to)))
            .await?
            .map_err(|error| format!("cannot connect to {to}: {error}"))?;
        Ok(Self {
            node: node.clone(),
            stream: Some(stream),
        })
    }

    /// Asks by which address the service sees the visitor.
    pub(crate) async fn ask(&mut self) -> Result<SocketAddr, Box<dyn std::error::Error>> {
        let mut stream = self.stream.take().ok_or("the connection has failed")?;
        let (stream, greeting) = self
            .node
            .run(move || async move {
                let mut greeting = [0_u8; GREETING];
                in_time(PATIENT, async {
                    stream.write_all(b"?").await?;
                    stream.read_exact(&mut greeting).await
                })
                .await?;
                Ok::<_, io::Error>((stream, greeting))
            })
            .await??;
        self.stream = Some(stream);
        Ok(std::str::from_utf8(&greeting)?.trim_end().parse()?)
    }
}

/// Connects from an address; from the one that the kernel chooses if there is none given.
pub(crate) async fn connect(from: Option<IpAddr>, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = match to {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(to).await
}

/// Opens a socket that sends to an address by UDP, and hears nobody else.
pub(crate) async fn connect_udp(to: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((any(Family::of(to.ip())), 0)).await?;
    socket.connect(to).await?;
    Ok(socket)
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, work).await?
}
