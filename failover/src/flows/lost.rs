//! Which connections cannot go on when their uplink's flows are forgotten.

use std::net::SocketAddr;

use super::{Direction, Protocol, Surroundings, TrackedFlow};

/// TCP states in which both ends, or one, still take the connection for open
/// (`nf_conntrack_tcp.h`): `SYN_RECV`, `ESTABLISHED`, `FIN_WAIT`, `CLOSE_WAIT`, `LAST_ACK`. One that
/// is being opened needs no word: its next packet opens it elsewhere.
const OPEN: std::ops::RangeInclusive<u8> = 2..=6;

/// A TCP connection that its other end will not know any more, as its packets look inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LostConnection {
    /// The end behind a downlink, which is to be told.
    pub inside: SocketAddr,
    /// The other end.
    pub outside: SocketAddr,
}

impl LostConnection {
    /// What is lost with an entry of connection tracking. `None`: the other end knows the connection
    /// by addresses that nobody translates, so that it may go on by another uplink; or it is the
    /// router's own, or none that is open.
    #[must_use]
    pub fn of(flow: &TrackedFlow, surroundings: &Surroundings) -> Option<Self> {
        let open = flow.protocol == Protocol::TCP
            && flow.tcp_state.is_some_and(|state| OPEN.contains(&state));
        if !open {
            return None;
        }
        let (original, reply) = (&flow.original, &flow.reply);
        let (view, translated) = match surroundings.direction(flow) {
            Direction::Outbound => (original, reply.destination != original.source),
            Direction::Inbound => (reply, original.destination != reply.source),
        };
        (translated && !surroundings.is_own(view.source)).then_some(Self {
            inside: SocketAddr::new(view.source, view.source_port),
            outside: SocketAddr::new(view.destination, view.destination_port),
        })
    }
}
