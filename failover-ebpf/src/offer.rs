//! Which flows are offered to the daemon for the fast path, and when.

use aya_ebpf::Global;
use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use failover_common::flow::Offering;
use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Flow, FlowKey, Offer, Phase};

use crate::maps::{OFFERS, REFUSED, lease, total};
use crate::packet::{ETHERNET_HEADER, Packet};

/// After how many packets a flow is first offered. The loader sets it, as the next two.
#[unsafe(no_mangle)]
// SAFETY: no other symbol of this name is linked.
pub(crate) static FIRST_OFFER: Global<u8> = Global::new(Offering::USUAL.first);

/// After how many more it is looked again.
#[unsafe(no_mangle)]
// SAFETY: no other symbol of this name is linked.
static NEXT_OFFER: Global<u8> = Global::new(Offering::USUAL.next);

/// How long a flow is not offered again.
#[unsafe(no_mangle)]
// SAFETY: no other symbol of this name is linked.
static OFFER_AGAIN_NS: Global<u64> = Global::new(Offering::USUAL.again_ns);

/// Offers a flow for the fast path.
#[inline(never)]
pub(crate) fn consider<const HEADER: usize>(
    packet: &Packet<'_, HEADER>,
    key: &FlowKey,
    flow: &mut Flow,
    now_ns: u64,
) {
    flow.until_offer = NEXT_OFFER.load();
    if HEADER != ETHERNET_HEADER {
        flow.offered_ns = Flow::WITHOUT_ETHERNET;
        return;
    }
    let wanted = lease().is_some_and(|lease| lease.offers_until_ns > now_ns);
    if !wanted
        || !flow.confirmed
        || !matches!(flow.phase, Phase::Established)
        || !matches!(key.protocol, TCP | UDP)
        || now_ns.wrapping_sub(flow.offered_ns) < OFFER_AGAIN_NS.load()
        // SAFETY: nothing is read of what is found.
        || unsafe { REFUSED.get(key) }.is_some()
    {
        return;
    }
    let offer = Offer {
        flow: *key,
        created_ns: flow.created_ns,
        ingress: packet.ifindex(),
        generation: flow.generation,
        uplink: flow.uplink,
        reserved: [0; 7],
    };
    total(|totals| &mut totals.offered);
    match OFFERS.output(offer, 0) {
        Ok(()) => flow.offered_ns = now_ns,
        Err(_) => {
            total(|totals| &mut totals.unheard);
            // Flows that are offered all at once are not all at once the next time.
            // SAFETY: the helper takes nothing and has no effect.
            let random = unsafe { bpf_get_prandom_u32() } as u8;
            flow.until_offer = random % NEXT_OFFER.load().max(1);
        }
    }
}
