//! A steady stream of datagrams in many flows, and what became of it: how many were sent, how many
//! each provider saw, and which flows were seen at more than one place.
//!
//! What is lost on the way is lost in the gateway or by the machine itself: a queue between two
//! interfaces holds a thousand packets. So the sender waits while too many are on their way, and a
//! machine that is busy makes the stream slower instead of thinner.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use failover_common::family::{Family, PerFamily};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

use super::Host;
use crate::addressing::{any, servers};
use crate::capture::FlowKey;
use crate::error::LabError;
use crate::eventually::patient;
use crate::lab::Lab;

/// Where streams go: each to a port of its own. The socket of an earlier one may still be open in a
/// program that is just being started, and providers have counted its packets.
const PORTS: std::ops::Range<u16> = 20_000..30_000;
static NEXT_PORT: AtomicU16 = AtomicU16::new(0);
/// How often the sender sends.
const TICK: Duration = Duration::from_millis(1);
/// Packets sent in one go, at most: what a stall kept back is made up for bit by bit.
const AT_ONCE: u64 = 64;
/// Packets on their way, at most: half of what the kernel's queue of a processor holds
/// (`net.core.netdev_max_backlog`).
const ON_THE_WAY: u64 = 500;
/// One of so many packets is answered, so that flows have two directions.
const ANSWERED: u64 = 16;
/// What does not come for so long does not come at all.
const LOST_AFTER: Duration = Duration::from_millis(500);
/// How long a receiver waits before it looks whether it is still wanted.
const LOOK: Duration = Duration::from_millis(20);
const RECEIVE_BUFFER: usize = 16 << 20;

/// What is to be sent.
#[derive(Clone, Debug)]
pub struct StreamPlan {
    /// Flows of each family.
    pub flows: usize,
    /// Their families.
    pub families: Vec<Family>,
    /// Packets per second, of all flows together.
    pub rate: u32,
}

/// A stream that goes on until it is finished or dropped.
#[derive(Debug)]
pub struct Stream {
    shared: Arc<Shared>,
    sender: Option<JoinHandle<Sent>>,
    receivers: Vec<JoinHandle<()>>,
    port: u16,
}

/// Packets that providers saw, by the uplink's number and the flow.
type Seen = HashMap<(u8, FlowKey), u64>;

/// What became of a stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Streamed {
    /// Packets that were sent.
    pub sent: u64,
    /// Those that no provider saw.
    pub lost: u64,
    /// Those that providers saw more often than they were sent.
    pub doubled: u64,
    /// The flows.
    pub flows: usize,
    /// Those that providers saw with more than one address, port or uplink.
    pub moved: usize,
    /// Flows by the number of the uplink.
    pub on: BTreeMap<u8, usize>,
    /// Answers that were sent.
    pub answers: u64,
    /// Those that did not come.
    pub answers_lost: u64,
    /// Packets per second.
    pub rate: f64,
}

impl Streamed {
    /// Whether everything arrived by the way that it took first.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.lost == 0 && self.doubled == 0 && self.moved == 0 && self.answers_lost == 0
    }
}

impl fmt::Display for Streamed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sent,
            lost,
            doubled,
            flows,
            moved,
            on,
            answers,
            answers_lost,
            rate,
        } = self;
        write!(
            f,
            "{sent} packets at {rate:.0}/s, {lost} lost, {doubled} doubled; {flows} flows, {moved} \
             moved, by uplink {on:?}; {answers} answers, {answers_lost} lost"
        )
    }
}

#[derive(Debug, Default)]
struct Shared {
    /// No more is to be sent.
    stop: AtomicBool,
    /// Nothing comes any more.
    over: AtomicBool,
    received: AtomicU64,
    answers: AtomicU64,
}

impl Shared {
    fn is_set(flag: &AtomicBool) -> bool {
        flag.load(Ordering::Relaxed)
    }
}

/// One flow at its sender.
#[derive(Debug)]
struct Source {
    socket: UdpSocket,
    family: Family,
    port: u16,
    sent: u64,
}

#[derive(Debug)]
struct Sent {
    /// By family and port.
    flows: BTreeMap<(Family, u16), u64>,
    /// Answers that came.
    answers: u64,
    took: Duration,
}

impl Stream {
    /// Begins to send from a client.
    ///
    /// # Errors
    /// When sockets or threads cannot be had.
    pub async fn begin(lab: &Lab, client: &Host, plan: &StreamPlan) -> Result<Self, LabError> {
        let number = NEXT_PORT.fetch_add(1, Ordering::Relaxed);
        let port = PORTS.start + number % (PORTS.end - PORTS.start);
        let shared = Arc::new(Shared::default());
        let failed = || LabError::io("begin a stream of packets");
        let mut receivers = Vec::new();
        let mut sources = Vec::new();
        let targets = PerFamily::from_fn(|family| servers(family).first().copied());
        for &family in &plan.families {
            let Some(target) = *targets.get(family) else {
                continue;
            };
            let target = SocketAddr::new(target, port);
            let node = lab.internet().node();
            let socket = node.run(move || async move { receiver(target) }).await?;
            let socket = socket.map_err(failed())?;
            let of_thread = Arc::clone(&shared);
            let thread = thread::Builder::new()
                .name("stream-sink".to_owned())
                .spawn(move || receive(&socket, &of_thread));
            receivers.push(thread.map_err(failed())?);
            let count = plan.flows;
            let made = client
                .node()
                .run(move || async move {
                    (0..count)
                        .map(|_| source(family, target))
                        .collect::<io::Result<Vec<Source>>>()
                })
                .await?;
            sources.extend(made.map_err(failed())?);
        }
        // Slow machines are given as much less to do.
        let second = Duration::from_secs(1);
        let rate = u64::from(plan.rate) / patient(second).as_secs().max(1);
        let of_thread = Arc::clone(&shared);
        let sender = thread::Builder::new()
            .name("stream-source".to_owned())
            .spawn(move || send(sources, rate, &of_thread))
            .map_err(failed())?;
        Ok(Self {
            shared,
            sender: Some(sender),
            receivers,
            port,
        })
    }

    /// Packets that arrived so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.shared.received.load(Ordering::Relaxed)
    }

    /// Ends it and says what became of it.
    ///
    /// # Errors
    /// When the lab captures nothing, or a capture lost packets.
    pub async fn finish(mut self, lab: &Lab) -> Result<Streamed, LabError> {
        self.shared.stop.store(true, Ordering::Relaxed);
        let sender = self.sender.take();
        let joined = tokio::task::spawn_blocking(move || sender?.join().ok());
        let sent = joined.await.ok().flatten();
        self.shared.over.store(true, Ordering::Relaxed);
        for receiver in std::mem::take(&mut self.receivers) {
            tokio::task::spawn_blocking(move || receiver.join())
                .await
                .ok();
        }
        let sent = sent.ok_or_else(|| LabError::Io {
            what: "send a stream of packets".to_owned(),
            source: io::Error::other("its thread broke off"),
        })?;
        let mut figures = figures_of(&counted(lab, self.port)?, &sent.flows);
        let answers = self.shared.answers.load(Ordering::Relaxed);
        figures.answers = answers;
        figures.answers_lost = answers.saturating_sub(sent.answers);
        let packets = u32::try_from(figures.sent).unwrap_or(u32::MAX);
        figures.rate = f64::from(packets) / sent.took.as_secs_f64();
        Ok(figures)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

fn counted(lab: &Lab, port: u16) -> Result<Seen, LabError> {
    let mut seen = Seen::new();
    for uplink in lab.uplinks() {
        for flow in uplink.capture()?.flows()? {
            if flow.key.destination.port() == port {
                seen.insert((uplink.number(), flow.key), flow.packets);
            }
        }
    }
    Ok(seen)
}

/// What became of flows of which so many packets were sent.
fn figures_of(seen: &Seen, sent: &BTreeMap<(Family, u16), u64>) -> Streamed {
    let mut places: BTreeMap<(Family, u16), BTreeSet<(u8, IpAddr)>> = BTreeMap::new();
    let mut packets: BTreeMap<(Family, u16), u64> = BTreeMap::new();
    for ((uplink, FlowKey { source, .. }), count) in seen {
        // The translation keeps ports where it can, and here nobody else has them.
        let key = (Family::of(source.ip()), source.port());
        if sent.contains_key(&key) {
            let place = (*uplink, source.ip());
            places.entry(key).or_default().insert(place);
            *packets.entry(key).or_default() += count;
        }
    }
    let mut figures = Streamed {
        flows: sent.len(),
        ..Streamed::default()
    };
    for (key, sent) in sent {
        let seen = packets.get(key).copied().unwrap_or(0);
        figures.sent += sent;
        figures.lost += sent.saturating_sub(seen);
        figures.doubled += seen.saturating_sub(*sent);
        let places = places.get(key);
        figures.moved += usize::from(places.is_some_and(|places| places.len() > 1));
        if let Some((uplink, _)) = places.and_then(BTreeSet::first) {
            *figures.on.entry(*uplink).or_default() += 1;
        }
    }
    figures
}

fn receiver(at: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(at)?;
    setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER)?;
    socket.set_read_timeout(Some(LOOK))?;
    Ok(socket)
}

fn receive(socket: &UdpSocket, shared: &Shared) {
    let mut packet = [0_u8; 64];
    while !Shared::is_set(&shared.over) {
        // An error is the end of the time to wait, or belongs to an earlier answer.
        let Ok((length, peer)) = socket.recv_from(&mut packet) else {
            continue;
        };
        shared.received.fetch_add(1, Ordering::Relaxed);
        let packet = packet.get(..length).unwrap_or_default();
        let number = packet.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
        if number.is_some_and(|number| number % ANSWERED == 0)
            && socket.send_to(packet, peer).is_ok()
        {
            shared.answers.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn source(family: Family, target: SocketAddr) -> io::Result<Source> {
    let socket = UdpSocket::bind((any(family), 0))?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    Ok(Source {
        port: socket.local_addr()?.port(),
        socket,
        family,
        sent: 0,
    })
}

/// Sends until told to stop, and waits for what is still on its way.
fn send(mut sources: Vec<Source>, rate: u64, shared: &Shared) -> Sent {
    let begin = Instant::now();
    let (mut sent, mut answers) = (0_u64, 0_u64);
    let mut on_the_way = OnTheWay::new();
    let mut next = 0;
    while !Shared::is_set(&shared.stop) && !sources.is_empty() {
        let passed = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
        let due = (passed.saturating_mul(rate) / 1_000_000).saturating_sub(sent);
        for _ in 0..due.min(AT_ONCE) {
            let received = shared.received.load(Ordering::Relaxed);
            if on_the_way.count(sent, received) >= ON_THE_WAY {
                break;
            }
            let Some(source) = sources.get_mut(next) else {
                next = 0;
                continue;
            };
            next += 1;
            answers += source.take_answers();
            // What the kernel refuses (an error of an earlier packet, a full buffer) is not sent.
            if source.socket.send(&source.sent.to_be_bytes()).is_ok() {
                source.sent += 1;
                sent += 1;
            }
        }
        thread::sleep(TICK);
    }
    let took = begin.elapsed();
    let mut rest = OnTheWay::new();
    while rest.count(sent, shared.received.load(Ordering::Relaxed)) > 0 {
        thread::sleep(TICK);
    }
    let mut rest = OnTheWay::new();
    loop {
        answers += sources.iter_mut().map(Source::take_answers).sum::<u64>();
        let expected = shared.answers.load(Ordering::Relaxed);
        if rest.count(expected, answers) == 0 {
            break;
        }
        thread::sleep(TICK);
    }
    let flows = sources
        .iter()
        .map(|source| ((source.family, source.port), source.sent))
        .collect();
    Sent {
        flows,
        answers,
        took,
    }
}

impl Source {
    fn take_answers(&mut self) -> u64 {
        let mut packet = [0_u8; 64];
        let mut count = 0;
        while self.socket.recv(&mut packet).is_ok() {
            count += 1;
        }
        count
    }
}

/// How many are on their way. When nothing arrives for long, those are lost.
struct OnTheWay {
    received: u64,
    since: Instant,
    lost: u64,
}

impl OnTheWay {
    fn new() -> Self {
        Self {
            received: 0,
            since: Instant::now(),
            lost: 0,
        }
    }

    fn count(&mut self, sent: u64, received: u64) -> u64 {
        if received != self.received {
            self.received = received;
            self.since = Instant::now();
        }
        let count = sent.saturating_sub(received).saturating_sub(self.lost);
        if count > 0 && self.since.elapsed() > patient(LOST_AFTER) {
            self.lost += count;
            self.since = Instant::now();
            return 0;
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::FlowProtocol;

    #[test]
    fn what_is_missing_or_elsewhere_is_counted() {
        let flow = |port: u16, uplink: u8| {
            let key = FlowKey {
                protocol: FlowProtocol::Udp,
                source: ([198, 18, 10 + uplink, 2], port).into(),
                destination: ([203, 0, 113, 11], PORTS.start).into(),
            };
            (uplink, key)
        };
        let sent = [1, 2, 3].map(|port| ((Family::Ipv4, port), 10)).into();
        let seen = Seen::from([
            (flow(1, 1), 10),
            (flow(2, 1), 4),
            (flow(2, 2), 6),
            (flow(3, 3), 8),
            (flow(4, 3), 8),
        ]);
        let figures = figures_of(&seen, &sent);
        assert_eq!((figures.sent, figures.lost, figures.doubled), (30, 2, 0));
        assert_eq!((figures.flows, figures.moved), (3, 1));
    }
}
