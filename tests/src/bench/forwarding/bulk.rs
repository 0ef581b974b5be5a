//! One long transfer by TCP, with real sockets: how fast it is, and what it takes of a processor.
//!
//! Who sends, who receives and the gateway between them share one processor, so that it is busy all
//! the time and the throughput says the same as the processor's time. The time is that of both threads
//! and of the kernel's thread for softirqs, as the scheduler counts it, so that other programs do not
//! count; on a kernel that accounts for softirqs apart (`CONFIG_IRQ_TIME_ACCOUNTING`) it is too short,
//! and only the throughput tells. What is sent goes to a provider itself: the same
//! transfer from the gateway's own socket is the end hosts' share. Where there is a fast path, a transfer
//! counts from when the connection is on it.

use std::fs;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use failover::family::Family;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socket};

use super::gateway::Gateway;
use super::generator::apart;
use super::trial::progress;
use super::{Bulk, Variant};
use crate::addressing::InterfaceAddress;
use crate::error::LabError;
use crate::lab::{ACCESS, Lab};
use crate::node::{Node, ProgramSpec};
use crate::programs::ProgramsError;
use crate::sys::{Offload, set_offload};

/// An address that every provider has.
const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const PORT: u16 = 5001;
/// The clients' network, where a provider has to know it.
const CLIENTS: &str = "198.18.0.0/24";
/// How long is sent in a turn.
const LENGTH: Duration = Duration::from_millis(500);
/// How many turns there are for a round: short ones in turn see the machine at the same speeds.
const TURNS: usize = 3;
/// How much is written and discarded at once.
const PIECE: usize = 256 * 1024;
/// What a connection must not take longer for.
const CONNECTED_WITHIN: Duration = Duration::from_secs(5);
/// How long is sent before it counts, at most.
const COUNTS_WITHIN: Duration = Duration::from_secs(60);

/// A way that transfers go.
struct Path<'a> {
    /// `None` where the gateway's own socket sends.
    gateway: Option<&'a Gateway>,
    lab: &'a Lab,
    from: Node,
    listeners: Vec<TcpListener>,
}

/// One transfer.
struct Transfer {
    bytes: u64,
    took: Duration,
    /// On the processor.
    worked: Duration,
}

/// Measures all gateways through which any flow can go, in turns.
pub(super) async fn run(
    gateways: &[Gateway],
    rounds: usize,
    processor: usize,
    quick: bool,
) -> Result<Vec<Bulk>, ProgramsError> {
    let bare = Lab::builder().uplinks(1).capture(false).build().await?;
    let mut paths = vec![Path::new(None, &bare).await?];
    for gateway in gateways {
        if gateway.variant.is_whole() {
            paths.push(Path::new(Some(gateway), &gateway.lab).await?);
        }
    }
    let turns = if quick { rounds } else { rounds * TURNS };
    let mut measured = Vec::new();
    for offload in [true, false] {
        progress(&format!(
            "transfers by TCP, offloads {}",
            if offload { "on" } else { "off" }
        ));
        let mut found: Vec<Bulk> = paths
            .iter()
            .map(|path| Bulk {
                variant: path.variant(),
                offload,
                gigabits: Vec::new(),
                seconds: Vec::new(),
            })
            .collect();
        for path in &paths {
            path.set_offloads(offload).await?;
        }
        for _ in 0..turns {
            for (path, found) in paths.iter().zip(&mut found) {
                let done = path.transfer(LENGTH, processor).await?;
                let bytes = done.bytes as f64;
                found.gigabits.push(bytes * 8e-9 / done.took.as_secs_f64());
                found
                    .seconds
                    .push(done.worked.as_secs_f64() / (bytes * 1e-9));
            }
        }
        measured.extend(found);
    }
    Ok(measured)
}

impl<'a> Path<'a> {
    async fn new(gateway: Option<&'a Gateway>, lab: &'a Lab) -> Result<Self, LabError> {
        let from = match gateway {
            Some(_) => lab.client(1)?.node(),
            None => lab.gateway().node(),
        };
        let mut listeners = Vec::new();
        for uplink in lab.uplinks() {
            let provider = uplink.provider();
            let address = InterfaceAddress {
                address: SERVER.into(),
                prefix: 32,
            };
            provider.add_address("lo", address).await?;
            if let Some(gateway) = uplink.gateway_address(Family::Ipv4) {
                let route = format!("ip route replace {CLIENTS} via {gateway} dev {ACCESS}");
                provider.must(ProgramSpec::line(&route)).await?;
            }
            let listening = provider.run(|| async {
                let listener = TcpListener::bind((SERVER, PORT))?;
                listener.set_nonblocking(true)?;
                Ok::<_, io::Error>(listener)
            });
            listeners.push(
                listening
                    .await?
                    .map_err(LabError::io("listen at a provider"))?,
            );
        }
        Ok(Self {
            gateway,
            lab,
            from: from.clone(),
            listeners,
        })
    }

    fn variant(&self) -> Option<Variant> {
        self.gateway.map(|gateway| gateway.variant)
    }

    async fn transfer(&self, length: Duration, processor: usize) -> Result<Transfer, LabError> {
        let to = SocketAddr::new(IpAddr::V4(SERVER), PORT);
        let known = match self.gateway {
            Some(gateway) => gateway.on_fast_path().await?,
            None => None,
        };
        let connecting = self
            .from
            .run(move || async move { TcpStream::connect_timeout(&to, CONNECTED_WITHIN) });
        let failed = || LabError::io(format!("connect to {to} by {}", name(self.variant())));
        let sender = connecting.await?.map_err(failed())?;
        // The connection is one provider's: that of the uplink that was chosen.
        let receiver = self
            .listeners
            .iter()
            .find_map(|listener| listener.accept().ok())
            .ok_or_else(|| failed()(io::ErrorKind::NotFound.into()))?
            .0;
        let counts = Arc::new(AtomicBool::new(false));
        let (for_sender, for_receiver) = (Arc::clone(&counts), Arc::clone(&counts));
        let begin = async {
            if let (Some(gateway), Some(known)) = (self.gateway, known) {
                // The one before may have left only now, so that there are no more than before.
                if let Err(error) = gateway.until_on_fast_path(known + 1).await {
                    progress(&format!("it may not be on the fast path: {error}"));
                }
            }
            counts.store(true, Ordering::Relaxed);
            softirqs(processor)
        };
        let (before, sent, received) = tokio::try_join!(
            begin,
            apart("sender", processor, move || {
                send_for(sender, length, &for_sender)
            }),
            apart("receiver", processor, move || {
                discard(&receiver, &for_receiver)
            }),
        )?;
        let (bytes, took, received) = received;
        let softirqs = softirqs(processor)?.saturating_sub(before);
        Ok(Transfer {
            bytes,
            took,
            worked: sent + received + softirqs,
        })
    }

    /// All interfaces on the way.
    async fn set_offloads(&self, on: bool) -> Result<(), LabError> {
        let gateway = self.lab.gateway().node();
        let mut ends = vec![
            (self.lab.client(1)?.node(), "eth0".to_owned()),
            (gateway, "lan0".to_owned()),
        ];
        for uplink in self.lab.uplinks() {
            ends.push((gateway, uplink.interface().to_owned()));
            ends.push((uplink.provider(), ACCESS.to_owned()));
        }
        for (node, interface) in ends {
            let what = format!("set the offloads of {interface} of {}", node.name());
            node.run(move || async move { set_offloads(&interface, on) })
                .await?
                .map_err(LabError::io(what))?;
        }
        Ok(())
    }
}

/// What forwards, if anything does.
pub(super) fn name(variant: Option<Variant>) -> String {
    variant.map_or_else(|| "no gateway".to_owned(), |variant| variant.to_string())
}

/// On is how a pair of veth interfaces is made: GRO is not among it, since with it they would poll.
fn set_offloads(interface: &str, on: bool) -> io::Result<()> {
    let (kind, flags) = (SockType::Datagram, SockFlag::SOCK_CLOEXEC);
    let socket = socket(AddressFamily::Inet, kind, flags, None)?;
    for offload in [Offload::Tso, Offload::Gso] {
        set_offload(socket.as_fd(), interface, offload, on)?;
    }
    set_offload(socket.as_fd(), interface, Offload::Gro, false)
}

/// Sends, from when it counts on for so long, and tells what of it was work.
fn send_for(mut to: TcpStream, length: Duration, counts: &AtomicBool) -> io::Result<Duration> {
    let piece = vec![0; PIECE];
    let connected = Instant::now();
    while !counts.load(Ordering::Relaxed) && connected.elapsed() < COUNTS_WITHIN {
        to.write_all(&piece)?;
    }
    let (began, before) = (Instant::now(), worked()?);
    while began.elapsed() < length {
        to.write_all(&piece)?;
    }
    drop(to);
    Ok(worked()?.saturating_sub(before))
}

/// How many bytes came since it counts, in what time, and what of it was work.
fn discard(from: &TcpStream, counts: &AtomicBool) -> io::Result<(u64, Duration, Duration)> {
    from.set_nonblocking(false)?;
    let mut piece = vec![0; PIECE];
    // Without a copy (tcp(7)): the end hosts' work is not what is measured.
    let mut receive = || recv(from.as_raw_fd(), &mut piece, MsgFlags::MSG_TRUNC);
    while receive()? > 0 && !counts.load(Ordering::Relaxed) {}
    let (began, before) = (Instant::now(), worked()?);
    let mut bytes = 0;
    loop {
        let count = receive()?;
        if count == 0 {
            return Ok((bytes, began.elapsed(), worked()?.saturating_sub(before)));
        }
        bytes += u64::try_from(count).unwrap_or_default();
    }
}

/// The time that this thread had a processor.
fn worked() -> io::Result<Duration> {
    on_processor("/proc/thread-self/schedstat")
}

/// The same of the kernel's thread for softirqs.
fn softirqs(processor: usize) -> Result<Duration, LabError> {
    let name = format!("ksoftirqd/{processor}");
    let what = || format!("find the time of {name}");
    let processes = fs::read_dir("/proc").map_err(LabError::io(what()))?;
    let found = processes.flatten().map(|entry| entry.path()).find(|path| {
        let comm = fs::read_to_string(path.join("comm"));
        comm.is_ok_and(|comm| comm.trim() == name)
    });
    match found {
        Some(path) => {
            let path = path.join("schedstat");
            on_processor(&path.to_string_lossy()).map_err(LabError::io(what()))
        }
        // Hidden from this process: then it cannot be counted.
        None => Ok(Duration::ZERO),
    }
}

/// The first number of a `schedstat` (Documentation/scheduler/sched-stats.rst), in nanoseconds.
fn on_processor(path: &str) -> io::Result<Duration> {
    let text = fs::read_to_string(path)?;
    let nanos = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    nanos
        .map(Duration::from_nanos)
        .ok_or_else(|| io::Error::other(format!("{path} holds no number")))
}
