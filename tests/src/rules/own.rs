//! Packets of the router's own sockets: what becomes of a random packet if the router sends it itself.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use failover::family::Family;
use failover::flows::Protocol;
use failover::policy::{AddressSet, Dscp, Facts, Rule};
use socket2::{Domain, SockAddr, Socket, Type};

use super::frames;
use crate::addressing;
use crate::chance::Chance;
use crate::error::LabError;
use crate::node::{Node, ProgramSpec};

const UDP: Protocol = Protocol(17);
/// Addresses of the router of which no packet of users comes.
const OWN: [&str; 4] = [
    "198.18.0.101",
    "198.18.160.129",
    "fd00:18::1:7",
    "fd00:bb::9",
];

/// The rules that such packets can meet.
pub(super) fn reachable(rules: &[Rule]) -> Vec<Rule> {
    let own = |set: &Arc<AddressSet>| {
        let mut own = OWN.iter().filter_map(|text| text.parse().ok());
        own.any(|address| set.contains(address))
    };
    let sent = |protocol: &Protocol| *protocol == UDP || !protocol.has_ports();
    let is_reachable = |rule: &&Rule| {
        let matching = &rule.matching;
        matching.interfaces.is_none()
            && matching.macs.is_none()
            && matching.dscp.is_none()
            && matching.source.as_ref().is_none_or(own)
            && matching
                .protocols
                .as_ref()
                .is_none_or(|all| all.iter().any(sent))
    };
    rules.iter().filter(is_reachable).cloned().collect()
}

/// What the router itself can send instead of a user's packet: it comes in by no interface, and may be
/// bound to one of its addresses. Of protocols with ports a socket sends UDP.
pub(super) fn own(mut facts: Facts, chance: &mut Chance) -> Facts {
    facts.interface = None;
    facts.mac = None;
    facts.dscp = Dscp::default();
    if facts.protocol.has_ports() {
        facts.protocol = UDP;
    }
    let family = Family::of(facts.destination);
    let mut bound = OWN
        .into_iter()
        .filter_map(|text| text.parse().ok())
        .filter(|address| Family::of(*address) == family);
    let one = bound.nth(usize::try_from(chance.below(2)).unwrap_or_default());
    facts.source = match one {
        Some(one) if chance.percent(30) => one,
        _ => addressing::any(family),
    };
    facts
}

/// Whether an address is one of these.
pub(super) fn is_own(address: IpAddr) -> bool {
    OWN.iter().any(|own| own.parse() == Ok(address))
}

/// Gives the router more addresses, among those that rules are for.
pub(super) async fn prepare(router: &Node) -> Result<(), LabError> {
    for address in OWN {
        let line = format!("ip address replace {address} dev lo");
        router.must(ProgramSpec::line(&line)).await?;
    }
    Ok(())
}

/// Sends packets, each by a socket of its own. That one is refused is no error: it is seen nowhere.
pub(super) async fn send(router: &Node, packets: Vec<(Facts, u32)>) -> Result<(), LabError> {
    let sent: io::Result<()> = router
        .run(move || async move {
            for (facts, number) in &packets {
                match send_one(facts, *number) {
                    Err(error) if is_refusal(&error) => {}
                    other => other.map_err(|error| {
                        io::Error::new(error.kind(), format!("{error}: {facts:?}"))
                    })?,
                }
            }
            Ok(())
        })
        .await?;
    sent.map_err(LabError::io("send packets of the router's own"))
}

fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind::{HostUnreachable, NetworkUnreachable, PermissionDenied};
    matches!(
        error.kind(),
        PermissionDenied | HostUnreachable | NetworkUnreachable
    )
}

fn send_one(facts: &Facts, number: u32) -> io::Result<()> {
    let domain = Domain::for_address(SocketAddr::new(facts.destination, 0));
    let (socket, bytes) = if facts.protocol == UDP {
        let socket = Socket::new(domain, Type::DGRAM, Some(socket2::Protocol::UDP))?;
        socket.set_reuse_address(true)?;
        (socket, frames::signed(number))
    } else {
        let protocol = i32::from(facts.protocol.0).into();
        let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
        (socket, frames::payload(facts, number))
    };
    socket.set_mark(facts.mark)?;
    let (source_port, port) = match facts.protocol {
        UDP => (facts.source_port, facts.port),
        _ => (0, 0),
    };
    if !facts.source.is_unspecified() || source_port != 0 {
        socket.bind(&SocketAddr::new(facts.source, source_port).into())?;
    }
    let to: SockAddr = SocketAddr::new(facts.destination, port).into();
    socket.send_to(&bytes, &to)?;
    Ok(())
}
