//! A record of the echo requests that reach the internet. The kernel answers them; this only
//! listens, so that the client of an ICMP flow can learn by which address it was seen, as it does
//! from the servers' answers over UDP and TCP.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use failover_common::family::Family;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::Notify;

use crate::error::LabError;
use crate::node::Node;

/// What the payload of the lab's own echo requests begins with; eight bytes of token follow.
pub(crate) const MAGIC: [u8; 8] = *b"failover";

/// Requests of a burst of all clients at once, in bytes of the receive buffer.
const RECEIVE_BUFFER: usize = 16 << 20;
/// The largest IPv4 header and more than an echo request's head.
const LONGEST_HEAD: usize = 128;

/// ICMP type of an echo request (RFC 792).
const ECHO_REQUEST_V4: u8 = 8;
/// `ICMPv6` type of an echo request (RFC 4443).
const ECHO_REQUEST_V6: u8 = 128;

/// Who asked.
#[derive(Debug, Default)]
pub(crate) struct EchoLog {
    seen: Mutex<Seen>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Seen {
    by_token: HashMap<u64, IpAddr>,
    requests: HashMap<IpAddr, u64>,
}

impl EchoLog {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, source: IpAddr, token: Option<u64>) {
        let mut seen = self.lock();
        *seen.requests.entry(source).or_default() += 1;
        if let Some(token) = token {
            seen.by_token.insert(token, source);
            drop(seen);
            self.changed.notify_waiters();
        }
    }

    pub(super) fn requests(&self) -> HashMap<IpAddr, u64> {
        self.lock().requests.clone()
    }

    /// By which address the request with `token` came. Asked once per token, after its reply: the
    /// request was there before, but perhaps is not recorded yet.
    pub(crate) async fn take(&self, token: u64, limit: Duration) -> Option<IpAddr> {
        let found = async {
            loop {
                let changed = self.changed.notified();
                if let Some(source) = self.lock().by_token.remove(&token) {
                    return source;
                }
                changed.await;
            }
        };
        tokio::time::timeout(limit, found).await.ok()
    }
}

/// Starts recording on a node.
pub(super) async fn record(node: &Node, log: &Arc<EchoLog>) -> Result<(), LabError> {
    for family in Family::ALL {
        let log = Arc::clone(log);
        node.run(move || async move {
            let socket = open(family)?;
            tokio::task::spawn_local(listen(socket, family, log));
            Ok::<(), io::Error>(())
        })
        .await?
        .map_err(LabError::io(format!("listen for {family} echo requests")))?;
    }
    Ok(())
}

/// A raw socket. tokio has no type of its own for it; as far as reading goes it behaves as a UDP
/// socket does.
fn open(family: Family) -> io::Result<UdpSocket> {
    let (domain, protocol) = match family {
        Family::Ipv4 => (Domain::IPV4, Protocol::ICMPV4),
        Family::Ipv6 => (Domain::IPV6, Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER)?;
    UdpSocket::from_std(socket.into())
}

async fn listen(socket: UdpSocket, family: Family, log: Arc<EchoLog>) {
    let mut buffer = [0_u8; LONGEST_HEAD];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, source)) => {
                let packet = buffer.get(..length).unwrap_or_default();
                if let Some(request) = EchoRequest::parse(family, packet) {
                    log.add(source.ip(), request.token);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "the record of echo requests has a gap");
                tokio::task::yield_now().await;
            }
        }
    }
}

/// An echo request.
#[derive(Debug, PartialEq, Eq)]
struct EchoRequest {
    /// The token, if it is one of the lab's own.
    token: Option<u64>,
}

impl EchoRequest {
    /// Reads a packet as a raw socket returns it: with the IP header for IPv4, without for IPv6.
    /// `None` for every other message.
    fn parse(family: Family, packet: &[u8]) -> Option<Self> {
        let (message, wanted) = match family {
            Family::Ipv4 => {
                let header = usize::from(packet.first()? & 0x0f) * 4;
                (packet.get(header..)?, ECHO_REQUEST_V4)
            }
            Family::Ipv6 => (packet, ECHO_REQUEST_V6),
        };
        if *message.first()? != wanted {
            return None;
        }
        let token = message
            .get(8..)
            .and_then(|payload| payload.strip_prefix(&MAGIC))
            .and_then(|rest| rest.first_chunk::<8>())
            .map(|token| u64::from_be_bytes(*token));
        Some(Self { token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_token_behind_options() {
        let mut packet = vec![0x46; 24];
        packet.extend([8, 0, 0, 0, 0, 1, 0, 1]);
        packet.extend(MAGIC);
        packet.extend(77_u64.to_be_bytes());
        let request = EchoRequest::parse(Family::Ipv4, &packet);
        assert_eq!(request, Some(EchoRequest { token: Some(77) }));
    }

    #[test]
    fn foreign_requests_have_no_token_and_replies_are_none() {
        let mut message = vec![128, 0, 0, 0, 0, 1, 0, 1, 9, 9];
        let request = EchoRequest::parse(Family::Ipv6, &message);
        assert_eq!(request, Some(EchoRequest { token: None }));
        message[0] = 129;
        assert_eq!(EchoRequest::parse(Family::Ipv6, &message), None);
        assert_eq!(EchoRequest::parse(Family::Ipv4, &[]), None);
    }
}
