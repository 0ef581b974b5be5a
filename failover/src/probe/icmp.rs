//! ICMP echo through one uplink.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::Duration;

use socket2::{SockRef, Type};
use surge_ping::{
    Client, Config, ICMP, IcmpPacket, Icmpv4Packet, Icmpv6Packet, PingIdentifier, PingSequence,
    SurgeError,
};
use thiserror::Error;

use super::{ProbePlan, filter};
use crate::family::Family;
use crate::health::{Failure, Outcome};
use crate::interface::{InterfaceIndex, InterfaceName};
use crate::mark::Mark;
use crate::sys;

/// What a probe carries. Some hosts do not answer an empty request.
const PAYLOAD: &[u8; 16] = b"failover probe  ";

/// Why there is no socket to probe with.
#[derive(Debug, Error)]
pub(super) enum OpenError {
    #[error("no ICMP socket with source {address} on {interface}: {reason}")]
    Create {
        address: IpAddr,
        interface: InterfaceName,
        reason: io::Error,
    },
    #[error("raw ICMP sockets are refused; the daemon needs the capability CAP_NET_RAW")]
    NotRaw,
    #[error("interface {interface} is not the one with index {index} any more")]
    OtherInterface {
        interface: InterfaceName,
        index: InterfaceIndex,
    },
    #[error("cannot set the mark {mark} on an ICMP socket (CAP_NET_ADMIN is needed): {reason}")]
    Mark { mark: Mark, reason: io::Error },
    #[error("cannot attach a filter to an ICMP socket: {reason}")]
    Filter { reason: io::Error },
}

/// A raw ICMP socket that sends and receives through one uplink only.
#[derive(Clone)]
pub(super) struct IcmpSocket {
    client: Client,
    identifier: u16,
    index: InterfaceIndex,
}

impl IcmpSocket {
    pub(super) fn open(plan: &ProbePlan, identifier: u16) -> Result<Self, OpenError> {
        let kind = match plan.family {
            Family::Ipv4 => ICMP::V4,
            Family::Ipv6 => ICMP::V6,
        };
        let source = match plan.source {
            IpAddr::V6(address) if address.is_unicast_link_local() => {
                SocketAddr::V6(SocketAddrV6::new(address, 0, 0, plan.index.0))
            }
            address => SocketAddr::new(address, 0),
        };
        let config = Config::builder()
            .kind(kind)
            .sock_type_hint(Type::RAW)
            .interface(plan.interface.as_str())
            .bind(source)
            .build();
        let client = Client::new(&config).map_err(|reason| OpenError::Create {
            address: plan.source,
            interface: plan.interface.clone(),
            reason,
        })?;
        let socket = client.get_socket();
        // Refused a raw socket, the client silently takes another kind, to which ICMP errors and
        // our identifier mean nothing.
        if socket.get_type() != Type::RAW {
            return Err(OpenError::NotRaw);
        }
        // The name may be a new interface's by now; the plan is for the old one.
        let bound = nix::net::if_::if_nametoindex(plan.interface.as_str());
        if bound != Ok(plan.index.0) {
            return Err(OpenError::OtherInterface {
                interface: plan.interface.clone(),
                index: plan.index,
            });
        }
        sys::lend(&socket, |descriptor| {
            let socket = SockRef::from(&descriptor);
            socket
                .attach_filter(&filter::answers_to(plan.family, identifier))
                .map_err(|reason| OpenError::Filter { reason })?;
            socket
                .set_mark(plan.mark.0)
                .map_err(|reason| OpenError::Mark {
                    mark: plan.mark,
                    reason,
                })
        })?;
        Ok(Self {
            client,
            identifier,
            index: plan.index,
        })
    }

    /// Asks once. The socket stays open until the answer is there or the time is up.
    pub(super) async fn echo(self, target: IpAddr, sequence: u16, timeout: Duration) -> Outcome {
        let mut pinger = self
            .client
            .pinger(target, PingIdentifier(self.identifier))
            .await;
        pinger.timeout(timeout);
        if matches!(target, IpAddr::V6(address) if address.is_unicast_link_local()) {
            pinger.scope_id(self.index.0);
        }
        let asked = pinger.ping(PingSequence(sequence), PAYLOAD);
        // The client's own timeout begins only when the request is sent, which may take its time.
        match tokio::time::timeout(timeout, asked).await {
            Err(_) | Ok(Err(SurgeError::Timeout { .. })) => Outcome::Failed(Failure::Timeout),
            Ok(Ok((packet, rtt))) => outcome(&packet, rtt),
            Ok(Err(SurgeError::IOError(error))) => {
                Outcome::Failed(Failure::NotSent(error.to_string()))
            }
            Ok(Err(error)) => Outcome::Failed(Failure::NotSent(error.to_string())),
        }
    }
}

/// What a packet means that belongs to our request: the client hands out errors as it does replies.
fn outcome(packet: &IcmpPacket, rtt: Duration) -> Outcome {
    let error = match packet {
        IcmpPacket::V4(packet) => error_v4(packet),
        IcmpPacket::V6(packet) => error_v6(packet),
    };
    error.map_or(Outcome::Answered { rtt }, |what| {
        Outcome::Failed(Failure::Icmp(what))
    })
}

/// `None` for an echo reply (RFC 792).
fn error_v4(packet: &Icmpv4Packet) -> Option<String> {
    let (kind, code) = (packet.get_icmp_type().0, packet.get_icmp_code().0);
    let what = match (kind, code) {
        (0, _) => return None,
        (3, 0) => "network unreachable".to_owned(),
        (3, 1) => "host unreachable".to_owned(),
        (3, 2) => "protocol unreachable".to_owned(),
        (3, 3) => "port unreachable".to_owned(),
        (3, 9 | 10 | 13) => "prohibited".to_owned(),
        (11, _) => "time to live exceeded".to_owned(),
        _ => format!("ICMP error of type {kind}, code {code}"),
    };
    Some(format!("{what}, says {}", packet.get_source()))
}

/// `None` for an echo reply (RFC 4443).
fn error_v6(packet: &Icmpv6Packet) -> Option<String> {
    let (kind, code) = (packet.get_icmpv6_type().0, packet.get_icmpv6_code().0);
    let what = match (kind, code) {
        (129, _) => return None,
        (1, 0) => "no route".to_owned(),
        (1, 1) => "prohibited".to_owned(),
        (1, 3) => "address unreachable".to_owned(),
        (1, 4) => "port unreachable".to_owned(),
        (1, 5) => "source address refused".to_owned(),
        (1, 6) => "route rejected".to_owned(),
        (3, _) => "hop limit exceeded".to_owned(),
        _ => format!("ICMPv6 error of type {kind}, code {code}"),
    };
    Some(format!("{what}, says {}", packet.get_source()))
}
