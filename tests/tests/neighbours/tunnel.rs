//! A VPN of the user: a TUN interface of the gateway whose packets travel over UDP through an
//! uplink to a server in the internet, and on to the network behind it.
//!
//! ```text
//!  client ── lan0 ─┬─ gateway ─┬─ wan1 … ── internet: the VPN's server ── far network (node `far`)
//!                  │           └─ tun0 ════════ over UDP ════════╝
//! ```

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use failover_tests::addressing::InterfaceAddress;
use failover_tests::capture::FlowKey;
use failover_tests::{Lab, LabError, Node, ProgramSpec};
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::exchange::answer_at;

/// The interface of the gateway.
pub(crate) const INTERFACE: &str = "tun0";
/// The gateway's own address in the VPN.
pub(crate) const OWN: &str = "198.51.100.1";
/// A host in the far network.
pub(crate) const FAR: &str = "198.51.100.7";
/// A host in a subnet that is reached by the VPN, in the midst of one that is local.
pub(crate) const SUBNET: &str = "192.0.2.9";
/// An address in the internet that exists there and, for those who go through the VPN, behind it.
pub(crate) const EXIT: &str = "203.0.113.11";
/// The VPN's server.
const SERVER: &str = "203.0.113.14:51820";

/// More than an inner packet.
const LONGEST: usize = 4096;

/// The VPN at work. It ends with the lab's nodes.
pub(crate) struct Tunnel {
    /// The far network.
    pub(crate) far: Node,
    entered: Arc<Mutex<BTreeSet<Entered>>>,
    arrived: Arc<Mutex<Vec<SocketAddr>>>,
}

/// What tells one flow from another, in an order.
type Entered = (String, SocketAddr, SocketAddr);

fn entered(key: &FlowKey) -> Entered {
    (format!("{:?}", key.protocol), key.source, key.destination)
}

/// How the outer packets are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outer {
    /// The socket's mark, by which the VPN's rules keep it out of the VPN.
    pub(crate) mark: u32,
    /// Whether the socket keeps the source address that it got first, or gets one with each packet.
    pub(crate) connected: bool,
}

impl Tunnel {
    /// Makes the interface, without any route or rule, and the far network.
    pub(crate) async fn open(lab: &Lab, outer: Outer) -> Result<Self, LabError> {
        let gateway = lab.gateway().node();
        let far = Node::new("far").await?;
        far.set_sysctl("net/ipv4/conf/all/rp_filter", "0").await?;
        for address in [FAR, SUBNET, EXIT] {
            far.add_address("lo", host(address)).await?;
            answer_at(&far, host(address).address).await?;
        }
        let near_tun = gateway.add_tun(INTERFACE).await?;
        let far_tun = far.add_tun(INTERFACE).await?;
        far.must(ProgramSpec::line(
            "ip route add default dev tun0 src 198.51.100.7",
        ))
        .await?;
        gateway.add_address(INTERFACE, host(OWN)).await?;

        let all = Arc::new(Mutex::new(BTreeSet::new()));
        let log = Arc::clone(&all);
        gateway
            .run(move || async move {
                let socket = Arc::new(outer_socket(outer).await?);
                tokio::task::spawn_local(leave(near_tun.sent, Arc::clone(&socket), log));
                tokio::task::spawn_local(arrive(socket, near_tun.deliver, Arc::default()));
                Ok::<(), io::Error>(())
            })
            .await?
            .map_err(|source| LabError::Io {
                what: format!("open the VPN's socket {outer:?}"),
                source,
            })?;

        let arrived = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&arrived);
        lab.internet()
            .node()
            .run(move || async move {
                let socket = Arc::new(UdpSocket::bind(SERVER).await?);
                let peers = Arc::clone(&log);
                tokio::task::spawn_local(arrive(Arc::clone(&socket), far_tun.deliver, log));
                tokio::task::spawn_local(back(far_tun.sent, socket, peers));
                Ok::<(), io::Error>(())
            })
            .await?
            .map_err(|source| LabError::Io {
                what: format!("open the VPN's server at {SERVER}"),
                source,
            })?;
        Ok(Self {
            far,
            entered: all,
            arrived,
        })
    }

    /// Whether the gateway's kernel sent a packet of the flow into the interface.
    pub(crate) fn carried(&self, key: &FlowKey) -> bool {
        lock(&self.entered).contains(&entered(key))
    }

    /// The address and port from which the last outer packet came to the server.
    pub(crate) fn seen_from(&self) -> Option<SocketAddr> {
        lock(&self.arrived).last().copied()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn host(address: &str) -> InterfaceAddress {
    InterfaceAddress {
        address: address.parse().unwrap_or(IpAddr::from([0; 4])),
        prefix: 32,
    }
}

fn server() -> io::Result<SocketAddr> {
    SERVER.parse().map_err(io::Error::other)
}

async fn outer_socket(outer: Outer) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    let options = SockRef::from(&socket);
    options.set_nonblocking(true)?;
    options.set_mark(outer.mark)?;
    socket.bind(&SocketAddr::from(([0; 4], 51820)).into())?;
    let socket = UdpSocket::from_std(socket.into())?;
    if outer.connected {
        socket.connect(server()?).await?;
    }
    Ok(socket)
}

/// From the gateway's interface to the server.
async fn leave(
    mut sent: UnboundedReceiver<Vec<u8>>,
    socket: Arc<UdpSocket>,
    log: Arc<Mutex<BTreeSet<Entered>>>,
) {
    while let Some(packet) = sent.recv().await {
        if let Some(key) = FlowKey::of(&packet) {
            lock(&log).insert(entered(&key));
        }
        let Ok(server) = server() else { return };
        let sent = match socket.peer_addr() {
            Ok(_connected) => socket.send(&packet).await,
            Err(_wildcard) => socket.send_to(&packet, server).await,
        };
        // As with any network: what cannot be sent is lost.
        if let Err(error) = sent {
            tracing::debug!(%error, "the VPN loses a packet");
        }
    }
}

/// From a socket to the interface behind it.
async fn arrive(
    socket: Arc<UdpSocket>,
    deliver: UnboundedSender<Vec<u8>>,
    log: Arc<Mutex<Vec<SocketAddr>>>,
) {
    let mut buffer = vec![0; LONGEST];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, peer)) => {
                lock(&log).push(peer);
                let packet = buffer.get(..length).unwrap_or_default().to_vec();
                if deliver.send(packet).is_err() {
                    return;
                }
            }
            Err(error) => tracing::debug!(%error, "the VPN's socket has an error"),
        }
    }
}

/// From the far network to where the VPN was seen last, as VPNs do that follow their clients.
async fn back(
    mut sent: UnboundedReceiver<Vec<u8>>,
    socket: Arc<UdpSocket>,
    peers: Arc<Mutex<Vec<SocketAddr>>>,
) {
    while let Some(packet) = sent.recv().await {
        let peer = lock(&peers).last().copied();
        if let Some(peer) = peer
            && let Err(error) = socket.send_to(&packet, peer).await
        {
            tracing::debug!(%error, "the VPN's server loses a packet");
        }
    }
}
