//! Notices what changes in the kernel: links at once, everything else as a hint to read it anew.
//!
//! Four sockets, so that a flood of one kind cannot hide another, and filters in the kernel, so
//! that the routes of a BGP peer do not even wake us up. Our own changes are left out, told by the
//! number of the socket that made them; the same done by anyone else is reported.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkMessage, NetlinkPayload, NlasIterator,
};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::RuleAttribute;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::sys::socket::{SockFlag, SockProtocol};
use socket2::{SockFilter, SockRef};
use thiserror::Error;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tracing::{error, warn};

use super::neighbours::NeighbourFilter;
use super::netlink::{DATAGRAM, group, join, messages, open, receive, rtnlgrp, send_all};
use super::network;
use crate::interface::{InterfaceIndex, InterfaceName};
use crate::network::{Link, MacAddress};
use crate::sys;
use crate::wanted::routing::PROTOCOL;

/// Something that changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A link is as it says, or gone. It comes from the kernel's message itself. IPv4 routes by a
    /// link that went down are taken out without a message of their own.
    Link {
        /// Its name. A link that was renamed is gone by its old name first.
        name: InterfaceName,
        /// What it is now; `None` if it is gone.
        link: Option<Link>,
    },
    /// Addresses came or changed their state.
    Addresses,
    /// An address went. The kernel takes IPv4 routes with the last one of an interface, and the
    /// preferred source out of IPv6 routes, without a message of their own.
    AddressGone,
    /// A default route of any table, or a route of ours, was changed by someone else.
    Routes,
    /// A rule of ours was changed by someone else.
    Rules,
    /// The hardware address of a neighbour is known now, or is another.
    Neighbour {
        /// The interface behind which it is.
        interface: InterfaceIndex,
        /// Its address.
        address: IpAddr,
        /// Its hardware address.
        mac: MacAddress,
    },
    /// Our nftables table was changed, by us or someone else.
    Firewall,
    /// Messages were lost: everything must be read anew.
    Lost,
}

/// What is noticed from now on.
#[derive(Debug)]
pub struct Watch {
    /// What changed. The watch ends when it is dropped.
    pub changes: mpsc::Receiver<Change>,
    /// Of which interfaces neighbours are told; at first of none.
    pub neighbours: NeighbourFilter,
    /// The part of the watch that is told of our nftables table.
    pub table: TableListener,
}

/// Listens to changes of nftables.
///
/// The kernel makes a message of some kilobytes for each element of a set as soon as anybody listens
/// (`nf_tables_setelem_notify` in net/netfilter/nf_tables_api.c): with the largest sets that is more
/// memory than a small gateway has.
#[derive(Debug)]
pub struct TableListener {
    socket: OwnedFd,
}

/// As long as this is there, the listener hears nothing.
#[derive(Debug)]
pub(super) struct Pause<'l>(&'l TableListener);

impl TableListener {
    /// Makes it hear nothing for a while.
    pub(super) fn pause(&self) -> Pause<'_> {
        self.join(0);
        Pause(self)
    }

    fn join(&self, groups: u32) {
        if let Err(error) = join(&self.socket, groups) {
            error!(%error, "changes of nftables by others may be noticed later, or our own may take longer");
        }
    }
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.0.join(group(NFNLGRP_NFTABLES));
    }
}

/// Why changes cannot be noticed.
#[derive(Debug, Error)]
#[error("cannot watch {what}: {source}")]
pub struct WatchError {
    what: &'static str,
    source: io::Error,
}

/// Changes that wait for the reader before the sockets' own buffers have to hold them.
const QUEUE: usize = 256;

/// Bytes of each socket's receive buffer: a replaced ruleset is told in a hundred kilobytes.
const RECEIVE_BUFFER: usize = 4 << 20;

/// Group of nftables (`include/uapi/linux/netfilter/nfnetlink.h`).
const NFNLGRP_NFTABLES: u32 = 7;
/// `NFPROTO_INET`, the family of our table.
const NFPROTO_INET: u8 = 1;
/// The name of the table is the first attribute of tables, chains, rules, sets and elements alike.
const NFTA_TABLE_NAME: u16 = 1;
/// Length of `struct nfgenmsg`.
const NFGENMSG_LEN: usize = 4;

/// Offset of `rtm_dst_len` in a message: after `struct nlmsghdr` and `rtm_family`.
const RTM_DST_LEN: u32 = 17;
/// Offset of `rtm_protocol`.
const RTM_PROTOCOL: u32 = 21;

/// Begins to watch the present network namespace, served by the present runtime. `own_port` is the
/// number of the socket whose changes are ours ([`super::routing::NetlinkRouting::port`]). The
/// first changes are one [`Change::Link`] for each link that is there.
///
/// # Errors
/// When a socket cannot be had, as without `CAP_NET_ADMIN`.
pub fn start(own_port: u32) -> Result<Watch, WatchError> {
    let (changes, receiver) = mpsc::channel(QUEUE);
    let links = Socket::open(
        "links, addresses and rules",
        SockProtocol::NetlinkRoute,
        &[
            rtnlgrp::LINK,
            rtnlgrp::IPV4_IFADDR,
            rtnlgrp::IPV6_IFADDR,
            rtnlgrp::IPV4_RULE,
            rtnlgrp::IPV6_RULE,
        ],
        &[],
    )?;
    let routes = Socket::open(
        "routes",
        SockProtocol::NetlinkRoute,
        &[rtnlgrp::IPV4_ROUTE, rtnlgrp::IPV6_ROUTE],
        &default_routes_and_ours(),
    )?;
    let firewall = Socket::open(
        "nftables",
        SockProtocol::NetlinkNetFilter,
        &[NFNLGRP_NFTABLES],
        &[],
    )?;
    let mut reader = Links::new(own_port);
    links.ask(&mut reader).map_err(|source| WatchError {
        what: links.what,
        source,
    })?;
    let (filter, neighbours, neighbour_reader) = NeighbourFilter::open()?;
    let table = TableListener {
        socket: firewall.another()?,
    };
    tokio::spawn(run(links, reader, changes.clone()));
    tokio::spawn(run(routes, Routes { own_port }, changes.clone()));
    tokio::spawn(run(neighbours, neighbour_reader, changes.clone()));
    tokio::spawn(run(firewall, Firewall, changes));
    Ok(Watch {
        changes: receiver,
        neighbours: filter,
        table,
    })
}

/// A filter that lets through the routes of our protocol and those to everywhere.
fn default_routes_and_ours() -> [SockFilter; 6] {
    const LOAD_BYTE: u16 = 0x30; // BPF_LD | BPF_B | BPF_ABS
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    [
        SockFilter::new(LOAD_BYTE, 0, 0, RTM_DST_LEN),
        SockFilter::new(JUMP_IF_EQUAL, 2, 0, 0),
        SockFilter::new(LOAD_BYTE, 0, 0, RTM_PROTOCOL),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, PROTOCOL as u32),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

pub(super) struct Socket {
    what: &'static str,
    fd: AsyncFd<OwnedFd>,
}

impl Socket {
    pub(super) fn open(
        what: &'static str,
        protocol: SockProtocol,
        groups: &[u32],
        filter: &[SockFilter],
    ) -> Result<Self, WatchError> {
        let groups = groups.iter().fold(0, |mask, number| mask | group(*number));
        let open = || {
            let fd = open(protocol, SockFlag::SOCK_NONBLOCK, groups, RECEIVE_BUFFER)?;
            if !filter.is_empty() {
                SockRef::from(&fd).attach_filter(filter)?;
            }
            sys::register(fd)
        };
        match open() {
            Ok(fd) => Ok(Self { what, fd }),
            Err(source) => Err(WatchError { what, source }),
        }
    }

    /// Another descriptor of the same socket.
    pub(super) fn another(&self) -> Result<OwnedFd, WatchError> {
        let another = self.fd.get_ref().try_clone();
        another.map_err(|source| WatchError {
            what: self.what,
            source,
        })
    }

    fn ask<R: Reader>(&self, reader: &mut R) -> io::Result<()> {
        reader
            .question()
            .map_or(Ok(()), |question| send_all(self.fd.get_ref(), &question))
    }

    async fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let length = loop {
            let mut ready = self.fd.readable().await?;
            if let Ok(received) = ready.try_io(|fd| Ok(receive(fd.get_ref(), buffer)?.len())) {
                break received?;
            }
        };
        Ok(buffer.get(..length).unwrap_or_default())
    }
}

/// What is done with the messages of one socket.
pub(super) trait Reader {
    /// What to ask for at first, and after messages were lost.
    fn question(&mut self) -> Option<Vec<u8>> {
        None
    }

    /// What a message says.
    fn read(&mut self, message: NetlinkBuffer<&[u8]>) -> Vec<Change>;
}

/// Reads a socket until nobody listens.
async fn run<R: Reader>(socket: Socket, mut reader: R, changes: mpsc::Sender<Change>) {
    /// From a failure that should not be to the next attempt.
    const PAUSE: Duration = Duration::from_secs(1);
    let mut buffer = vec![0; DATAGRAM];
    loop {
        let received = tokio::select! {
            received = socket.receive(&mut buffer) => received,
            () = changes.closed() => return,
        };
        let mut news = Vec::new();
        match received {
            Ok(datagram) => {
                for message in messages(datagram) {
                    for change in reader.read(message) {
                        // One hint to read anew is as good as many.
                        if news.last() != Some(&change) {
                            news.push(change);
                        }
                    }
                }
            }
            Err(error) => {
                if error.raw_os_error() == Some(Errno::ENOBUFS as i32) {
                    warn!(
                        what = socket.what,
                        "changes came faster than they were read"
                    );
                } else {
                    error!(what = socket.what, %error, "cannot read what changed");
                    tokio::time::sleep(PAUSE).await;
                }
                news.push(Change::Lost);
                if let Err(error) = socket.ask(&mut reader) {
                    error!(what = socket.what, %error, "cannot ask for what is there");
                }
            }
        }
        for change in news {
            if changes.send(change).await.is_err() {
                return;
            }
        }
    }
}

/// Links, addresses and rules.
struct Links {
    own_port: u32,
    /// What was last said of each, by index, without counters: most messages say nothing new.
    known: BTreeMap<u32, (InterfaceName, Link)>,
}

impl Links {
    const fn new(own_port: u32) -> Self {
        Self {
            own_port,
            known: BTreeMap::new(),
        }
    }

    fn new_link(&mut self, message: &LinkMessage) -> Vec<Change> {
        let Some((name, link)) = network::link(message) else {
            return Vec::new();
        };
        let mut quiet = link.clone();
        quiet.traffic = Default::default();
        let now = (name.clone(), quiet);
        let before = self.known.insert(message.header.index, now.clone());
        let mut changes = Vec::new();
        match before {
            Some(before) if before == now => return changes,
            Some((old, _)) if old != name => changes.push(Change::Link {
                name: old,
                link: None,
            }),
            _ => {}
        }
        changes.push(Change::Link {
            name,
            link: Some(link),
        });
        changes
    }

    fn deleted_link(&mut self, message: &LinkMessage) -> Vec<Change> {
        // A port that leaves its bridge is told in the bridge's family, and is still there.
        if message.header.interface_family != AddressFamily::Unspec {
            return Vec::new();
        }
        self.known
            .remove(&message.header.index)
            .or_else(|| network::link(message))
            .map(|(name, _)| Change::Link { name, link: None })
            .into_iter()
            .collect()
    }
}

impl Reader for Links {
    fn question(&mut self) -> Option<Vec<u8>> {
        self.known.clear();
        let mut message =
            NetlinkMessage::from(RouteNetlinkMessage::GetLink(LinkMessage::default()));
        message.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        Some(bytes)
    }

    fn read(&mut self, message: NetlinkBuffer<&[u8]>) -> Vec<Change> {
        let parsed = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message.into_inner());
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(error) => {
                warn!(%error, "a message about a link, address or rule could not be read");
                return vec![Change::Lost];
            }
        };
        let NetlinkPayload::InnerMessage(inner) = parsed.payload else {
            return Vec::new();
        };
        match inner {
            RouteNetlinkMessage::NewLink(message) => self.new_link(&message),
            RouteNetlinkMessage::DelLink(message) => self.deleted_link(&message),
            RouteNetlinkMessage::NewAddress(_) => vec![Change::Addresses],
            RouteNetlinkMessage::DelAddress(_) => vec![Change::AddressGone],
            RouteNetlinkMessage::NewRule(rule) | RouteNetlinkMessage::DelRule(rule)
                if parsed.header.port_number != self.own_port
                    && rule
                        .attributes
                        .contains(&RuleAttribute::Protocol(RouteProtocol::from(PROTOCOL))) =>
            {
                vec![Change::Rules]
            }
            _ => Vec::new(),
        }
    }
}

/// Routes; the socket's filter has chosen them.
struct Routes {
    own_port: u32,
}

impl Reader for Routes {
    fn read(&mut self, message: NetlinkBuffer<&[u8]>) -> Vec<Change> {
        if message.port_number() == self.own_port {
            Vec::new()
        } else {
            vec![Change::Routes]
        }
    }
}

/// Our nftables table.
struct Firewall;

impl Reader for Firewall {
    fn read(&mut self, message: NetlinkBuffer<&[u8]>) -> Vec<Change> {
        let payload = message.payload();
        let ours = payload.first() == Some(&NFPROTO_INET)
            && payload
                .get(NFGENMSG_LEN..)
                .and_then(|attributes| NlasIterator::new(attributes).next()?.ok())
                .is_some_and(|first| {
                    first.kind() == NFTA_TABLE_NAME
                        && first.value().strip_suffix(b"\0")
                            == Some(super::nftables::TABLE.as_bytes())
                });
        if ours {
            vec![Change::Firewall]
        } else {
            Vec::new()
        }
    }
}
