//! A plain netlink socket: for notifications, and for netfilter.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use netlink_packet_core::{
    NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, getsockname,
    recv, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// The largest datagram that the kernel makes (`NLMSG_GOODSIZE` and `netlink_dump` in
/// `net/netlink/af_netlink.c` stay at 32 kB), with room.
pub(super) const DATAGRAM: usize = 64 * 1024;

// Message types of netlink itself (`include/uapi/linux/netlink.h`).
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;

/// Opens a socket that is a member of `groups`, a mask of the groups 1 to 32.
pub(super) fn open(
    protocol: SockProtocol,
    flags: SockFlag,
    groups: u32,
    receive_buffer: usize,
) -> io::Result<OwnedFd> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | flags,
        protocol,
    )?;
    setsockopt(&socket, sockopt::RcvBufForce, &receive_buffer)?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
    Ok(socket)
}

/// Makes a socket a member of `groups` and of no others.
pub(super) fn join(socket: &OwnedFd, groups: u32) -> io::Result<()> {
    let own: NetlinkAddr = getsockname(socket.as_raw_fd())?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(own.pid(), groups))?;
    Ok(())
}

/// Groups of rtnetlink (`include/uapi/linux/rtnetlink.h`).
pub(super) mod rtnlgrp {
    pub(in crate::kernel) const LINK: u32 = 1;
    pub(in crate::kernel) const NEIGH: u32 = 3;
    pub(in crate::kernel) const IPV4_IFADDR: u32 = 5;
    pub(in crate::kernel) const IPV4_ROUTE: u32 = 7;
    pub(in crate::kernel) const IPV4_RULE: u32 = 8;
    pub(in crate::kernel) const IPV6_IFADDR: u32 = 9;
    pub(in crate::kernel) const IPV6_ROUTE: u32 = 11;
    pub(in crate::kernel) const IPV6_RULE: u32 = 19;
    pub(in crate::kernel) const NEXTHOP: u32 = 32;
}

/// The bit of a group in a mask of groups.
pub(super) const fn group(number: u32) -> u32 {
    1 << (number - 1)
}

/// A time as sockets take it.
pub(super) fn time_value(time: Duration) -> TimeVal {
    TimeVal::seconds(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// Sends to the kernel.
pub(super) fn send_all(socket: &OwnedFd, messages: &[u8]) -> io::Result<()> {
    let sent = send(socket.as_raw_fd(), messages, MsgFlags::empty())?;
    if sent == messages.len() {
        Ok(())
    } else {
        Err(io::Error::other("the kernel took a part of it only"))
    }
}

/// Receives one datagram; returns what part of `buffer` it fills.
pub(super) fn receive<'a>(socket: &OwnedFd, buffer: &'a mut [u8]) -> io::Result<&'a [u8]> {
    let length = loop {
        match recv(socket.as_raw_fd(), buffer, MsgFlags::empty()) {
            Err(Errno::EINTR) => {}
            answer => break answer?,
        }
    };
    buffer
        .get(..length)
        .ok_or_else(|| io::Error::other("more was received than fits"))
}

/// The messages of a datagram.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(datagram).ok()?;
        let length = usize::try_from(message.length()).ok()?;
        // The next one begins at a multiple of four.
        datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or(&[]);
        Some(message)
    })
}

/// Appends a message to those that are sent at once.
pub(super) fn append<M: NetlinkSerializable>(
    batch: &mut Vec<u8>,
    message: M,
    flags: u16,
    sequence: u32,
) {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    header.sequence_number = sequence;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let begin = batch.len();
    batch.resize(begin + message.buffer_len(), 0);
    if let Some(place) = batch.get_mut(begin..) {
        message.serialize(place);
    }
}

/// What a message of rtnetlink says; `None` for one of netlink itself.
pub(super) fn rtnetlink(message: NetlinkBuffer<&[u8]>) -> io::Result<Option<RouteNetlinkMessage>> {
    let message = NetlinkMessage::deserialize(message.into_inner()).map_err(io::Error::other)?;
    Ok(match message.payload {
        NetlinkPayload::InnerMessage(message) => Some(message),
        _ => None,
    })
}

/// The number in an error message or at the end of a listing; nought is success.
pub(super) fn error_code(payload: &[u8]) -> io::Error {
    let code = payload
        .first_chunk()
        .map_or(Errno::EBADMSG as i32, |code| i32::from_ne_bytes(*code));
    io::Error::from_raw_os_error(code.saturating_abs())
}
