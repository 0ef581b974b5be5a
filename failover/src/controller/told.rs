//! The engine's knowledge as the status document.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::controller::uplink::Uplink;
use crate::family::{Family, PerFamily};
use crate::fastpath::standing::FastPathStatus;
use crate::health::{Blame, Health};
use crate::network::{NetworkView, Traffic};
use crate::select::Pool;
use crate::status::{FamilyStatus, State, StatusDocument, UplinkStatus, round_share};
use crate::uplink::UplinkId;
use crate::wanted::PickedBy;

/// The document, without what only the kernel can count.
pub(super) fn document(
    picked_by: PickedBy,
    since: Timestamp,
    uplinks: &BTreeMap<UplinkId, Uplink>,
    pools: &PerFamily<Pool>,
    view: &NetworkView,
    blame: &Blame,
    now: Instant,
) -> StatusDocument {
    let shares = PerFamily::from_fn(|family| pools.get(family).shares());
    StatusDocument {
        mode: picked_by.mode().to_owned(),
        since,
        problem: None,
        broken_sets: Vec::new(),
        notify: Vec::new(),
        flow_table: None,
        fastpath: FastPathStatus::default(),
        uplinks: uplinks
            .iter()
            .map(|(&id, uplink)| {
                let family = |family| {
                    let share = shares.get(family).get(&id).copied().unwrap_or(0.0);
                    let aside = blame.set_aside(id, family).map(ToString::to_string);
                    FamilyStatus {
                        targets_aside: aside.collect(),
                        ..family_status(uplink, family, share, now)
                    }
                };
                let (ipv4, ipv6) = (family(Family::Ipv4), family(Family::Ipv6));
                // On a tie IPv4 speaks for the uplink.
                let best = if ipv6.state < ipv4.state {
                    &ipv6
                } else {
                    &ipv4
                };
                let traffic = view
                    .links
                    .get(&uplink.config.interface)
                    .map_or_else(Traffic::default, |link| link.traffic);
                let measured = uplink.load.is_measured();
                let rates = uplink.load.rates();
                UplinkStatus {
                    name: uplink.name.clone(),
                    id,
                    interface: uplink.config.interface.clone(),
                    description: uplink.config.description.clone(),
                    weight: uplink.config.weight,
                    priority: uplink.config.priority,
                    state: best.state,
                    draining: uplink.drains_by_hand()
                        || ipv4.draining_until.is_some()
                        || ipv6.draining_until.is_some(),
                    by_hand: uplink.hand.map(|hand| hand.told),
                    since: uplink.since,
                    reason: best.reason.clone(),
                    ipv4,
                    ipv6,
                    flows: None,
                    probe_bytes_today: None,
                    probe_budget_bytes: uplink.config.probe_budget(),
                    capacity: uplink.config.capacity.filter(|_| measured),
                    rx_bits_per_s: rates.map(|rates| rates.down.0),
                    tx_bits_per_s: rates.map(|rates| rates.up.0),
                    full: measured.then(|| uplink.load.is_full_by_any()),
                    rx_bytes: traffic.rx_bytes,
                    tx_bytes: traffic.tx_bytes,
                    rx_packets: traffic.rx_packets,
                    tx_packets: traffic.tx_packets,
                }
            })
            .collect(),
    }
}

/// When open flows have no more time: because a better uplink is used, or by hand.
fn draining_until(uplink: &Uplink, family: Family) -> Option<Timestamp> {
    let present = uplink.families.get(family).state() != State::Absent;
    let by_hand = uplink.hand.filter(|_| present);
    let ends = [
        uplink.drains_until(family).map(|end| end.wall),
        by_hand.and_then(|hand| hand.told.until),
    ];
    ends.into_iter().flatten().min()
}

fn family_status(uplink: &Uplink, family: Family, share: f64, now: Instant) -> FamilyStatus {
    let state = uplink.families.get(family);
    let silent = state.health() == Health::Down;
    let (rtt, measured) = state.measured();
    // Hundredths of a millisecond: more is noise.
    let ms = |time: Duration| (time.as_secs_f64() * 100_000.0).round() / 100.0;
    FamilyStatus {
        state: state.state(),
        gateway: state.path().and_then(|path| path.gateway),
        source: state.path().map(|path| path.source),
        share: round_share(share),
        // What does not answer has no round-trip time.
        rtt_ms: rtt.filter(|_| !silent).map(ms),
        jitter_ms: measured.jitter.filter(|_| !silent).map(ms),
        loss: measured.loss.map(round_share),
        held_back_s: state.hold(now).map(|hold| hold.left.as_secs()),
        targets_aside: Vec::new(),
        reason: state.reason(now),
        draining_until: draining_until(uplink, family),
        connections: None,
    }
}
