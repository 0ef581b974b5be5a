//! Which uplink a new flow gets: that of its slot.

use failover_common::selection::slot;
use failover_common::{Affinity, Family, FlowKey, Totals, Uplink, UplinkFamily, UplinkState};
use failover_tests::chance::Chance;

use crate::frames::{Ends, Message};
use crate::gateway::{Failure, Gateway, Mark, Outcome, both};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both("a_flow_gets_the_uplink_of_its_slot", |gateway| {
            agrees(gateway, Affinity::Flow)
        }),
        both("a_pair_gets_the_uplink_of_its_slot", |gateway| {
            agrees(gateway, Affinity::Pair)
        }),
        both("a_source_gets_the_uplink_of_its_slot", |gateway| {
            agrees(gateway, Affinity::Source)
        }),
        both("flows_of_a_pair_go_together", pairs),
        both("flows_of_a_source_go_together", sources),
        both("without_a_selection_a_packet_is_left_alone", unselected),
        both("an_empty_slot_leaves_a_packet_alone", empty_slots),
        both("a_slot_of_no_known_uplink_leaves_a_packet_alone", unknown),
        both("families_have_selections_of_their_own", own_selections),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// How many flows are compared with the daemon's own arithmetic.
const SAMPLES: usize = 500;

/// Both numbers together tell each of the 1021 slots apart: none is a multiple of the other, and
/// their product is larger.
const CYCLES: [u8; 2] = [127, 31];

fn agrees(gateway: &mut Gateway<'_>, affinity: Affinity) -> Outcome {
    let mut chance = Chance::from_seed(1021);
    for cycle in CYCLES {
        select_of(gateway, affinity, cycle)?;
        for _ in 0..SAMPLES {
            let (ends, from, to) = any_flow(gateway.family, &mut chance)?;
            let message = Message::udp(from, to);
            let key = ends.key(message.protocol, from, to);
            let expected = slot(&key, affinity) % usize::from(cycle);
            assert_eq!(
                gateway.lan_in(&ends.out(message))?,
                Mark::Ask(u8::try_from(expected)? + 1),
                "{key:?}"
            );
        }
    }
    Ok(())
}

/// Has so many uplinks take turns in the slots.
fn select_of(gateway: &mut Gateway<'_>, affinity: Affinity, uplinks: u8) -> Outcome {
    let up = UplinkFamily {
        generation: 1,
        state: UplinkState::Up,
        translates: true,
        reserved: [0; 2],
    };
    let ids: Vec<u8> = (1..=uplinks).collect();
    for id in &ids {
        let uplink = Uplink {
            interface: 0,
            ipv4: up,
            ipv6: up,
        };
        gateway.programs.set_uplink(*id, &uplink)?;
    }
    Ok(gateway.programs.select(gateway.family, affinity, &ids)?)
}

/// Any client with any port, to any server of the internet with any port.
fn any_flow(family: Family, chance: &mut Chance) -> Result<(Ends, u16, u16), Failure> {
    let number = chance.number();
    let [client, server, a, b, c, d, ..] = number.to_ne_bytes();
    let ends = match family {
        Family::Ipv4 => Ends {
            inside: [198, 18, 0, client].into(),
            outside: [203, 0, 113, server].into(),
        },
        Family::Ipv6 => Ends {
            inside: [0xfd00, 0x18, 0, 0, 0, 0, 0, u16::from(client)].into(),
            outside: [0xfd00, 0x203, 0, 0, 0, 0, 0, u16::from(server)].into(),
        },
    };
    Ok((ends, u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])))
}

fn pairs(gateway: &mut Gateway<'_>) -> Outcome {
    gateway
        .programs
        .select(gateway.family, Affinity::Pair, &[1, 2, 3])?;
    let ends = gateway.ends();
    let first = gateway.lan_in(&ends.out(Message::udp(1, 1)))?;
    for port in 2..50 {
        assert_eq!(gateway.lan_in(&ends.out(Message::udp(port, port)))?, first);
        let tcp = Message::tcp(port, 80, crate::frames::SYN);
        assert_eq!(gateway.lan_in(&ends.out(tcp))?, first, "whatever protocol");
    }
    assert!(
        goes_elsewhere(gateway, first, true)?,
        "all servers of a client go by one uplink"
    );
    Ok(())
}

fn sources(gateway: &mut Gateway<'_>) -> Outcome {
    gateway
        .programs
        .select(gateway.family, Affinity::Source, &[1, 2, 3])?;
    let ends = gateway.ends();
    let first = gateway.lan_in(&ends.out(Message::udp(1, 1)))?;
    assert!(
        !goes_elsewhere(gateway, first, true)?,
        "a client's flows went by several uplinks"
    );
    assert!(
        goes_elsewhere(gateway, first, false)?,
        "all clients go by one uplink"
    );
    Ok(())
}

/// Whether any of a client's other servers, or any other client of a server, is given something
/// else than `mark`.
fn goes_elsewhere(gateway: &Gateway<'_>, mark: Mark, servers: bool) -> Result<bool, Failure> {
    let ends = gateway.ends();
    for number in 20..80 {
        let ends = match (servers, gateway.family) {
            (true, Family::Ipv4) => Ends {
                outside: [203, 0, 113, number].into(),
                ..ends
            },
            (true, Family::Ipv6) => Ends {
                outside: [0xfd00, 0x203, 0, 0, 0, 0, 0, u16::from(number)].into(),
                ..ends
            },
            (false, Family::Ipv4) => Ends {
                inside: [198, 18, 0, number].into(),
                ..ends
            },
            (false, Family::Ipv6) => Ends {
                inside: [0xfd00, 0x18, 0, 0, 0, 0, 0, u16::from(number)].into(),
                ..ends
            },
        };
        if gateway.lan_in(&ends.out(Message::udp(1, 1)))? != mark {
            return Ok(true);
        }
    }
    Ok(false)
}

fn unselected(gateway: &mut Gateway<'_>) -> Outcome {
    gateway.programs.deselect(gateway.family)?;
    unpicked(gateway)
}

fn empty_slots(gateway: &mut Gateway<'_>) -> Outcome {
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[0])?;
    unpicked(gateway)
}

fn unknown(gateway: &mut Gateway<'_>) -> Outcome {
    for id in 1..=crate::gateway::UPLINKS {
        gateway.programs.remove_uplink(id)?;
    }
    unpicked(gateway)
}

fn unpicked(gateway: &Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    for port in 1..=20 {
        let mark = gateway.lan_in(&ends.out(Message::udp(port, 53)))?;
        assert_eq!(mark, Mark::None);
    }
    gateway.assert_flows(&[])?;
    gateway.assert_totals(Totals {
        unpicked: 20,
        ..Totals::default()
    })
}

fn own_selections(gateway: &mut Gateway<'_>) -> Outcome {
    let other = match gateway.family {
        Family::Ipv4 => Family::Ipv6,
        Family::Ipv6 => Family::Ipv4,
    };
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[2])?;
    gateway.programs.select(other, Affinity::Flow, &[3])?;
    let flow = |ends: Ends, mark: Mark| -> Result<FlowKey, Failure> {
        assert_eq!(gateway.lan_in(&ends.out(Message::udp(7, 7)))?, mark);
        Ok(ends.key(failover_common::lifetime::protocol::UDP, 7, 7))
    };
    let keys = [
        flow(crate::gateway::ends(gateway.family), Mark::Ask(2))?,
        flow(crate::gateway::ends(other), Mark::Ask(3))?,
    ];
    gateway.assert_flows(&keys)
}
