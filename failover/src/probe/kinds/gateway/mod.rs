//! Asks the uplink's gateway for its hardware address, past every cache: ARP, or neighbour discovery.
//!
//! One socket serves all questions of a plan: closing a packet socket waits for every processor, and
//! answers bear no number that would tell whose they are. Whoever reads one tells all who wait.

mod arp;
mod neighbour_discovery;

use std::io::{self, ErrorKind, Read as _};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;
use nix::libc::ARPHRD_ETHER;
use nix::net::if_::InterfaceFlags;
use socket2::{SockAddr, SockRef, Socket};
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::Answer;
use crate::family::Family;
use crate::health::Failure;
use crate::probe::way::{self, Way};
use crate::sys;

/// How long an interface without hardware addresses is not looked at again: all of them have to be
/// listed for that.
const LOOKED_AT: Duration = Duration::from_secs(10);

/// The gateway of one plan.
#[derive(Debug, Default)]
pub(super) struct Gateway {
    socket: Option<Arc<GatewaySocket>>,
    without_hardware_address: Option<Instant>,
}

/// What is sent, over which socket, and to whom.
pub(super) struct Request {
    pub(super) socket: Socket,
    pub(super) packet: Vec<u8>,
    pub(super) to: SockAddr,
}

/// A socket that receives nothing but answers of the gateway.
#[derive(Debug)]
pub(super) struct GatewaySocket {
    socket: AsyncFd<OwnedFd>,
    packet: Vec<u8>,
    to: SockAddr,
    answers: watch::Sender<u64>,
    /// It has failed once, as for good when its interface is gone.
    failed: AtomicBool,
}

impl Gateway {
    /// The socket, made anew if there is none that works.
    pub(super) fn socket(&mut self, way: &Way) -> Result<Arc<GatewaySocket>, Failure> {
        if let Some(socket) = &self.socket
            && !socket.failed.load(Ordering::Relaxed)
        {
            return Ok(Arc::clone(socket));
        }
        let gateway = way
            .gateway
            .ok_or_else(|| Failure::NotSent(format!("no gateway on {}", way.interface)))?;
        let mac = self.hardware_address(way)?;
        let socket = Arc::new(GatewaySocket::open(way, gateway, mac)?);
        self.socket = Some(Arc::clone(&socket));
        Ok(socket)
    }

    /// The interface's own; it is in the questions.
    fn hardware_address(&mut self, way: &Way) -> Result<[u8; 6], Failure> {
        let what = match way.family {
            Family::Ipv4 => "ARP",
            Family::Ipv6 => "neighbour discovery",
        };
        let none = || Failure::NotSent(format!("no {what} on {}", way.interface));
        let looked_at = self.without_hardware_address;
        if looked_at.is_some_and(|moment| moment.elapsed() < LOOKED_AT) {
            return Err(none());
        }
        let found = hardware_address(way)
            .map_err(|error| Failure::NotSent(format!("cannot list the interfaces: {error}")))?;
        self.without_hardware_address = found.is_none().then(Instant::now);
        found.ok_or_else(none)
    }
}

impl GatewaySocket {
    fn open(way: &Way, gateway: IpAddr, mac: [u8; 6]) -> Result<Self, Failure> {
        let request = match (gateway, way.source) {
            (IpAddr::V4(gateway), IpAddr::V4(source)) => arp::request(way, mac, source, gateway),
            (IpAddr::V6(gateway), IpAddr::V6(_)) => neighbour_discovery::request(way, mac, gateway),
            _ => {
                return Err(Failure::NotSent(format!(
                    "the gateway has no {} address",
                    way.family
                )));
            }
        };
        let opened = request.and_then(|Request { socket, packet, to }| {
            Ok(Self {
                socket: sys::register(socket.into())?,
                packet,
                to,
                answers: watch::Sender::new(0),
                failed: AtomicBool::new(false),
            })
        });
        opened.map_err(|error| {
            Failure::NotSent(format!(
                "no socket to ask the gateway on {}: {error}",
                way.interface
            ))
        })
    }

    /// Asks once, and waits until the gateway answers.
    pub(super) async fn ask(self: Arc<Self>) -> Answer {
        let answered = self.asked().await;
        if matches!(answered, Err(Failure::NotSent(_))) {
            self.failed.store(true, Ordering::Relaxed);
        }
        answered
    }

    async fn asked(&self) -> Answer {
        let failed = |error: io::Error| match way::failure(&error) {
            sent @ Failure::NotSent(_) => sent,
            _ => Failure::NotSent(error.to_string()),
        };
        // What came too late belongs to those who asked before.
        self.receive().map_err(failed)?;
        let mut answers = self.answers.subscribe();
        let begun = Instant::now();
        SockRef::from(self.socket.get_ref())
            .send_to(&self.packet, &self.to)
            .map_err(failed)?;
        loop {
            tokio::select! {
                ready = self.socket.readable() => {
                    let mut ready = ready.map_err(failed)?;
                    self.receive().map_err(failed)?;
                    ready.clear_ready();
                }
                _ = answers.changed() => return Ok(begun.elapsed()),
            }
        }
    }

    /// Reads all that there is, and tells those who wait.
    fn receive(&self) -> io::Result<()> {
        let socket = SockRef::from(self.socket.get_ref());
        let mut buffer = [0; 128];
        loop {
            match (&*socket).read(&mut buffer) {
                Ok(_) => self
                    .answers
                    .send_modify(|count| *count = count.wrapping_add(1)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The interface's hardware address; `None` where neighbours have none.
fn hardware_address(way: &Way) -> io::Result<Option<[u8; 6]>> {
    let name = way.interface.as_str();
    Ok(getifaddrs()?
        .filter(|found| found.interface_name == name)
        .filter(|found| !found.flags.contains(InterfaceFlags::IFF_NOARP))
        .find_map(|found| {
            let address = found.address?;
            let link = address.as_link_addr()?;
            let ethernet = link.hatype() == ARPHRD_ETHER;
            link.addr().filter(|_| ethernet)
        }))
}
