//! Neighbours and their hardware addresses, as the kernel resolved them.
//!
//! It resolves a gateway when it sends to it, which probes see to. An entry changes its state all the
//! time; what counts here is the address alone.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;

use netlink_packet_core::{NetlinkBuffer, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage};
use nix::sys::socket::SockProtocol;
use socket2::{SockFilter, SockRef};
use tracing::warn;

use super::netlink::rtnlgrp;
use super::routing::route::address_family;
use super::rtnetlink::{Rtnetlink, RtnetlinkError};
use super::watch::{Change, Reader, Socket, WatchError};
use crate::family::Family;
use crate::interface::InterfaceIndex;
use crate::network::{MacAddress, Neighbours};

/// Offset of `ndm_ifindex` in a message: after `struct nlmsghdr`, `ndm_family` and padding.
const NDM_IFINDEX: u32 = 20;

/// Reads the neighbours whose hardware addresses are known: those behind an interface, or all.
pub(super) async fn read(
    netlink: &mut Rtnetlink,
    behind: Option<InterfaceIndex>,
) -> Result<Neighbours, RtnetlinkError> {
    let mut found = Neighbours::new();
    for family in Family::ALL {
        let mut question = NeighbourMessage::default();
        question.header.family = address_family(family);
        let wanted = behind.map(|index| NeighbourAttribute::IfIndex(index.0));
        question.attributes.extend(wanted);
        let answers = netlink
            .dump(RouteNetlinkMessage::GetNeighbour(question))
            .await?;
        found.extend(answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewNeighbour(message) => neighbour(message),
            _ => None,
        }));
    }
    // Where a family is switched off the kernel may answer with others.
    found.retain(|(index, _), _| behind.is_none_or(|behind| *index == behind));
    Ok(found)
}

/// A neighbour whose hardware address is known.
fn neighbour(message: &NeighbourMessage) -> Option<((InterfaceIndex, IpAddr), MacAddress)> {
    let (who, mac) = who(message)?;
    Some((who, mac?))
}

/// A neighbour, and its hardware address if one is known.
pub(super) fn who(
    message: &NeighbourMessage,
) -> Option<((InterfaceIndex, IpAddr), Option<MacAddress>)> {
    let mut address = None;
    let mut mac = None;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => {
                address = Some(IpAddr::V4(*found));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => {
                address = Some(IpAddr::V6(*found));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            _ => {}
        }
    }
    let index = InterfaceIndex(message.header.ifindex);
    Some(((index, address?), mac.map(MacAddress)))
}

/// Says of which interfaces neighbours are told. Of no others they even wake us up: behind a downlink
/// may be thousands.
#[derive(Debug)]
pub struct NeighbourFilter {
    socket: OwnedFd,
    interfaces: BTreeSet<InterfaceIndex>,
}

impl NeighbourFilter {
    /// Opens a socket that tells of no neighbour yet, and what reads it.
    pub(super) fn open() -> Result<(Self, Socket, Told), WatchError> {
        let nothing = told_of(&BTreeSet::new());
        let socket = Socket::open(
            "neighbours",
            SockProtocol::NetlinkRoute,
            &[rtnlgrp::NEIGH],
            &nothing,
        )?;
        let filter = Self {
            socket: socket.another()?,
            interfaces: BTreeSet::new(),
        };
        Ok((filter, socket, Told::default()))
    }

    /// Has neighbours of these interfaces told from now on, and of no others. Returns whether that is
    /// new: what is there already is to be read then.
    ///
    /// # Errors
    /// When the kernel refuses the filter.
    pub fn follow(&mut self, interfaces: &BTreeSet<InterfaceIndex>) -> io::Result<bool> {
        if self.interfaces == *interfaces {
            return Ok(false);
        }
        SockRef::from(&self.socket).attach_filter(&told_of(interfaces))?;
        self.interfaces.clone_from(interfaces);
        Ok(true)
    }
}

/// A filter that lets through messages about neighbours of these interfaces.
fn told_of(interfaces: &BTreeSet<InterfaceIndex>) -> Vec<SockFilter> {
    const LOAD_WORD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    let mut filter = vec![SockFilter::new(LOAD_WORD, 0, 0, NDM_IFINDEX)];
    for index in interfaces {
        // The filter loads in network order what the kernel wrote in the machine's. Each comparison
        // has its own way out, since a jump reaches 255 instructions.
        filter.push(SockFilter::new(JUMP_IF_EQUAL, 0, 1, index.0.to_be()));
        filter.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    }
    filter.push(SockFilter::new(RETURN, 0, 0, 0));
    filter
}

/// Messages about neighbours; the socket's filter has chosen them.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What was last said of each: most messages tell of a new state alone.
    last: Neighbours,
}

/// How many neighbours are remembered; the kernel itself keeps about as many
/// (`net.ipv4.neigh.default.gc_thresh3`).
pub(super) const MEMORY: usize = 4096;

impl Reader for Told {
    /// What was said meanwhile is not known when messages were lost.
    fn question(&mut self) -> Option<Vec<u8>> {
        self.last.clear();
        None
    }

    fn read(&mut self, message: NetlinkBuffer<&[u8]>) -> Vec<Change> {
        let parsed = NetlinkMessage::<RouteNetlinkMessage>::deserialize(message.into_inner());
        let message = match parsed.map(|parsed| parsed.payload) {
            Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message))) => message,
            Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNeighbour(message))) => {
                // When it comes back, it is told anew: what it was told to may have left it out.
                if let Some((neighbour, _)) = neighbour(&message) {
                    self.last.remove(&neighbour);
                }
                return Vec::new();
            }
            Ok(_) => return Vec::new(),
            Err(error) => {
                warn!(%error, "a message about a neighbour could not be read");
                return vec![Change::Lost];
            }
        };
        let Some(((interface, address), mac)) = neighbour(&message) else {
            return Vec::new();
        };
        if self.last.len() >= MEMORY {
            self.last.clear();
        }
        if self.last.insert((interface, address), mac) == Some(mac) {
            return Vec::new();
        }
        vec![Change::Neighbour {
            interface,
            address,
            mac,
        }]
    }
}
