//! Flows over real sockets that send blocks to a service and get them back, again and again: each byte is
//! looked at on both ends, and the service notes from which address it sees each flow.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use failover::family::Family;
use failover_tests::addressing::any;
use failover_tests::{Node, Protocol, patient};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::scene::LIMIT;
use crate::service;

/// How long a block may take there and back. Far above any delay of the lab: what does not come is lost.
const LATEST: Duration = Duration::from_secs(3);
/// What is before the bytes of a block: the number of the flow and of the block.
const HEAD: usize = 12;

/// What is exchanged, and how fast.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Over what.
    pub(crate) protocol: Protocol,
    /// How many flows to each place.
    pub(crate) flows: u32,
    /// How long a block is.
    pub(crate) block: usize,
    /// How long each flow waits between two blocks.
    pub(crate) every: Duration,
    /// From where; from the address that the kernel chooses if there is none.
    pub(crate) source: Option<IpAddr>,
}

impl Plan {
    /// Some flows that are asked twenty times a second.
    pub(crate) const fn calm(protocol: Protocol, flows: u32) -> Self {
        Self {
            protocol,
            flows,
            block: 500,
            every: Duration::from_millis(50),
            source: None,
        }
    }
}

/// What became of a flow.
#[derive(Clone, Debug, Default)]
struct Talk {
    /// Blocks that came back as they were.
    rounds: u64,
    /// What went wrong.
    faults: Vec<String>,
}

/// What both ends know.
#[derive(Debug, Default)]
struct Known {
    talks: BTreeMap<u32, Talk>,
    /// From where the service sees each flow.
    sources: BTreeMap<u32, BTreeSet<SocketAddr>>,
}

impl Known {
    fn fault(&mut self, flow: u32, what: String) {
        self.talks.entry(flow).or_default().faults.push(what);
    }
}

type Shared = Arc<Mutex<Known>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Known> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the flows are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Go,
    Pause,
    Stop,
}

/// Flows that exchange blocks until this is dropped.
pub(crate) struct Exchange {
    known: Shared,
    order: watch::Sender<Order>,
    /// How many flows wait, or have ended.
    still: Arc<Mutex<BTreeSet<u32>>>,
    flows: u32,
}

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

impl Exchange {
    /// Has flows go from a node to places, at which they arrive at a service on another node.
    pub(crate) async fn begin(
        plan: Plan,
        from: &Node,
        to: &[SocketAddr],
        service: (&Node, SocketAddr),
    ) -> Result<Self> {
        let known = Shared::default();
        let (server, at) = service;
        let shared = Arc::clone(&known);
        match plan.protocol {
            Protocol::Udp => {
                let socket = server
                    .run(move || async move { UdpSocket::bind(at).await })
                    .await??;
                server.start_task(move || serve_udp(socket, shared, plan.block))?;
            }
            _ => {
                let listener = server
                    .run(move || async move { TcpListener::bind(at).await })
                    .await??;
                server.start_task(move || serve_tcp(listener, shared, plan.block))?;
            }
        }
        let (order, ordered) = watch::channel(Order::Go);
        let still = Arc::<Mutex<BTreeSet<u32>>>::default();
        let mut number = 0;
        for place in to {
            for _ in 0..plan.flows {
                let end = End {
                    number,
                    plan,
                    place: *place,
                    known: Arc::clone(&known),
                    ordered: ordered.clone(),
                    still: Arc::clone(&still),
                };
                from.start_task(move || end.run())?;
                number += 1;
            }
        }
        let exchange = Self {
            known,
            order,
            still,
            flows: number,
        };
        exchange.go_on(1).await?;
        Ok(exchange)
    }

    /// How many flows there are.
    pub(crate) fn len(&self) -> usize {
        usize::try_from(self.flows).unwrap_or(usize::MAX)
    }

    /// How many rounds each flow has had.
    fn rounds(&self) -> Vec<u64> {
        let known = lock(&self.known);
        let of = |flow| known.talks.get(&flow).map_or(0, |talk| talk.rounds);
        (0..self.flows).map(of).collect()
    }

    /// Waits until each flow has had so many more rounds, whole: one that is on its way now does not
    /// count, since others may have counted its packets already.
    pub(crate) async fn go_on(&self, rounds: u64) -> Result<()> {
        let before = self.rounds();
        let short = || {
            let now = self.rounds();
            let mut flows = now.iter().zip(&before);
            flows.any(|(now, before)| *now <= before + rounds)
        };
        let reached = async {
            while short() && self.faults().is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if timeout(patient(LIMIT), reached).await.is_err() {
            return Err(format!("the flows do not go on: {:?}", lock(&self.known).talks).into());
        }
        self.expect_whole();
        Ok(())
    }

    /// Has all flows be silent, and waits until they are.
    pub(crate) async fn pause(&self) -> Result<()> {
        self.order.send(Order::Pause)?;
        let silent = async {
            while self
                .still
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .len()
                < self.len()
            {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        Ok(timeout(patient(LIMIT), silent).await?)
    }

    /// Has them go on.
    pub(crate) fn resume(&self) -> Result<()> {
        Ok(self.order.send(Order::Go)?)
    }

    fn faults(&self) -> Vec<String> {
        let known = lock(&self.known);
        let of_talks = known.talks.iter().flat_map(|(flow, talk)| {
            talk.faults
                .iter()
                .map(move |fault| format!("flow {flow} after {} rounds: {fault}", talk.rounds))
        });
        let moved = known.sources.iter().filter(|(_, seen)| seen.len() > 1);
        let moved = moved.map(|(flow, seen)| format!("flow {flow} was seen as {seen:?}"));
        of_talks.chain(moved).take(8).collect()
    }

    /// Nothing was lost or changed so far, and each flow is seen from one address.
    pub(crate) fn expect_whole(&self) {
        let faults = self.faults();
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }

    /// From where the service sees the flows.
    pub(crate) fn sources(&self) -> BTreeSet<SocketAddr> {
        lock(&self.known)
            .sources
            .values()
            .flatten()
            .copied()
            .collect()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        // Who is not there any more needs no order.
        self.order.send(Order::Stop).ok();
    }
}

/// The bytes of a block.
fn block(flow: u32, round: u64, length: usize) -> Vec<u8> {
    let mut bytes = flow.to_be_bytes().to_vec();
    bytes.extend(round.to_be_bytes());
    let seed = u64::from(flow)
        .wrapping_mul(0x9e37_79b9)
        .wrapping_add(round);
    bytes.extend(
        (0_u64..)
            .map(|place| {
                let [first, ..] = seed
                    .wrapping_add(place)
                    .wrapping_mul(0x0101_0149)
                    .to_be_bytes();
                let [.., last] = (seed ^ place.wrapping_mul(37)).to_be_bytes();
                first ^ last
            })
            .take(length.saturating_sub(HEAD)),
    );
    bytes
}

/// Of which flow a block is, and whether it is whole.
fn read(bytes: &[u8]) -> Option<(u32, bool)> {
    let flow = u32::from_be_bytes(*bytes.first_chunk()?);
    let round = u64::from_be_bytes(*bytes.get(4..)?.first_chunk()?);
    Some((flow, bytes == block(flow, round, bytes.len())))
}

/// Notes what came to the service.
fn heard(shared: &Shared, bytes: &[u8], peer: SocketAddr) {
    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
    let mut known = lock(shared);
    match read(bytes) {
        Some((flow, whole)) => {
            known.sources.entry(flow).or_default().insert(peer);
            if !whole {
                known.fault(flow, "the service got other bytes".to_owned());
            }
        }
        None => known.fault(u32::MAX, format!("{peer} sent {} bytes", bytes.len())),
    }
}

async fn serve_udp(socket: UdpSocket, shared: Shared, length: usize) {
    let mut bytes = vec![0; length + 1];
    loop {
        // An error belongs to an earlier answer.
        let Ok((got, peer)) = socket.recv_from(&mut bytes).await else {
            continue;
        };
        let got = bytes.get(..got).unwrap_or_default();
        heard(&shared, got, peer);
        drop(socket.send_to(got, peer).await);
    }
}

async fn serve_tcp(listener: TcpListener, shared: Shared, length: usize) {
    while let Ok((mut stream, peer)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::task::spawn_local(async move {
            let mut bytes = vec![0; length];
            while stream.read_exact(&mut bytes).await.is_ok() {
                heard(&shared, &bytes, peer);
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// The end of a flow that asks.
struct End {
    number: u32,
    plan: Plan,
    place: SocketAddr,
    known: Shared,
    ordered: watch::Receiver<Order>,
    still: Arc<Mutex<BTreeSet<u32>>>,
}

enum Socket {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

impl End {
    async fn run(mut self) {
        if let Err(error) = self.talk().await {
            lock(&self.known).fault(self.number, error.to_string());
        }
        self.set_still(true);
    }

    fn set_still(&self, still: bool) {
        let mut all = self.still.lock().unwrap_or_else(PoisonError::into_inner);
        if still {
            all.insert(self.number);
        } else {
            all.remove(&self.number);
        }
    }

    async fn talk(&mut self) -> io::Result<()> {
        let mut socket = self.open().await?;
        for round in 0.. {
            let order = *self.ordered.borrow_and_update();
            match order {
                Order::Go => {}
                Order::Pause => {
                    self.set_still(true);
                    // Its sender is gone where it fails: the next look finds `Stop`.
                    drop(self.ordered.wait_for(|order| *order != Order::Pause).await);
                    self.set_still(false);
                }
                Order::Stop => return Ok(()),
            }
            let sent = block(self.number, round, self.plan.block);
            let back = timeout(patient(LATEST), exchange(&mut socket, &sent)).await;
            let back = back.map_err(|_| io::Error::other(format!("block {round} was lost")))??;
            if back != sent {
                return Err(io::Error::other("other bytes came back"));
            }
            lock(&self.known)
                .talks
                .entry(self.number)
                .or_default()
                .rounds += 1;
            if !self.plan.every.is_zero() {
                tokio::time::sleep(self.plan.every).await;
            }
        }
        Ok(())
    }

    async fn open(&self) -> io::Result<Socket> {
        let source = self.plan.source;
        Ok(match self.plan.protocol {
            Protocol::Udp => {
                let any = any(Family::of(self.place.ip()));
                let socket = UdpSocket::bind((source.unwrap_or(any), 0)).await?;
                socket.connect(self.place).await?;
                Socket::Udp(socket)
            }
            _ => {
                let stream = service::connect(source, self.place).await?;
                stream.set_nodelay(true)?;
                Socket::Tcp(stream)
            }
        })
    }
}

/// Sends a block and waits for as much.
async fn exchange(socket: &mut Socket, sent: &[u8]) -> io::Result<Vec<u8>> {
    let mut back = vec![0; sent.len()];
    match socket {
        Socket::Udp(socket) => {
            socket.send(sent).await?;
            let got = socket.recv(&mut back).await?;
            back.truncate(got);
        }
        Socket::Tcp(stream) => {
            let (mut read, mut write) = stream.split();
            tokio::try_join!(write.write_all(sent), async {
                read.read_exact(&mut back).await.map(drop)
            })?;
        }
    }
    Ok(back)
}
