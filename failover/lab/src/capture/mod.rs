//! What a provider sees of the packets that come from the gateway: how many, and which flows with
//! the time of their first packet.
//!
//! The capture stands before the provider's own rules, so it sees what a black hole swallows, too.

mod packet;

use std::collections::HashMap;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use nix::cmsg_space;
use nix::sys::socket::sockopt::{RcvBufForce, ReceiveTimestampns};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
    recvmsg, setsockopt, socket,
};
use nix::sys::time::TimeSpec;
use socket2::{SockFilter, SockRef};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::addressing;
use crate::error::LabError;
use crate::node::Node;
use crate::sys;

pub use packet::{FlowKey, FlowProtocol};

/// How much of each packet is copied: the largest IPv4 header and the head of what follows, or an
/// IPv6 header and that.
const SNAP_LENGTH: u32 = 128;
/// Some hundred thousand packet heads.
const RECEIVE_BUFFER: usize = 64 << 20;

/// A flow as a provider sees it, in the direction away from the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeenFlow {
    /// Addresses and ports, after the gateway's translation.
    pub key: FlowKey,
    /// Whether its first packet was one that opens a flow: false for TCP without SYN, which is an
    /// old connection that came here later or an answer to one from outside.
    pub opening: bool,
    /// When the kernel received its first packet.
    pub first: Instant,
    /// When the kernel received its last packet.
    pub last: Instant,
    /// How many packets there were.
    pub packets: u64,
}

impl SeenFlow {
    /// Whether it goes to a probe target: then it is the daemon's and no user's.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        addressing::is_probe_target(self.key.destination.ip())
    }
}

/// The capture at one provider.
#[derive(Debug)]
pub struct Capture {
    node: Node,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    socket: UdpSocket,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    flows: HashMap<FlowKey, SeenFlow>,
    lost: u32,
}

impl Capture {
    /// Opens the capture on a node; it sees nothing yet.
    pub(crate) async fn start(node: Node) -> Result<Self, LabError> {
        let shared = node
            .run(|| async {
                // tokio has no type for packet sockets; as far as readiness goes it behaves as a
                // UDP socket does.
                let socket = UdpSocket::from_std(open()?.into())?;
                let shared = Arc::new(Shared {
                    socket,
                    record: Mutex::default(),
                });
                tokio::task::spawn_local(follow(Arc::clone(&shared)));
                Ok(shared)
            })
            .await?
            .map_err(|source: io::Error| LabError::Io {
                what: format!("capture packets on node {}", node.name()),
                source,
            })?;
        Ok(Self { node, shared })
    }

    /// Records what comes in by an interface from now on, and by no other.
    pub(crate) async fn listen_on(&self, interface: &str) -> Result<(), LabError> {
        let index = self.node.interface_index(interface).await?;
        SockRef::from(&self.shared.socket)
            .attach_filter(&incoming_on(index))
            .map_err(LabError::io(format!(
                "capture packets on {interface} of node {}",
                self.node.name()
            )))
    }

    /// All flows so far that are no probes.
    ///
    /// # Errors
    /// When packets were lost, so that the answer would be worth nothing.
    pub fn flows(&self) -> Result<Vec<SeenFlow>, LabError> {
        self.select(|flow| !flow.is_probe())
    }

    /// The users' flows whose first packet came after `time` and opened them.
    ///
    /// # Errors
    /// When packets were lost, so that the answer would be worth nothing.
    pub fn new_flows_since(&self, time: Instant) -> Result<Vec<SeenFlow>, LabError> {
        self.select(|flow| !flow.is_probe() && flow.opening && flow.first > time)
    }

    /// The users' flows, old or new, of which a packet came after `time`.
    ///
    /// # Errors
    /// When packets were lost, so that the answer would be worth nothing.
    pub fn active_since(&self, time: Instant) -> Result<Vec<SeenFlow>, LabError> {
        self.select(|flow| !flow.is_probe() && flow.last > time)
    }

    /// How many packets to probe targets came so far.
    ///
    /// # Errors
    /// When packets were lost, so that the answer would be worth nothing.
    pub fn probe_packets(&self) -> Result<u64, LabError> {
        let probes = self.select(SeenFlow::is_probe)?;
        Ok(probes.iter().map(|flow| flow.packets).sum())
    }

    /// Everything that the kernel has for us is read first, so the answer is complete up to now.
    fn select(&self, wanted: impl Fn(&SeenFlow) -> bool) -> Result<Vec<SeenFlow>, LabError> {
        let mut record = self.shared.lock();
        let what = || format!("read captured packets on node {}", self.node.name());
        record
            .drain(&self.shared.socket)
            .map_err(LabError::io(what()))?;
        record.lost = record.lost.saturating_add(
            sys::packets_lost(self.shared.socket.as_fd()).map_err(LabError::io(what()))?,
        );
        if record.lost > 0 {
            return Err(LabError::CaptureLost {
                node: self.node.name().to_owned(),
                lost: record.lost,
            });
        }
        let mut flows: Vec<SeenFlow> = record
            .flows
            .values()
            .filter(|flow| wanted(flow))
            .copied()
            .collect();
        flows.sort_by_key(|flow| flow.first);
        Ok(flows)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket that lets nothing in until a filter says what.
pub fn open() -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Packet,
        SockType::Datagram,
        SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
        SockProtocol::EthAll,
    )?;
    SockRef::from(&socket).attach_filter(&[SockFilter::new(RETURN, 0, 0, 0)])?;
    setsockopt(&socket, RcvBufForce, &RECEIVE_BUFFER)?;
    setsockopt(&socket, ReceiveTimestampns, &true)?;
    // What came in before there was a filter.
    Record::default().drain(&socket)?;
    Ok(socket)
}

// Classic BPF (linux/bpf_common.h, linux/filter.h): load a word, jump if equal, return.
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;
/// Where a filter finds what the kernel knows of a packet beside its bytes (`SKF_AD_OFF`).
const ANCILLARY: u32 = 0xffff_f000;
const ANCILLARY_PACKET_TYPE: u32 = ANCILLARY + 4;
const ANCILLARY_INTERFACE: u32 = ANCILLARY + 8;
/// A packet that this host sends itself (`PACKET_OUTGOING`).
const OUTGOING: u32 = 4;

/// Lets in the heads of packets that come in by an interface.
pub fn incoming_on(index: u32) -> [SockFilter; 6] {
    [
        SockFilter::new(LOAD, 0, 0, ANCILLARY_INTERFACE),
        SockFilter::new(JUMP_IF_EQUAL, 0, 3, index),
        SockFilter::new(LOAD, 0, 0, ANCILLARY_PACKET_TYPE),
        SockFilter::new(JUMP_IF_EQUAL, 1, 0, OUTGOING),
        SockFilter::new(RETURN, 0, 0, SNAP_LENGTH),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// Reads packets as they come, so that the buffer does not fill up.
async fn follow(shared: Arc<Shared>) {
    loop {
        let read = async {
            shared.socket.readable().await?;
            shared.socket.try_io(Interest::READABLE, || {
                shared.lock().drain(&shared.socket)?;
                // Tells tokio that nothing is left.
                Err::<(), _>(io::ErrorKind::WouldBlock.into())
            })
        };
        match read.await {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                // Whoever asks for the counts meets the same error.
                tracing::error!(%error, "the capture cannot read");
                return;
            }
            _ => {}
        }
    }
}

impl Record {
    /// Reads until nothing is left.
    fn drain(&mut self, socket: &impl AsRawFd) -> io::Result<()> {
        let mut bytes = [0_u8; SNAP_LENGTH as usize];
        let mut control = cmsg_space!(TimeSpec);
        let clocks = Clocks::read();
        loop {
            let mut slices = [IoSliceMut::new(&mut bytes)];
            let received = recvmsg::<LinkAddr>(
                socket.as_raw_fd(),
                &mut slices,
                Some(&mut control),
                MsgFlags::MSG_DONTWAIT,
            );
            let message = match received {
                Ok(message) => message,
                Err(nix::Error::EAGAIN) => return Ok(()),
                Err(nix::Error::EINTR) => continue,
                // Told once when an interface goes down; packets of other interfaces go on.
                Err(nix::Error::ENETDOWN) => continue,
                Err(other) => return Err(other.into()),
            };
            let time = message
                .cmsgs()?
                .find_map(|control| match control {
                    ControlMessageOwned::ScmTimestampns(time) => Some(clocks.instant_of(time)),
                    _ => None,
                })
                .unwrap_or_else(Instant::now);
            let length = message.bytes;
            let packet = bytes.get(..length).unwrap_or_default();
            if let Some((key, opening)) = packet::parse(packet) {
                self.add(key, opening, time);
            }
        }
    }

    fn add(&mut self, key: FlowKey, opening: bool, time: Instant) {
        self.flows
            .entry(key)
            .and_modify(|flow| {
                flow.last = time;
                flow.packets += 1;
            })
            .or_insert(SeenFlow {
                key,
                opening,
                first: time,
                last: time,
                packets: 1,
            });
    }
}

/// Both clocks at the same moment: the kernel stamps packets with the time of day, the rest of the
/// lab reckons with the monotonic clock.
#[derive(Clone, Copy)]
struct Clocks {
    monotonic: Instant,
    time_of_day: SystemTime,
}

impl Clocks {
    /// How often they are read to find a moment without interruption.
    const ATTEMPTS: usize = 5;
    /// How far apart two readings without interruption are at most.
    const CLOSE: Duration = Duration::from_micros(20);

    /// The best of some attempts: between the two readings the processor may be taken away.
    fn read() -> Self {
        let (mut best, mut apart) = Self::attempt();
        for _ in 1..Self::ATTEMPTS {
            if apart < Self::CLOSE {
                break;
            }
            let (another, closer) = Self::attempt();
            if closer < apart {
                (best, apart) = (another, closer);
            }
        }
        best
    }

    /// Reads both once, and tells how far apart at most.
    fn attempt() -> (Self, Duration) {
        let monotonic = Instant::now();
        let time_of_day = SystemTime::now();
        let clocks = Self {
            monotonic,
            time_of_day,
        };
        (clocks, monotonic.elapsed())
    }

    fn instant_of(self, time: TimeSpec) -> Instant {
        let stamp = SystemTime::UNIX_EPOCH + Duration::from(time);
        match self.time_of_day.duration_since(stamp) {
            Ok(before) => self.monotonic.checked_sub(before),
            Err(after) => self.monotonic.checked_add(after.duration()),
        }
        .unwrap_or(self.monotonic)
    }
}
