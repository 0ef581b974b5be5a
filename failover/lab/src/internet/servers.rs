//! The servers: each answers a request with the address and port that it came from and the request
//! itself, so that a client learns by which uplink it is seen.
//!
//! A request is a line over TCP and a datagram over UDP: `PAYLOAD\n`. The answer is
//! `ADDRESS PORT PAYLOAD\n`.

use std::io;
use std::net::{IpAddr, SocketAddr};

use failover_common::family::Family;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use crate::addressing::{SERVER_PORT, servers};
use crate::error::LabError;
use crate::node::Node;

/// Connections that wait to be accepted: a burst of all clients at once.
const BACKLOG: i32 = 4096;
/// Datagrams of a burst of all clients at once, in bytes of the receive buffer.
const RECEIVE_BUFFER: usize = 16 << 20;
/// More than any request.
const LONGEST_REQUEST: usize = 2048;

/// Starts a UDP and a TCP server on every server address.
pub(super) async fn start(node: &Node) -> Result<(), LabError> {
    for address in Family::ALL.into_iter().flat_map(servers) {
        let at = SocketAddr::new(address, SERVER_PORT);
        node.run(move || async move { serve(at) })
            .await?
            .map_err(LabError::io(format!("start the servers at {at}")))?;
    }
    Ok(())
}

fn serve(at: SocketAddr) -> io::Result<()> {
    let udp = bound(at, Type::DGRAM, Protocol::UDP)?;
    setsockopt(&udp, RcvBufForce, &RECEIVE_BUFFER)?;
    let udp = UdpSocket::from_std(udp.into())?;
    let tcp = bound(at, Type::STREAM, Protocol::TCP)?;
    tcp.listen(BACKLOG)?;
    let tcp = TcpListener::from_std(tcp.into())?;
    tokio::task::spawn_local(answer_datagrams(udp));
    tokio::task::spawn_local(accept(tcp));
    Ok(())
}

fn bound(at: SocketAddr, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let domain = match at.ip() {
        IpAddr::V4(_) => Domain::IPV4,
        IpAddr::V6(_) => Domain::IPV6,
    };
    let socket = Socket::new(domain, kind, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    Ok(socket)
}

fn answer_to(peer: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut answer = format!("{} {} ", peer.ip(), peer.port()).into_bytes();
    answer.extend_from_slice(request);
    answer
}

async fn answer_datagrams(socket: UdpSocket) {
    let mut buffer = vec![0_u8; LONGEST_REQUEST];
    loop {
        // An error belongs to an earlier answer (its client is gone), not to the socket.
        let Ok((length, peer)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let request = buffer.get(..length).unwrap_or_default();
        if let Err(error) = socket.send_to(&answer_to(peer, request), peer).await {
            tracing::debug!(%peer, %error, "an answer could not be sent");
        }
    }
}

async fn accept(listener: TcpListener) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                tokio::task::spawn_local(async move {
                    if let Err(error) = converse(stream, peer).await {
                        tracing::debug!(%peer, %error, "a connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the server cannot accept a connection");
                tokio::task::yield_now().await;
            }
        }
    }
}

async fn converse(stream: TcpStream, peer: SocketAddr) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // Requests are short, and there may be thousands of connections.
    let mut stream = BufReader::with_capacity(256, stream);
    let mut request = Vec::new();
    loop {
        request.clear();
        if stream.read_until(b'\n', &mut request).await? == 0 {
            return Ok(());
        }
        stream
            .get_mut()
            .write_all(&answer_to(peer, &request))
            .await?;
    }
}
