//! One arm: users and gateways are behind the same interface.
//!
//! Which way a packet goes, its hardware address says: what comes from a gateway is from a provider,
//! what goes to a gateway is on its way out, and all else is from and to users. While a gateway's
//! address is not known yet its packets are taken for users': the kernel sends what is for this host
//! nowhere else, and what it passes on to users says by its mark which uplink it is of.

use crate::packet::Packet;
use crate::{PASS_ON, headers, lan_in, lan_out, maps, offload, wan_in};

/// A packet that came in.
#[inline(always)]
pub(crate) fn handle_in<const HEADER: usize>(packet: &Packet<'_, HEADER>) -> i32 {
    if packet.is_tagged() {
        return PASS_ON;
    }
    match wan_in::sender(packet) {
        Some(gateway) => {
            let sent = offload::from_provider(packet);
            if sent == PASS_ON {
                wan_in::counted(packet, gateway.uplink);
            }
            sent
        }
        None => lan_in::handle::<HEADER, true>(packet),
    }
}

/// A packet that goes out.
#[inline(always)]
pub(crate) fn handle_out<const HEADER: usize>(packet: &Packet<'_, HEADER>) {
    if !goes_to_a_gateway(packet) {
        lan_out::handle(packet);
    }
}

#[inline(always)]
fn goes_to_a_gateway<const HEADER: usize>(packet: &Packet<'_, HEADER>) -> bool {
    let Some((destination, _)) = packet.hardware_addresses() else {
        return false;
    };
    headers::family(packet)
        .is_some_and(|family| maps::gateway(packet.ifindex(), family, destination).is_some())
}
