//! What the kernel tells of by itself.
//!
//! A socket for each kind, so that a flood of one cannot hide another, with filters that leave in the
//! kernel what nobody wants to know.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use failover_common::lifetime::protocol;
use netlink_packet_core::NetlinkBuffer;
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockProtocol};
use socket2::{SockFilter, SockRef};
use tracing::{error, warn};

use super::{SurroundingsError, neighbours, ports};
use crate::fastpath::facts::{Neighbour, News, Port};
use crate::flows::Protocol;
use crate::interface::InterfaceIndex;
use crate::kernel::conntrack::message::Entry;
use crate::kernel::conntrack::tracked::{self, CTA_STATUS};
use crate::kernel::neighbours::MEMORY;
use crate::kernel::netlink::{DATAGRAM, group, join, messages, open, receive, rtnlgrp};

// Groups of netfilter (`include/uapi/linux/netfilter/nfnetlink_compat.h`).
const NFNLGRP_CONNTRACK_DESTROY: u32 = 3;
const NFNLGRP_CONNTRACK_EXP_DESTROY: u32 = 6;

/// Bytes of the receive buffers: several thousand messages.
const RECEIVE_BUFFER: usize = 8 << 20;

/// How many messages of a socket are read at once, so that nobody else has to wait for long.
const AT_ONCE: usize = 4096;

/// The sockets.
#[derive(Debug)]
pub(super) struct Listeners {
    neighbours: Listener,
    known_neighbours: BTreeMap<(InterfaceIndex, IpAddr), Neighbour>,
    links: Listener,
    known_ports: BTreeMap<InterfaceIndex, Port>,
    routes: Listener,
    /// While nobody listens to connection tracking, the kernel makes entries whose end can never be
    /// told (`nf_ct_ecache_ext_add` in net/netfilter/nf_conntrack_ecache.c, with
    /// `nf_conntrack_events=2`). One who listens to the ends of expectations, which are rare, has it
    /// make proper ones and costs nothing.
    _presence: Listener,
    ended: Option<Listener>,
    buffer: Vec<u8>,
}

impl Listeners {
    /// Opens all but the one for ends of entries.
    pub(super) fn open() -> Result<Self, SurroundingsError> {
        let route = |what, groups: &[u32], filter: &[SockFilter]| {
            Listener::open(what, SockProtocol::NetlinkRoute, groups, filter)
        };
        Ok(Self {
            neighbours: route("changes of neighbours", &[rtnlgrp::NEIGH], &of_ip())?,
            known_neighbours: BTreeMap::new(),
            links: route("changes of interfaces", &[rtnlgrp::LINK], &[])?,
            known_ports: BTreeMap::new(),
            routes: route(
                "changes of routes",
                &[
                    rtnlgrp::IPV4_ROUTE,
                    rtnlgrp::IPV6_ROUTE,
                    rtnlgrp::IPV4_RULE,
                    rtnlgrp::IPV6_RULE,
                    rtnlgrp::NEXTHOP,
                    // The kernel takes IPv4 routes with an address without a message of their own.
                    rtnlgrp::IPV4_IFADDR,
                    rtnlgrp::IPV6_IFADDR,
                ],
                &[],
            )?,
            _presence: Listener::open(
                "expectations of connection tracking",
                SockProtocol::NetlinkNetFilter,
                &[NFNLGRP_CONNTRACK_EXP_DESTROY],
                &[SockFilter::new(RETURN, 0, 0, NOTHING)],
            )?,
            ended: None,
            buffer: vec![0; DATAGRAM],
        })
    }

    /// Begins to be told of entries that end.
    pub(super) fn listen(&mut self) -> Result<(), SurroundingsError> {
        if self.ended.is_none() {
            self.ended = Some(Listener::open(
                "ends of connection tracking entries",
                SockProtocol::NetlinkNetFilter,
                &[NFNLGRP_CONNTRACK_DESTROY],
                &assured(),
            )?);
        }
        Ok(())
    }

    /// Ends that.
    pub(super) fn stop_listening(&mut self) {
        self.ended = None;
    }

    /// What has news when it is readable.
    pub(super) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        [&self.neighbours, &self.links, &self.routes]
            .into_iter()
            .chain(&self.ended)
            .map(|listener| listener.socket.as_fd())
            .collect()
    }

    /// What happened since.
    pub(super) fn news(&mut self) -> Vec<News> {
        let mut news = Vec::new();
        if let Some(ended) = &self.ended {
            let whole = ended.drain(&mut self.buffer, |message| {
                news.extend(end(&message));
                Ok(())
            });
            if !whole {
                news.push(News::LostEnds);
            }
        }
        let mut routes = false;
        let known = &mut self.known_ports;
        let whole = self.links.drain(&mut self.buffer, |message| {
            let Some((interface, port)) = ports::parse(&message) else {
                return Ok(());
            };
            let before = match port {
                Some(port) => known.insert(interface, port),
                None => known.remove(&interface),
            };
            if port.is_none() || before != port {
                news.push(News::Port { interface, port });
                // IPv4 routes by an interface that goes down are taken out without a message.
                routes = true;
            }
            Ok(())
        });
        if !whole {
            known.clear();
            news.push(News::Lost);
        }
        let known = &mut self.known_neighbours;
        let whole = self.neighbours.drain(&mut self.buffer, |message| {
            let Some((who, neighbour)) = neighbours::parse(message)? else {
                return Ok(());
            };
            if known.len() >= MEMORY {
                known.clear();
            }
            if known.insert(who, neighbour) != Some(neighbour) {
                let (interface, address) = who;
                news.push(News::Neighbour {
                    interface,
                    address,
                    neighbour,
                });
            }
            Ok(())
        });
        if !whole {
            known.clear();
            news.push(News::Lost);
        }
        // Lost messages about routes say that routes changed, too.
        let whole = self.routes.drain(&mut self.buffer, |_| {
            routes = true;
            Ok(())
        });
        if routes || !whole {
            news.push(News::Routes);
        }
        news
    }
}

/// The end of an entry, as it is told; `None` for one that the fast path never takes.
fn end(message: &NetlinkBuffer<&[u8]>) -> Option<News> {
    let entry = Entry::parse(message.payload())?;
    let flow = tracked::read(&entry)?;
    let tuple = flow.original;
    let taken = matches!(flow.protocol, Protocol(protocol::TCP | protocol::UDP));
    taken.then_some(News::Ended {
        protocol: flow.protocol,
        source: tuple.source,
        destination: tuple.destination,
        source_port: tuple.source_port,
        destination_port: tuple.destination_port,
    })
}

/// A socket that does not block.
#[derive(Debug)]
struct Listener {
    what: &'static str,
    socket: OwnedFd,
}

impl Listener {
    fn open(
        what: &'static str,
        protocol: SockProtocol,
        groups: &[u32],
        filter: &[SockFilter],
    ) -> Result<Self, SurroundingsError> {
        let groups = groups.iter().fold(0, |mask, number| mask | group(*number));
        let open = || {
            // A member of no group until the filter is there.
            let socket = open(protocol, SockFlag::SOCK_NONBLOCK, 0, RECEIVE_BUFFER)?;
            if !filter.is_empty() {
                SockRef::from(&socket).attach_filter(filter)?;
            }
            join(&socket, groups)?;
            Ok(socket)
        };
        open()
            .map(|socket| Self { what, socket })
            .map_err(|source| SurroundingsError::Open { what, source })
    }

    /// Reads what waits, as far as it is read at once. False when messages were lost; then all was
    /// read: the kernel loses every message, and says no more of it, until nothing waits
    /// (`NETLINK_S_CONGESTED` in net/netlink/af_netlink.c).
    fn drain(
        &self,
        buffer: &mut [u8],
        mut take: impl FnMut(NetlinkBuffer<&[u8]>) -> io::Result<()>,
    ) -> bool {
        let mut whole = true;
        let mut congested = false;
        let mut read = 0;
        while read < AT_ONCE || congested {
            read += 1;
            match receive(&self.socket, buffer) {
                Ok(datagram) => {
                    for message in messages(datagram) {
                        if let Err(error) = take(message) {
                            warn!(what = self.what, %error, "a message cannot be read");
                            whole = false;
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    warn!(what = self.what, "messages came faster than they were read");
                    whole = false;
                    congested = true;
                }
                Err(error) => {
                    error!(what = self.what, %error, "messages cannot be read");
                    whole = false;
                    break;
                }
            }
        }
        whole
    }
}

// Classic BPF (`include/uapi/linux/bpf_common.h`).
const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const LOAD_WORD_AT_X: u16 = 0x40; // BPF_LD | BPF_W | BPF_IND
const A_IS: u16 = 0x00; // BPF_LD | BPF_IMM
const X_IS: u16 = 0x01; // BPF_LDX | BPF_IMM
const X_IS_A: u16 = 0x07; // BPF_MISC | BPF_TAX
const IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const IF_ANY_BIT: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const WHOLE_MESSAGE: u32 = u32::MAX;
const NOTHING: u32 = 0;

/// Neighbours of IP, and not what bridges learn, which is told in the same group.
fn of_ip() -> [SockFilter; 5] {
    /// Offset of `ndm_family`: after `struct nlmsghdr`.
    const FAMILY: u32 = 16;
    const AF_INET: u32 = 2;
    const AF_INET6: u32 = 10;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, FAMILY),
        SockFilter::new(IF_EQUAL, 1, 0, AF_INET),
        SockFilter::new(IF_EQUAL, 0, 1, AF_INET6),
        SockFilter::new(RETURN, 0, 0, WHOLE_MESSAGE),
        SockFilter::new(RETURN, 0, 0, NOTHING),
    ]
}

/// Entries that have lasted (`IPS_ASSURED`), so that the ends of a flood of flows of a few packets do
/// not even wake us up.
fn assured() -> [SockFilter; 9] {
    /// Offset of the first attribute: after `struct nlmsghdr` and `struct nfgenmsg`.
    const ATTRIBUTES: u32 = 20;
    /// `SKF_AD_OFF + SKF_AD_NLATTR` (`include/uapi/linux/filter.h`): the offset of the attribute of type
    /// X, searched from A on; 0 if there is none.
    const FIND_ATTRIBUTE: u32 = (-0x1000_i32 + 12).cast_unsigned();
    /// Length of an attribute's header.
    const HEADER: u32 = 4;
    const IPS_ASSURED: u32 = 1 << 2;
    [
        SockFilter::new(A_IS, 0, 0, ATTRIBUTES),
        SockFilter::new(X_IS, 0, 0, CTA_STATUS as u32),
        SockFilter::new(LOAD_WORD, 0, 0, FIND_ATTRIBUTE),
        // Where nothing is said, it may be so.
        SockFilter::new(IF_EQUAL, 3, 0, 0),
        SockFilter::new(X_IS_A, 0, 0, 0),
        SockFilter::new(LOAD_WORD_AT_X, 0, 0, HEADER),
        SockFilter::new(IF_ANY_BIT, 0, 1, IPS_ASSURED),
        SockFilter::new(RETURN, 0, 0, WHOLE_MESSAGE),
        SockFilter::new(RETURN, 0, 0, NOTHING),
    ]
}
