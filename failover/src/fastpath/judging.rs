//! Whether a flow may take the fast path, by what connection tracking knows of it.

use std::time::Duration;

use super::facts::Connection;
use super::standing::Why;
use crate::flows::Protocol;
use crate::mark::Mark;

// Bits of an entry's status (`include/uapi/linux/netfilter/nf_conntrack_common.h`).
const SEEN_REPLY: u32 = 1 << 1;
const ASSURED: u32 = 1 << 2;
const CONFIRMED: u32 = 1 << 3;
/// The entry is being deleted.
const DYING: u32 = 1 << 9;
/// Packets of another flow had its translation for a moment.
const NAT_CLASH: u32 = 1 << 12;
/// It ends at a fixed time, whatever anybody wants.
const FIXED_TIMEOUT: u32 = 1 << 10;
/// The kernel's own flow offload has it already.
const OFFLOADED: u32 = 1 << 14;

/// `TCP_CONNTRACK_ESTABLISHED` (`include/uapi/linux/netfilter/nf_conntrack_tcp.h`).
const ESTABLISHED: u8 = 3;

/// How long connection tracking must remember a silent flow, at least: the daemon renews what is left
/// in time, and packets may take the fast path for a while after it died.
pub const SHORTEST: Duration = Duration::from_secs(60);

/// How long ago a packet that has just passed may have done so, generously.
const PASSED: Duration = Duration::from_secs(10);

/// How long connection tracking remembers silent flows that last, by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetimes {
    /// Established TCP connections (`nf_conntrack_tcp_timeout_established`).
    pub tcp: Duration,
    /// Those of which something is not acknowledged: the longer of
    /// `nf_conntrack_tcp_timeout_max_retrans` and `nf_conntrack_tcp_timeout_unacknowledged`.
    pub tcp_unacknowledged: Duration,
    /// UDP flows that are answered (`nf_conntrack_udp_timeout_stream`).
    pub udp: Duration,
}

impl Lifetimes {
    /// That of a flow of which a packet has just passed, by what is left of its time: nearly all that a
    /// silent flow is given, which may be more or less than usual where the user says so (`ct timeout`).
    /// Of a connection that awaits an acknowledgement it is less, and tells nothing.
    fn of(self, protocol: Protocol, left: Duration) -> Duration {
        let (usual, untold) = if protocol == Protocol::TCP {
            (self.tcp, self.tcp_unacknowledged)
        } else {
            (self.udp, Duration::ZERO)
        };
        if left <= untold || left.saturating_add(PASSED) >= usual {
            left.max(usual)
        } else {
            left
        }
    }
}

/// Whether it may; `uplink` is the mark of the uplink on which the programs know it, `bits` are ours.
/// Returns how long connection tracking remembers it when it is silent.
///
/// # Errors
/// Why not.
pub fn judge(
    connection: &Connection,
    uplink: Mark,
    bits: u32,
    lifetimes: Lifetimes,
) -> Result<Duration, Why> {
    let flow = &connection.flow;
    let has = |bit: u32| flow.status & bit != 0;
    if flow.mark.0 & bits != uplink.0 || has(DYING) || !has(CONFIRMED) {
        return Err(Why::Untracked);
    }
    if connection.is_helped {
        return Err(Why::Helper);
    }
    if connection.is_shifted || has(NAT_CLASH) {
        return Err(Why::Shifted);
    }
    if has(OFFLOADED) {
        return Err(Why::Filtered(
            "nftables' own flow offload has it".to_owned(),
        ));
    }
    if flow.protocol == Protocol::TCP && flow.tcp_state != Some(ESTABLISHED) {
        return Err(match flow.tcp_state {
            Some(state) if state > ESTABLISHED => Why::Ending,
            _ => Why::Young,
        });
    }
    if !has(SEEN_REPLY) || !has(ASSURED) {
        return Err(Why::Young);
    }
    let remaining = flow.remaining.filter(|_| !has(FIXED_TIMEOUT));
    remaining
        .map(|remaining| lifetimes.of(flow.protocol, remaining))
        .filter(|lifetime| *lifetime >= SHORTEST)
        .ok_or(Why::ShortLived)
}

#[cfg(test)]
mod tests {
    use failover_common::lifetime::protocol;

    use super::*;

    const UDP: Protocol = Protocol(protocol::UDP);

    #[test]
    fn a_users_shorter_or_longer_lifetime_counts_and_what_awaits_an_acknowledgement_has_the_usual()
    {
        let seconds = Duration::from_secs;
        let lifetimes = Lifetimes {
            tcp: seconds(432_000),
            tcp_unacknowledged: seconds(300),
            udp: seconds(120),
        };
        let of = |protocol, left| lifetimes.of(protocol, seconds(left)).as_secs();
        assert_eq!(of(Protocol::TCP, 431_999), 432_000);
        assert_eq!(of(Protocol::TCP, 299), 432_000, "not acknowledged");
        assert_eq!(of(Protocol::TCP, 599), 599);
        assert_eq!(of(Protocol::TCP, 500_000), 500_000);
        assert_eq!(of(UDP, 119), 120);
        assert_eq!(of(UDP, 70), 70);
        assert_eq!(of(UDP, 29), 29, "too short for the fast path");
        assert_eq!(of(UDP, 600), 600);
    }
}
