//! Floods of packets that nobody answers do not fill the flow table.

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Family, FlowKey, Phase, Totals};
use failover_tests::programs::Settings;

use crate::frames::{ACK, Message, SYN};
use crate::gateway::{BOTH, Gateway, Mark, Outcome, with_settings};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    let settings = Settings {
        unanswered: MOST,
        ..Settings::default()
    };
    let trial = |family: Family| {
        [
            ("a_flood_is_steered_without_being_entered", flood as Test),
            ("an_answer_makes_room_and_enters_who_was_held_off", answered),
        ]
        .map(|(name, test)| with_settings(name, family, settings, test))
    };
    BOTH.map(trial).into_iter().flatten().collect()
}

type Test = fn(&mut Gateway<'_>) -> Outcome;

const MOST: u32 = 8;

/// A new flow from a port; returns its key.
fn begin(gateway: &Gateway<'_>, port: u16) -> Result<FlowKey, crate::gateway::Failure> {
    let ends = gateway.ends();
    let key = ends.key(UDP, port, 53);
    let mark = gateway.lan_in(&ends.out(Message::udp(port, 53)))?;
    assert_eq!(mark, Mark::Ask(gateway.chosen(&key)?), "from port {port}");
    Ok(key)
}

fn flood(gateway: &mut Gateway<'_>) -> Outcome {
    let mut keys = Vec::new();
    for port in 1..=100 {
        keys.push(begin(gateway, port)?);
    }
    let room = usize::try_from(MOST)?;
    gateway.assert_flows(keys.get(..room).unwrap_or_default())?;
    gateway.assert_totals(Totals {
        entered: MOST.into(),
        held_off: 100 - u64::from(MOST),
        ..Totals::default()
    })?;
    assert_eq!(gateway.programs.guard()?.unanswered, u64::from(MOST));
    // Who is known, is; all packets are counted.
    begin(gateway, 1)?;
    assert_eq!(
        gateway.flow(&gateway.ends().key(UDP, 1, 53))?.out_packets,
        2
    );
    let mut packets = 0;
    for uplink in 1..=crate::gateway::UPLINKS {
        packets += gateway.programs.counters(uplink)?.lan_in.packets;
    }
    assert_eq!(packets, 101);
    Ok(())
}

fn answered(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    for port in 1..=u16::try_from(MOST)? {
        begin(gateway, port)?;
    }
    let answer = |gateway: &Gateway<'_>, port| {
        let uplink = gateway.chosen(&ends.key(UDP, port, 53))?;
        gateway.lan_out(&ends.back(Message::udp(53, port)), uplink)
    };
    let late = begin(gateway, 100)?;
    assert_eq!(gateway.programs.flow(&late)?, None, "there is no room");
    // The answer to who was held off enters it, and its next packet finds it.
    answer(gateway, 100)?;
    assert!(gateway.flow(&late)?.confirmed);
    let mark = gateway.lan_in(&ends.out(Message::udp(100, 53)))?;
    assert_eq!(mark, Mark::Sure(gateway.chosen(&late)?));
    assert_eq!(gateway.programs.guard()?.unanswered, u64::from(MOST));
    // It was not counted among those that wait, so that another answer makes no room.
    answer(gateway, 100)?;
    assert_eq!(gateway.flow(&late)?.phase, Phase::Established);
    assert_eq!(gateway.programs.guard()?.unanswered, u64::from(MOST));
    // The answer to one that waits makes room for one, and a second answer for none.
    for _ in 0..2 {
        answer(gateway, 3)?;
        assert_eq!(gateway.programs.guard()?.unanswered, u64::from(MOST) - 1);
    }
    let next = begin(gateway, 101)?;
    assert_eq!(gateway.flow(&next)?.phase, Phase::Opening);
    let held_off = begin(gateway, 102)?;
    assert_eq!(gateway.programs.flow(&held_off)?, None);
    // It is the same for connections, of which every SYN is one that may be answered.
    let syn = ends.out(Message::tcp(1000, 443, SYN));
    gateway.lan_in(&syn)?;
    let key = ends.key(TCP, 1000, 443);
    assert_eq!(gateway.programs.flow(&key)?, None);
    let uplink = gateway.chosen(&key)?;
    gateway.lan_out(&ends.back(Message::tcp(443, 1000, SYN | ACK)), uplink)?;
    assert_eq!(gateway.flow(&key)?.uplink, uplink);
    Ok(())
}
