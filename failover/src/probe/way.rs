//! The way through one uplink in one family, and sockets that take no other.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::num::NonZeroU32;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};

use super::ProbePlan;
use crate::family::Family;
use crate::health::Failure;
use crate::interface::{InterfaceIndex, InterfaceName};
use crate::mark::Mark;
use crate::uplink::UplinkName;

/// The way through one uplink in one family.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) uplink: UplinkName,
    pub(super) family: Family,
    pub(super) interface: InterfaceName,
    pub(super) index: InterfaceIndex,
    pub(super) source: IpAddr,
    pub(super) gateway: Option<IpAddr>,
    pub(super) mark: Mark,
}

impl Way {
    pub(super) fn of(plan: &ProbePlan) -> Self {
        Self {
            uplink: plan.name.clone(),
            family: plan.family,
            interface: plan.interface.clone(),
            index: plan.index,
            source: plan.source,
            gateway: plan.gateway,
            mark: plan.mark,
        }
    }

    /// An address as one on this way's link, where that makes a difference.
    pub(super) fn scoped(&self, address: IpAddr, port: u16) -> SocketAddr {
        match address {
            IpAddr::V6(address) if address.is_unicast_link_local() || address.is_multicast() => {
                SocketAddr::V6(SocketAddrV6::new(address, port, 0, self.index.0))
            }
            address => SocketAddr::new(address, port),
        }
    }

    /// Connects to an address of this way's family.
    pub(super) async fn connect(&self, to: SocketAddr) -> Result<TcpStream, Failure> {
        let socket = self
            .socket(Family::of(to.ip()), Type::STREAM, Protocol::TCP)
            .map_err(|error| not_sent("a TCP socket", &error))?;
        // The port is chosen when the destination is known, so that many connections to different
        // ones may have the same.
        setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)
            .map_err(io::Error::from)
            // Closed, it ends by a reset: otherwise this host and its connection tracking would
            // remember each for minutes, and send the end again and again where the uplink is dead.
            .and_then(|()| socket.set_linger(Some(Duration::ZERO)))
            .and_then(|()| self.bind(&socket))
            .map_err(|error| not_sent("a TCP socket", &error))?;
        let stream = TcpSocket::from_std_stream(socket.into())
            .connect(to)
            .await
            .map_err(|error| failure(&error))?;
        stream.set_nodelay(true).map_err(|error| failure(&error))?;
        Ok(stream)
    }

    /// A UDP socket to an address. Of the other family than this way's the kernel chooses the source.
    pub(super) async fn datagrams(&self, to: SocketAddr) -> Result<UdpSocket, Failure> {
        let failed = |error: io::Error| not_sent("a UDP socket", &error);
        let family = Family::of(to.ip());
        let socket = self
            .socket(family, Type::DGRAM, Protocol::UDP)
            .map_err(failed)?;
        if family == self.family {
            self.bind(&socket).map_err(failed)?;
        }
        let socket = UdpSocket::from_std(socket.into()).map_err(failed)?;
        socket.connect(to).await.map_err(|error| failure(&error))?;
        Ok(socket)
    }

    /// A socket that is bound to the interface, not yet to the source, and has the mark.
    pub(super) fn socket(
        &self,
        family: Family,
        kind: Type,
        protocol: Protocol,
    ) -> io::Result<Socket> {
        let domain = match family {
            Family::Ipv4 => Domain::IPV4,
            Family::Ipv6 => Domain::IPV6,
        };
        let socket = Socket::new(domain, kind.nonblocking(), Some(protocol))?;
        // By its index, since the name may be a new interface's by now. The option is not one of
        // IPv4 alone.
        socket.bind_device_by_index_v4(NonZeroU32::new(self.index.0))?;
        socket.set_mark(self.mark.0)?;
        Ok(socket)
    }

    /// Binds a socket of this way's family to the source.
    pub(super) fn bind(&self, socket: &Socket) -> io::Result<()> {
        socket.bind(&SockAddr::from(self.scoped(self.source, 0)))
    }
}

fn not_sent(what: &str, error: &io::Error) -> Failure {
    Failure::NotSent(format!("no {what} for this uplink: {error}"))
}

/// What an error of a socket means.
pub(super) fn failure(error: &io::Error) -> Failure {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ECONNREFUSED) => Failure::Refused,
        Some(Errno::ECONNRESET | Errno::ECONNABORTED | Errno::EPIPE) => Failure::Reset,
        Some(Errno::EHOSTUNREACH | Errno::ENETUNREACH) => Failure::Unreachable,
        Some(Errno::ETIMEDOUT) => Failure::Timeout,
        _ => Failure::NotSent(error.to_string()),
    }
}
