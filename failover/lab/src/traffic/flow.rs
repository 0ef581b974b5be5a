//! One flow: opened once, asked as often as wanted.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use failover_common::family::Family;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use super::{Answer, AskError, Asked, Protocol};
use crate::addressing::any;
use crate::eventually::patient;
use crate::internet::{EchoLog, MAGIC};

/// Makes every question different from every other of the process, so that a late answer is never
/// taken for another one's.
static NEXT_QUESTION: AtomicU64 = AtomicU64::new(1);

/// The ports that flows come from. The kernel draws its own by chance, and one that it draws twice is
/// the same flow for a gateway, and rightly stays where it was.
const PORTS: RangeInclusive<u16> = 10_240..=60_999;

/// The port that the next flow of the process comes from.
static NEXT_PORT: AtomicU16 = AtomicU16::new(*PORTS.start());

/// How many ports are tried when other sockets of the node have them.
const PORTS_TRIED: usize = 64;

/// How long the record of echo requests may lag behind the kernel's replies.
const RECORD_LAG: Duration = Duration::from_secs(2);

/// Answers are short.
const LONGEST_ANSWER: usize = 512;

/// A flow, kept open until it is dropped.
#[derive(Debug)]
pub struct Flow {
    protocol: Protocol,
    family: Family,
    local: SocketAddr,
    channel: Channel,
    echoes: Arc<EchoLog>,
}

#[derive(Debug)]
enum Channel {
    Udp(UdpSocket),
    Tcp(Box<Connection>),
    Echo(UdpSocket),
}

#[derive(Debug)]
struct Connection {
    stream: BufReader<TcpStream>,
    /// The part of an answer that has come so far.
    line: Vec<u8>,
}

/// Where a flow goes and from where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) protocol: Protocol,
    pub(super) server: SocketAddr,
    pub(super) source: Option<IpAddr>,
}

impl Flow {
    /// Opens a flow; to be called on the thread of the node that it starts from.
    pub(super) async fn open(
        route: Route,
        limit: Duration,
        echoes: Arc<EchoLog>,
    ) -> Result<Self, AskError> {
        let family = Family::of(route.server.ip());
        let address = route.source.unwrap_or(any(family));
        let (channel, local) = match route.protocol {
            Protocol::Udp => {
                let socket = from_next_port(|port| {
                    let socket = std::net::UdpSocket::bind(SocketAddr::new(address, port))?;
                    socket.set_nonblocking(true)?;
                    UdpSocket::from_std(socket)
                })?;
                socket.connect(route.server).await?;
                let local = socket.local_addr()?;
                (Channel::Udp(socket), local)
            }
            Protocol::Tcp => {
                let socket = from_next_port(|port| {
                    let socket = match family {
                        Family::Ipv4 => TcpSocket::new_v4()?,
                        Family::Ipv6 => TcpSocket::new_v6()?,
                    };
                    socket.bind(SocketAddr::new(address, port))?;
                    Ok(socket)
                })?;
                let stream = timeout(patient(limit), socket.connect(route.server))
                    .await
                    .map_err(|_elapsed| AskError::Timeout)??;
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                let connection = Connection {
                    stream: BufReader::with_capacity(LONGEST_ANSWER, stream),
                    line: Vec::new(),
                };
                (Channel::Tcp(Box::new(connection)), local)
            }
            Protocol::Icmp => {
                let socket = echo_socket(family, SocketAddr::new(address, 0))?;
                socket
                    .connect(SocketAddr::new(route.server.ip(), 0))
                    .await?;
                let local = socket.local_addr()?;
                (Channel::Echo(socket), local)
            }
        };
        Ok(Self {
            protocol: route.protocol,
            family,
            local,
            channel,
            echoes,
        })
    }

    /// What it speaks.
    #[must_use]
    pub const fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// Its family.
    #[must_use]
    pub const fn family(&self) -> Family {
        self.family
    }

    /// Its own address and port; the port of an ICMP flow is its identifier.
    #[must_use]
    pub const fn local(&self) -> SocketAddr {
        self.local
    }

    /// Asks the server by which address it sees the flow.
    ///
    /// # Errors
    /// When no answer comes within `limit`, or the connection ends. A TCP flow that got no answer
    /// in time can be asked again, one that ended cannot.
    pub async fn ask(&mut self, limit: Duration) -> Asked {
        let question = NEXT_QUESTION.fetch_add(1, Ordering::Relaxed);
        let asked = Instant::now();
        let exchange = async {
            match &mut self.channel {
                Channel::Udp(socket) => ask_datagram(socket, question).await,
                Channel::Tcp(connection) => connection.ask(question).await,
                Channel::Echo(socket) => {
                    ask_echo(socket, self.family, question).await.map(|()| None)
                }
            }
        };
        let seen = timeout(patient(limit), exchange)
            .await
            .map_err(|_elapsed| AskError::Timeout)??;
        let answered = Instant::now();
        let seen = match seen {
            Some(seen) => seen,
            None => {
                let source = self.echoes.take(question, patient(RECORD_LAG)).await;
                let source = source.ok_or_else(|| {
                    AskError::Other("answered, but the internet has no record of it".to_owned())
                })?;
                SocketAddr::new(source, 0)
            }
        };
        Ok(Answer {
            seen,
            asked,
            answered,
        })
    }

    /// Waits without sending anything until the other side, or somebody in its name, ends the
    /// connection, and says how it ended. Only TCP flows end.
    ///
    /// # Errors
    /// [`AskError::Timeout`] when it is still open after `limit`.
    pub async fn wait_for_end(&mut self, limit: Duration) -> Result<AskError, AskError> {
        let Channel::Tcp(connection) = &mut self.channel else {
            return Err(AskError::Timeout);
        };
        let ended = async {
            loop {
                connection.line.clear();
                let length = connection
                    .stream
                    .read_until(b'\n', &mut connection.line)
                    .await?;
                if length == 0 {
                    return Err(AskError::Closed);
                }
            }
        };
        match timeout(patient(limit), ended).await {
            Ok(Ok(())) | Err(_) => Err(AskError::Timeout),
            Ok(Err(end)) => Ok(end),
        }
    }
}

impl Connection {
    async fn ask(&mut self, question: u64) -> Result<Option<SocketAddr>, AskError> {
        let request = format!("{question}\n");
        self.stream.get_mut().write_all(request.as_bytes()).await?;
        loop {
            if self.stream.read_until(b'\n', &mut self.line).await? == 0 {
                return Err(AskError::Closed);
            }
            let seen = parse(&self.line, question);
            self.line.clear();
            if seen.is_some() {
                return Ok(seen);
            }
        }
    }
}

/// Opens a socket on the next port that no other socket of the node has.
fn from_next_port<T>(open: impl Fn(u16) -> io::Result<T>) -> io::Result<T> {
    let mut opened = open(next_port());
    for _ in 1..PORTS_TRIED {
        match &opened {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => opened = open(next_port()),
            _ => break,
        }
    }
    opened
}

fn next_port() -> u16 {
    let following = |port: u16| {
        Some(if port == *PORTS.end() {
            *PORTS.start()
        } else {
            port + 1
        })
    };
    // Never refused: there is always a following one.
    let (Ok(port) | Err(port)) =
        NEXT_PORT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, following);
    port
}

async fn ask_datagram(
    socket: &mut UdpSocket,
    question: u64,
) -> Result<Option<SocketAddr>, AskError> {
    socket.send(format!("{question}\n").as_bytes()).await?;
    let mut buffer = [0_u8; LONGEST_ANSWER];
    loop {
        let length = socket.recv(&mut buffer).await?;
        let seen = parse(buffer.get(..length).unwrap_or_default(), question);
        if seen.is_some() {
            return Ok(seen);
        }
    }
}

/// The address in an answer, if it is the answer to `question`.
fn parse(answer: &[u8], question: u64) -> Option<SocketAddr> {
    let mut words = std::str::from_utf8(answer).ok()?.split_whitespace();
    let address = words.next()?.parse().ok()?;
    let port = words.next()?.parse().ok()?;
    let answered: u64 = words.next()?.parse().ok()?;
    (answered == question).then(|| SocketAddr::new(address, port))
}

/// A ping socket: the kernel gives it an identifier of its own, fills in the checksum and returns
/// only its own replies. tokio has no type for it; it reads and writes as a UDP socket does.
fn echo_socket(family: Family, from: SocketAddr) -> io::Result<UdpSocket> {
    let (domain, protocol) = match family {
        Family::Ipv4 => (Domain::IPV4, socket2::Protocol::ICMPV4),
        Family::Ipv6 => (Domain::IPV6, socket2::Protocol::ICMPV6),
    };
    let socket = Socket::new(domain, Type::DGRAM, Some(protocol))?;
    socket.set_nonblocking(true)?;
    socket.bind(&from.into())?;
    UdpSocket::from_std(socket.into())
}

async fn ask_echo(socket: &mut UdpSocket, family: Family, question: u64) -> Result<(), AskError> {
    let kind = match family {
        Family::Ipv4 => 8_u8,
        Family::Ipv6 => 128,
    };
    let mut request = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    request.extend(MAGIC);
    request.extend(question.to_be_bytes());
    socket.send(&request).await?;
    let mut buffer = [0_u8; LONGEST_ANSWER];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // The head has the socket's identifier in the reply, the rest is what was sent.
        if buffer.get(8..length) == request.get(8..) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_answer_to_the_question_counts() {
        assert_eq!(
            parse(b"198.18.11.2 4000 17\n", 17),
            Some(([198, 18, 11, 2], 4000).into())
        );
        assert_eq!(parse(b"198.18.11.2 4000 16\n", 17), None);
        assert_eq!(parse(b"198.18.11.2 40", 17), None);
    }
}
