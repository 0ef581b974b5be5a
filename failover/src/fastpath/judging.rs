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

/// How long connection tracking remembers silent flows that last, by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetimes {
    /// Established TCP connections (`nf_conntrack_tcp_timeout_established`).
    pub tcp: Duration,
    /// UDP flows that are answered (`nf_conntrack_udp_timeout_stream`).
    pub udp: Duration,
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
    // A packet has just passed: what is left is nearly all that a silent flow is given, unless it awaits
    // an acknowledgement, for which a connection is given less.
    let usual = if flow.protocol == Protocol::TCP {
        lifetimes.tcp
    } else {
        lifetimes.udp
    };
    match flow.remaining {
        Some(remaining) if !has(FIXED_TIMEOUT) && remaining.max(usual) >= SHORTEST => {
            Ok(remaining.max(usual))
        }
        _ => Err(Why::ShortLived),
    }
}
