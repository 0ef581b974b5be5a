//! A packet from a provider: it is counted, and translated and sent to users if it belongs to the fast
//! path.
//!
//! Otherwise it is not marked: a mark would be obeyed by the routing of what comes in, and send the answers
//! for a VPN's or a container's peer out again. Where a packet came from is known at the downlink.

use failover_common::{Gateway, Role};

use crate::maps::{count, gateway, interface};
use crate::packet::Packet;
use crate::{PASS_ON, headers, offload};

/// Sends a packet that came in by an uplink out if it belongs to the fast path, and counts it either way.
#[inline(always)]
pub(crate) fn handle<const HEADER: usize>(packet: &Packet<'_, HEADER>) -> i32 {
    if packet.is_tagged() {
        return PASS_ON;
    }
    // First, since its flow tells the uplink, too: most packets need not be looked up twice. What the
    // interface is does not matter to it: its flow is one of this interface, or it is not sent.
    let sent = offload::from_provider(packet);
    if sent != PASS_ON {
        return sent;
    }
    let Some(here) = interface(packet.ifindex()) else {
        return PASS_ON;
    };
    match here.role {
        Role::Uplink => counted(packet, here.uplink),
        Role::SharedUplink => {
            if let Some(sender) = sender(packet) {
                counted(packet, sender.uplink);
            }
        }
        Role::Downlink | Role::OneArm => {}
    }
    PASS_ON
}

/// The gateway that a packet came from. Not inlined: the verifier would follow all that comes after it
/// once for each family and once more.
#[inline(never)]
pub(crate) fn sender<const HEADER: usize>(packet: &Packet<'_, HEADER>) -> Option<&'static Gateway> {
    let (_, source) = packet.hardware_addresses()?;
    gateway(packet.ifindex(), headers::family(packet)?, source)
}

/// Counts a packet of an uplink; 0 for one of several uplinks.
#[inline(always)]
pub(crate) fn counted<const HEADER: usize>(packet: &Packet<'_, HEADER>, uplink: u8) {
    if uplink != 0 {
        count(
            uplink,
            |counters| &mut counters.wan_in,
            packet.segments(),
            packet.length(),
        );
    }
}
