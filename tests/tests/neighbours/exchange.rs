//! Questions and answers between any two nodes: who answered, and by which address the question was
//! seen.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use failover_tests::capture::{FlowKey, FlowProtocol};
use failover_tests::{LabError, Node, within};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::Mutex;

/// The port of the answerers. The lab's own servers have another.
pub(crate) const PORT: u16 = 7100;

/// Long for a lab, in which an answer takes less than a millisecond.
const PATIENCE: Duration = Duration::from_secs(2);

const LONGEST: usize = 256;

/// Makes every question different from every other, so that a late answer is never taken for
/// another one's.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Who answered a question, and how it was seen there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Answer {
    /// The name of the node that answered.
    pub(crate) by: String,
    /// The address from which the question came there.
    pub(crate) seen: IpAddr,
}

/// A question's way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) protocol: FlowProtocol,
    pub(crate) to: IpAddr,
    /// The address that the socket is bound to.
    pub(crate) source: Option<IpAddr>,
    /// The socket's mark (`SO_MARK`).
    pub(crate) mark: Option<u32>,
}

impl Question {
    pub(crate) fn udp(to: IpAddr) -> Self {
        Self {
            protocol: FlowProtocol::Udp,
            to,
            source: None,
            mark: None,
        }
    }

    pub(crate) fn tcp(to: IpAddr) -> Self {
        Self {
            protocol: FlowProtocol::Tcp,
            ..Self::udp(to)
        }
    }
}

/// An open socket of a node, over which a question can be asked again and again.
pub(crate) struct Talk {
    node: Node,
    local: SocketAddr,
    remote: SocketAddr,
    channel: Channel,
}

#[derive(Clone)]
enum Channel {
    Udp(Arc<UdpSocket>),
    Tcp(Arc<Mutex<BufReader<TcpStream>>>),
}

impl Talk {
    /// Opens a socket; over TCP the connection has to be accepted.
    pub(crate) async fn open(node: &Node, question: Question) -> Result<Self, LabError> {
        let remote = SocketAddr::new(question.to, PORT);
        let opened = node.run(move || async move {
            tokio::time::timeout(PATIENCE, connect(question, remote))
                .await
                .map_err(io::Error::from)?
        });
        let (channel, local) = opened.await?.map_err(|source| LabError::Io {
            what: format!("open {question:?} from node {}", node.name()),
            source,
        })?;
        Ok(Self {
            node: node.clone(),
            local,
            remote,
            channel,
        })
    }

    /// Addresses and ports, as the node sees them.
    pub(crate) fn flow(&self) -> FlowKey {
        FlowKey {
            protocol: match self.channel {
                Channel::Udp(_) => FlowProtocol::Udp,
                Channel::Tcp(_) => FlowProtocol::Tcp,
            },
            source: self.local,
            destination: self.remote,
        }
    }

    /// Sends a question and waits for no answer.
    pub(crate) async fn say(&self) -> Result<(), LabError> {
        let what = format!("send from {} to {}", self.local, self.remote);
        let channel = self.channel.clone();
        self.node
            .run(move || async move { channel.send(NEXT.fetch_add(1, Ordering::Relaxed)).await })
            .await?
            .map_err(|source| LabError::Io { what, source })
    }

    /// Asks, and returns the answer, or why there is none.
    pub(crate) async fn ask(&self) -> Result<Result<Answer, String>, LabError> {
        let what = format!("an answer from {} to {}", self.remote, self.local);
        let channel = self.channel.clone();
        let exchange = self.node.run(move || async move {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            channel.send(number).await?;
            loop {
                if let Some(answer) = parse(&channel.receive().await?, number) {
                    return Ok::<_, io::Error>(answer);
                }
            }
        });
        match within(&what, PATIENCE, exchange).await {
            Ok(answer) => Ok(answer?.map_err(|error| error.to_string())),
            Err(late) => Ok(Err(late.to_string())),
        }
    }
}

impl Channel {
    async fn send(&self, number: u64) -> io::Result<()> {
        let question = format!("{number}\n");
        match self {
            Self::Udp(socket) => socket.send(question.as_bytes()).await.map(drop),
            Self::Tcp(stream) => {
                let mut stream = stream.lock().await;
                stream.get_mut().write_all(question.as_bytes()).await
            }
        }
    }

    async fn receive(&self) -> io::Result<Vec<u8>> {
        match self {
            Self::Udp(socket) => {
                let mut buffer = [0; LONGEST];
                let length = socket.recv(&mut buffer).await?;
                Ok(buffer.get(..length).unwrap_or_default().to_vec())
            }
            Self::Tcp(stream) => {
                let mut line = Vec::new();
                let length = stream.lock().await.read_until(b'\n', &mut line).await?;
                if length == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                Ok(line)
            }
        }
    }
}

async fn connect(question: Question, remote: SocketAddr) -> io::Result<(Channel, SocketAddr)> {
    let any = match remote {
        SocketAddr::V4(_) => IpAddr::from([0; 4]),
        SocketAddr::V6(_) => IpAddr::from([0_u16; 8]),
    };
    let from = SocketAddr::new(question.source.unwrap_or(any), 0);
    let domain = Domain::for_address(remote);
    match question.protocol {
        FlowProtocol::Udp => {
            let socket = Socket::new(domain, Type::DGRAM, None)?;
            prepare(&SockRef::from(&socket), question)?;
            socket.bind(&from.into())?;
            let socket = UdpSocket::from_std(socket.into())?;
            socket.connect(remote).await?;
            let local = socket.local_addr()?;
            Ok((Channel::Udp(socket.into()), local))
        }
        FlowProtocol::Tcp => {
            let socket = match remote {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            prepare(&SockRef::from(&socket), question)?;
            if question.source.is_some() {
                socket.bind(from)?;
            }
            let stream = socket.connect(remote).await?;
            let local = stream.local_addr()?;
            let stream = Mutex::new(BufReader::new(stream));
            Ok((Channel::Tcp(stream.into()), local))
        }
        FlowProtocol::Echo => Err(io::ErrorKind::Unsupported.into()),
    }
}

fn prepare(socket: &SockRef<'_>, question: Question) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    match question.mark {
        Some(mark) => socket.set_mark(mark),
        None => Ok(()),
    }
}

/// The answer `NODE ADDRESS NUMBER`, if it is to the question of that number.
fn parse(line: &[u8], number: u64) -> Option<Answer> {
    let mut words = std::str::from_utf8(line).ok()?.split_whitespace();
    let answer = Answer {
        by: words.next()?.to_owned(),
        seen: words.next()?.parse().ok()?,
    };
    (words.next()?.parse() == Ok(number)).then_some(answer)
}

fn answer_to(peer: SocketAddr, name: &str, question: &[u8]) -> Vec<u8> {
    let mut answer = format!("{name} {} ", peer.ip()).into_bytes();
    answer.extend_from_slice(question);
    answer
}

/// Answers questions over UDP and TCP at an address of a node, with the node's name and the address
/// of who asks.
pub(crate) async fn answer_at(node: &Node, address: IpAddr) -> Result<(), LabError> {
    let name = node.name().to_owned();
    let at = SocketAddr::new(address, PORT);
    node.run(move || async move {
        let udp = UdpSocket::bind(at).await?;
        let tcp = TcpListener::bind(at).await?;
        tokio::task::spawn_local(datagrams(udp, name.clone()));
        tokio::task::spawn_local(connections(tcp, name));
        Ok::<(), io::Error>(())
    })
    .await?
    .map_err(|source| LabError::Io {
        what: format!("answer at {at} on node {}", node.name()),
        source,
    })
}

async fn datagrams(socket: UdpSocket, name: String) {
    let mut buffer = [0; LONGEST];
    loop {
        // An error belongs to an earlier answer, not to the socket.
        if let Ok((length, peer)) = socket.recv_from(&mut buffer).await {
            let answer = answer_to(peer, &name, buffer.get(..length).unwrap_or_default());
            socket.send_to(&answer, peer).await.ok();
        }
    }
}

async fn connections(listener: TcpListener, name: String) {
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            continue;
        };
        let name = name.clone();
        tokio::task::spawn_local(async move {
            let mut stream = BufReader::new(stream);
            let mut question = Vec::new();
            while matches!(stream.read_until(b'\n', &mut question).await, Ok(length) if length > 0)
            {
                let answer = answer_to(peer, &name, &question);
                // A client that has gone wants no answer.
                stream.get_mut().write_all(&answer).await.ok();
                question.clear();
            }
        });
    }
}
