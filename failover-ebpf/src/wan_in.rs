//! A packet from a provider: it is counted.
//!
//! It is not marked: a mark would be obeyed by the routing of what comes in, and send the answers
//! for a VPN's or a container's peer out again. Where a packet came from is known at the downlink.

use failover_common::Role;

use crate::maps::{count, interface};
use crate::packet::Packet;

/// Counts a packet that came in by an uplink.
#[inline(always)]
pub(crate) fn handle<const HEADER: usize>(packet: &Packet<'_, HEADER>) {
    if packet.is_tagged() {
        return;
    }
    if let Some(here) = interface(packet.ifindex()).filter(|here| matches!(here.role, Role::Uplink))
    {
        count(
            here.uplink,
            |counters| &mut counters.wan_in,
            packet.segments(),
            packet.length(),
        );
    }
}
