//! ICMP echo through one uplink.

mod filter;
pub(super) mod identifier;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::{SockRef, Type};
use surge_ping::{
    Client, Config, ICMP, IcmpPacket, Icmpv4Packet, Icmpv6Packet, PingIdentifier, PingSequence,
    SurgeError,
};
use thiserror::Error;
use tracing::{info, warn};

use crate::family::Family;
use crate::health::{Failure, Outcome};
use crate::interface::{InterfaceIndex, InterfaceName};
use crate::mark::Mark;
use crate::probe::way::Way;
use crate::sys;
use identifier::Identifier;

/// What a probe carries. Some hosts do not answer an empty request.
const PAYLOAD: &[u8; 16] = b"failover probe  ";

/// Why there is no socket to probe with.
#[derive(Debug, Error)]
enum OpenError {
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

/// The socket of one plan, and the numbers of its requests.
#[derive(Default)]
pub(super) struct IcmpSockets {
    identifier: Option<Identifier>,
    socket: Option<IcmpSocket>,
    /// Why there is no socket, as it was last said.
    trouble: Option<String>,
    last_sequence: Option<u16>,
}

impl IcmpSockets {
    /// The socket, made anew if there is none that works, and the number of the next request: each
    /// has its own, so that a target may be asked twice at a time. Says in the log once why there is
    /// no socket, and once that there is one again.
    pub(super) fn next(&mut self, way: &Way) -> Result<(IcmpSocket, u16), String> {
        let sequence = self
            .last_sequence
            .map_or_else(identifier::random, |last| last.wrapping_add(1));
        self.last_sequence = Some(sequence);
        if let Some(socket) = &self.socket
            && !socket.failed.load(Ordering::Relaxed)
        {
            return Ok((socket.clone(), sequence));
        }
        // What is on its way over the old one still comes back by it.
        self.socket = None;
        let (uplink, family) = (&way.uplink, way.family);
        match self.open(way) {
            Ok(socket) => {
                self.socket = Some(socket.clone());
                if self.trouble.take().is_some() {
                    info!(%uplink, %family, "there is a probe socket again");
                }
                Ok((socket, sequence))
            }
            Err(why) => {
                if self.trouble.as_ref() != Some(&why) {
                    warn!(%uplink, %family, "no ICMP probe can be sent, trying again each round: {why}");
                    self.trouble = Some(why.clone());
                }
                Err(why)
            }
        }
    }

    fn open(&mut self, way: &Way) -> Result<IcmpSocket, String> {
        if self.identifier.is_none() {
            self.identifier = Identifier::take();
        }
        let identifier = self
            .identifier
            .as_ref()
            .ok_or_else(|| "all 65536 ICMP identifiers are in use".to_owned())?;
        IcmpSocket::open(way, identifier.get()).map_err(|error| error.to_string())
    }
}

/// A raw ICMP socket that sends and receives through one uplink only.
#[derive(Clone)]
pub(super) struct IcmpSocket {
    client: Client,
    identifier: u16,
    index: InterfaceIndex,
    /// It has failed once, as for good when its interface is gone.
    failed: Arc<AtomicBool>,
}

impl IcmpSocket {
    fn open(way: &Way, identifier: u16) -> Result<Self, OpenError> {
        let kind = match way.family {
            Family::Ipv4 => ICMP::V4,
            Family::Ipv6 => ICMP::V6,
        };
        let config = Config::builder()
            .kind(kind)
            .sock_type_hint(Type::RAW)
            .interface(way.interface.as_str())
            .bind(way.scoped(way.source, 0))
            .build();
        let client = Client::new(&config).map_err(|reason| OpenError::Create {
            address: way.source,
            interface: way.interface.clone(),
            reason,
        })?;
        let socket = client.get_socket();
        // Refused a raw socket, the client silently takes another kind, to which ICMP errors and
        // our identifier mean nothing.
        if socket.get_type() != Type::RAW {
            return Err(OpenError::NotRaw);
        }
        // The name may be a new interface's by now; the plan is for the old one.
        let bound = nix::net::if_::if_nametoindex(way.interface.as_str());
        if bound != Ok(way.index.0) {
            return Err(OpenError::OtherInterface {
                interface: way.interface.clone(),
                index: way.index,
            });
        }
        sys::lend(&socket, |descriptor| {
            let socket = SockRef::from(&descriptor);
            socket
                .attach_filter(&filter::answers_to(way.family, identifier))
                .map_err(|reason| OpenError::Filter { reason })?;
            socket
                .set_mark(way.mark.0)
                .map_err(|reason| OpenError::Mark {
                    mark: way.mark,
                    reason,
                })
        })?;
        Ok(Self {
            client,
            identifier,
            index: way.index,
            failed: Arc::default(),
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
            Ok(Err(error)) => {
                self.failed.store(true, Ordering::Relaxed);
                let why = match error {
                    SurgeError::IOError(error) => error.to_string(),
                    other => other.to_string(),
                };
                Outcome::Failed(Failure::NotSent(why))
            }
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
