//! What the fast path asks of the kernel, answered by the kernel of this network namespace.
//!
//! | file | what it does |
//! | --- | --- |
//! | `connections` | asks for entries of connection tracking, and keeps them alive |
//! | `ways` | asks for routes |
//! | `neighbours` | reads neighbours, and has stale ones asked |
//! | `ports` | reads interfaces |
//! | `obstacles` | finds programs and filters of others on an interface |
//! | `chains` | finds firewalls of others there |
//! | `policies` | counts IPsec policies |
//! | `listening` | is told of what changes |
//!
//! All of it blocks, on a thread of its own, for no longer than the kernel takes to answer.

mod chains;
mod connections;
mod listening;
mod neighbours;
mod obstacles;
mod policies;
mod ports;
mod ways;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use aya::programs::ProgramError;
use nix::sys::socket::SockProtocol;
use thiserror::Error;

use self::listening::Listeners;
use self::policies::Policies;
use super::questions::Questions;
use crate::fastpath::edge::Surroundings;
use crate::fastpath::facts::{Connection, Kept, Neighbour, News, PassingPacket, Port, Upkeep, Way};
use crate::fastpath::judging::Lifetimes;
use crate::interface::InterfaceIndex;
use crate::kernel::Sysctls as _;
use crate::kernel::sysctl::ProcSys;
use crate::monotonic::now_ns;

/// The kernel of the network namespace in which it was opened. It is to be used by threads of that
/// namespace alone: names of interfaces are those of the thread's.
#[derive(Debug)]
pub struct FastPathKernel {
    netfilter: Questions,
    routing: Questions,
    policies: Policies,
    listeners: Listeners,
    present_since_ns: u64,
    /// Whether entries of all times are made so that their end can be told: `nf_conntrack_events` was
    /// never seen to be anything but 1.
    always_told: bool,
}

/// Why the kernel was not asked, or did not answer.
#[derive(Debug, Error)]
pub enum SurroundingsError {
    /// There is no socket.
    #[error("cannot open a netlink socket for {what}: {source}")]
    Open {
        /// What it would be for.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The kernel refused.
    #[error("cannot {what}: {source}")]
    Refused {
        /// What was tried.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// An interface could not be looked at.
    #[error("cannot list what hangs on interface {interface}: {source}")]
    Look {
        /// The interface.
        interface: InterfaceIndex,
        /// Why.
        source: io::Error,
    },
    /// Its programs could not be listed.
    #[error("cannot list the eBPF programs of interface {interface}: {source}")]
    Programs {
        /// The interface.
        interface: InterfaceIndex,
        /// Why.
        source: Box<ProgramError>,
    },
}

impl SurroundingsError {
    fn refused(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Refused { what, source }
    }
}

impl FastPathKernel {
    /// Opens its sockets in the present network namespace. From now on news of neighbours, interfaces
    /// and routes wait to be read, and entries of connection tracking are made so that their end can be
    /// told: of older ones it may never be (`nf_conntrack_events`).
    ///
    /// # Errors
    /// When the kernel gives none, as without `CAP_NET_ADMIN` or without `nf_conntrack_netlink`.
    pub fn open() -> Result<Self, SurroundingsError> {
        let open = |what, protocol| {
            Questions::open(protocol).map_err(|source| SurroundingsError::Open { what, source })
        };
        Ok(Self {
            netfilter: open("connection tracking", SockProtocol::NetlinkNetFilter)?,
            routing: open("routes", SockProtocol::NetlinkRoute)?,
            policies: Policies::default(),
            listeners: Listeners::open()?,
            // Those who listen are there by now.
            present_since_ns: now_ns(),
            always_told: true,
        })
    }
}

impl Surroundings for FastPathKernel {
    type Error = SurroundingsError;

    fn connections(
        &mut self,
        packets: &[PassingPacket],
    ) -> Result<Vec<Option<Connection>>, SurroundingsError> {
        connections::ask(&mut self.netfilter, packets).map_err(SurroundingsError::refused(
            "look for connection tracking entries",
        ))
    }

    fn keep(&mut self, upkeep: &[Upkeep]) -> Result<Vec<Kept>, SurroundingsError> {
        connections::keep(&mut self.netfilter, upkeep).map_err(SurroundingsError::refused(
            "keep connection tracking entries alive",
        ))
    }

    fn ways(&mut self, packets: &[PassingPacket]) -> Result<Vec<Option<Way>>, SurroundingsError> {
        ways::ask(&mut self.routing, packets)
            .map_err(SurroundingsError::refused("ask for the routes of flows"))
    }

    fn neighbours(
        &mut self,
    ) -> Result<BTreeMap<(InterfaceIndex, IpAddr), Neighbour>, SurroundingsError> {
        neighbours::read(&mut self.routing).map_err(SurroundingsError::refused("list neighbours"))
    }

    fn use_neighbours(
        &mut self,
        neighbours: &[(InterfaceIndex, IpAddr)],
    ) -> Result<(), SurroundingsError> {
        neighbours::have_asked(&mut self.routing, neighbours)
            .map_err(SurroundingsError::refused("have stale neighbours asked"))
    }

    fn ports(&mut self) -> Result<BTreeMap<InterfaceIndex, Port>, SurroundingsError> {
        ports::read(&mut self.routing).map_err(SurroundingsError::refused("list interfaces"))
    }

    fn obstacle(
        &mut self,
        interface: InterfaceIndex,
        own: &[u32],
    ) -> Result<Option<String>, SurroundingsError> {
        obstacles::find(&mut self.routing, &mut self.netfilter, interface, own)
    }

    fn has_ipsec_policies(&mut self) -> Result<bool, SurroundingsError> {
        self.policies
            .are_there()
            .map_err(SurroundingsError::refused("count IPsec policies"))
    }

    fn tells_since_ns(&mut self) -> Option<u64> {
        // 0: none is made so; 1: all are; 2, the default: those that are made while somebody listens.
        let setting = ProcSys::default().read("net/netfilter/nf_conntrack_events");
        let setting = setting.ok().flatten();
        let setting = setting.as_deref().map(str::trim);
        self.always_told &= setting == Some("1");
        match setting {
            Some("0") => None,
            _ if self.always_told => Some(0),
            _ => Some(self.present_since_ns),
        }
    }

    fn lifetimes(&self) -> Lifetimes {
        let settings = ProcSys::default();
        let seconds = |name: &str| {
            let read = settings.read(&format!("net/netfilter/nf_conntrack_{name}"));
            let seconds = read
                .ok()
                .flatten()
                .and_then(|value| value.trim().parse().ok());
            // Where it cannot be read, an entry's own time counts.
            Duration::from_secs(seconds.unwrap_or(0))
        };
        Lifetimes {
            tcp: seconds("tcp_timeout_established"),
            tcp_unacknowledged: seconds("tcp_timeout_max_retrans")
                .max(seconds("tcp_timeout_unacknowledged")),
            udp: seconds("udp_timeout_stream"),
        }
    }

    fn listen(&mut self) -> Result<(), SurroundingsError> {
        self.listeners.listen()
    }

    fn stop_listening(&mut self) {
        self.listeners.stop_listening();
    }

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.listeners.descriptors()
    }

    fn news(&mut self) -> Vec<News> {
        self.listeners.news()
    }
}
