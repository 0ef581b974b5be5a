//! A known flow stays where it is, until its uplink's flows are forgotten.

use failover_common::lifetime::protocol::UDP;
use failover_common::{Affinity, Flow, FlowKey, Phase, Reason, Totals, UplinkState};

use crate::frames::Message;
use crate::gateway::{Failure, Gateway, Mark, Outcome, both};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both("a_flow_stays_when_the_selection_changes", stays),
        both("a_flow_stays_without_any_selection", stays_unselected),
        both("a_flow_stays_on_an_uplink_that_is_down", stays_on_down),
        both("a_raised_generation_has_flows_picked_anew", picked_anew),
        both("a_raised_generation_is_for_one_uplink", others_stay),
        both("a_flow_of_a_removed_uplink_is_picked_anew", removed),
        both("a_flow_that_nobody_can_take_is_left_alone", left_alone),
        both("a_flow_asks_until_an_answer_confirms_it", asks),
        both("a_flow_is_counted_packet_by_packet", counts),
        both("the_last_packet_is_noted_once_a_second", noted),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const PORT: u16 = 5060;

/// Opens a flow on one uplink.
fn open(gateway: &mut Gateway<'_>, uplink: u8) -> Result<FlowKey, Failure> {
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[uplink])?;
    assert_eq!(packet(gateway)?, Mark::Ask(uplink));
    Ok(gateway.ends().key(UDP, PORT, PORT))
}

/// One more packet of it.
fn packet(gateway: &Gateway<'_>) -> Result<Mark, Failure> {
    gateway.lan_in(&gateway.ends().out(Message::udp(PORT, PORT)))
}

/// An answer to it.
fn answer(gateway: &Gateway<'_>, by: u8) -> Outcome {
    gateway.lan_out(&gateway.ends().back(Message::udp(PORT, PORT)), by)
}

fn stays(gateway: &mut Gateway<'_>) -> Outcome {
    let key = open(gateway, 1)?;
    let uplinks = &[2, 3];
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, uplinks)?;
    assert_eq!(packet(gateway)?, Mark::Ask(1));
    answer(gateway, 1)?;
    assert_eq!(packet(gateway)?, Mark::Sure(1));
    gateway.assert_flows(&[key])
}

fn stays_unselected(gateway: &mut Gateway<'_>) -> Outcome {
    open(gateway, 3)?;
    gateway.programs.deselect(gateway.family)?;
    assert_eq!(packet(gateway)?, Mark::Ask(3));
    Ok(())
}

fn stays_on_down(gateway: &mut Gateway<'_>) -> Outcome {
    open(gateway, 2)?;
    answer(gateway, 2)?;
    gateway.set_state(2, UplinkState::Down)?;
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[1])?;
    assert_eq!(packet(gateway)?, Mark::Sure(2));
    Ok(())
}

fn picked_anew(gateway: &mut Gateway<'_>) -> Outcome {
    let key = open(gateway, 1)?;
    answer(gateway, 1)?;
    let before = gateway.flow(&key)?;
    gateway.raise_generation(1)?;
    gateway.raise_generation(2)?;
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[2])?;
    assert_eq!(
        packet(gateway)?,
        Mark::Ask(2),
        "the new uplink is no more than asked for"
    );
    let after = gateway.flow(&key)?;
    let expected = Flow {
        uplink: 2,
        generation: 2,
        confirmed: false,
        reason: Reason::Hash,
        // Nothing came back by the new one: a connection that is reset there is not shown for days.
        phase: Phase::Opening,
        // One packet more from inside.
        until_offer: before.until_offer - 1,
        // It is the same flow, so it is counted on.
        out_packets: before.out_packets + 1,
        out_bytes: after.out_bytes,
        ..before
    };
    assert_eq!(after, expected);
    gateway.assert_totals(Totals {
        entered: 1,
        renewed: 1,
        ..Totals::default()
    })?;
    answer(gateway, 2)?;
    assert_eq!(packet(gateway)?, Mark::Sure(2));
    Ok(())
}

fn others_stay(gateway: &mut Gateway<'_>) -> Outcome {
    open(gateway, 3)?;
    gateway.raise_generation(1)?;
    gateway.raise_generation(2)?;
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[1])?;
    assert_eq!(packet(gateway)?, Mark::Ask(3));
    Ok(())
}

fn removed(gateway: &mut Gateway<'_>) -> Outcome {
    let key = open(gateway, 1)?;
    gateway.programs.remove_uplink(1)?;
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[2])?;
    assert_eq!(packet(gateway)?, Mark::Ask(2));
    assert_eq!(gateway.flow(&key)?.uplink, 2);
    Ok(())
}

fn left_alone(gateway: &mut Gateway<'_>) -> Outcome {
    open(gateway, 1)?;
    gateway.programs.remove_uplink(1)?;
    gateway.programs.deselect(gateway.family)?;
    assert_eq!(packet(gateway)?, Mark::None);
    gateway.assert_totals(Totals {
        entered: 1,
        unpicked: 1,
        ..Totals::default()
    })
}

fn asks(gateway: &mut Gateway<'_>) -> Outcome {
    open(gateway, 2)?;
    for _ in 0..3 {
        assert_eq!(packet(gateway)?, Mark::Ask(2));
    }
    answer(gateway, 2)?;
    for _ in 0..3 {
        assert_eq!(packet(gateway)?, Mark::Sure(2));
    }
    Ok(())
}

fn counts(gateway: &mut Gateway<'_>) -> Outcome {
    let key = open(gateway, 1)?;
    for _ in 1..10 {
        packet(gateway)?;
    }
    for _ in 0..5 {
        answer(gateway, 1)?;
    }
    let flow = gateway.flow(&key)?;
    assert_eq!((flow.out_packets, flow.in_packets), (10, 5));
    assert_eq!(flow.out_bytes, 2 * flow.in_bytes);
    assert_eq!(flow.phase, Phase::Established);
    Ok(())
}

fn noted(gateway: &mut Gateway<'_>) -> Outcome {
    let key = open(gateway, 1)?;
    let now_ns = gateway.now_ns()?;
    let flow = gateway.flow(&key)?;
    let seen_before = |gateway: &mut Gateway<'_>, ago_ms: u64| -> Result<u64, Failure> {
        let seen_ns = now_ns - ago_ms * 1_000_000;
        gateway.programs.set_flow(&key, &Flow { seen_ns, ..flow })?;
        Ok(seen_ns)
    };
    // Half a second is time for everything here.
    let seen = seen_before(gateway, 500)?;
    packet(gateway)?;
    answer(gateway, 1)?;
    assert_eq!(gateway.flow(&key)?.seen_ns, seen, "half a second ago");
    seen_before(gateway, 1000)?;
    packet(gateway)?;
    assert!(
        gateway.flow(&key)?.seen_ns >= now_ns,
        "a packet from inside"
    );
    seen_before(gateway, 1000)?;
    answer(gateway, 1)?;
    assert!(
        gateway.flow(&key)?.seen_ns >= now_ns,
        "a packet from outside"
    );
    Ok(())
}
