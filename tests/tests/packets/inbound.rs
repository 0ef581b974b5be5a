//! Flows that the gateway first sees on their way to users: they begin outside, or are older than
//! their entry.

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Flow, Phase, Reason, Role, Totals, UplinkCounters};

use crate::frames::{ACK, FIN, Message, RST, SYN};
use crate::gateway::{Failure, Gateway, Mark, Outcome, TEACHING, both, counted, length};
use crate::kinds::kinds;
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both(
            "a_connection_from_outside_is_answered_where_it_came_in",
            inbound,
        ),
        both("every_kind_of_flow_can_begin_outside", every_kind),
        both("a_flow_older_than_its_entry_is_restored", restored),
        both("without_translation_only_first_packets_tell", untranslated),
        both("uplinks_that_carry_nothing_make_no_entries", states),
        both("resets_and_icmp_errors_make_no_entries", nothing_to_learn),
        both("a_flow_that_is_seen_first_at_its_end_is_closing", closing),
        both("the_hosts_own_packets_make_no_entries", own),
        both("packets_of_another_downlink_make_no_entries", downlink),
        both("packets_of_an_unknown_interface_make_no_entries", unknown),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A server inside, and who asks it.
const SERVER: u16 = 25;
const CLIENT: u16 = 50_000;

fn inbound(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    let key = ends.key(TCP, SERVER, CLIENT);
    let syn = ends.back(Message::tcp(CLIENT, SERVER, SYN));
    let frame = syn.frame([0; 6]).len();
    gateway.lan_out_first(&syn, 2)?;
    let flow = gateway.flow(&key)?;
    let expected = Flow {
        out_packets: 0,
        out_bytes: 0,
        in_packets: 1,
        in_bytes: length(frame),
        reason: Reason::Inbound,
        confirmed: true,
        ..gateway.begun_anew(2, frame, &flow)
    };
    assert_eq!(flow, expected);
    assert_ne!(flow.created_ns, 0);
    gateway.assert_totals(Totals {
        entered: 1,
        ..Totals::default()
    })?;
    let answer = ends.out(Message::tcp(SERVER, CLIENT, SYN | ACK));
    assert_eq!(gateway.lan_in(&answer)?, Mark::Sure(2));
    let third = ends.back(Message::tcp(CLIENT, SERVER, ACK));
    gateway.lan_out(&third, 2)?;
    let flow = gateway.flow(&key)?;
    assert_eq!(
        (flow.phase, flow.reason),
        (Phase::Established, Reason::Inbound)
    );
    assert_eq!((flow.in_packets, flow.out_packets), (2, 1));
    Ok(())
}

fn every_kind(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    let mut keys = Vec::new();
    for kind in kinds(gateway.family, ends) {
        gateway.lan_out_first(&ends.back(kind.answer), 3)?;
        keys.push(kind.key);
        gateway.assert_flows(&keys)?;
        assert_eq!(
            gateway.lan_in(&ends.out(kind.ask))?,
            Mark::Sure(3),
            "{}",
            kind.name
        );
    }
    Ok(())
}

/// A datagram from outside, and what it entered.
fn learnt(gateway: &mut Gateway<'_>, by: u8, first: bool) -> Result<Option<Flow>, Failure> {
    let ends = gateway.ends();
    let key = ends.key(UDP, SERVER, CLIENT);
    let datagram = ends.back(Message::udp(CLIENT, SERVER));
    if first {
        gateway.lan_out_first(&datagram, by)?;
    } else {
        gateway.lan_out(&datagram, by)?;
    }
    let flow = gateway.programs.flow(&key)?;
    if flow.is_some() {
        gateway.programs.remove_flow(&key)?;
    }
    Ok(flow)
}

fn restored(gateway: &mut Gateway<'_>) -> Outcome {
    let flow = learnt(gateway, 3, false)?.ok_or("nothing was entered")?;
    assert_eq!(
        (flow.uplink, flow.reason, flow.confirmed),
        (3, Reason::Restored, true)
    );
    assert_eq!((flow.in_packets, flow.out_packets), (1, 0));
    Ok(())
}

fn untranslated(gateway: &mut Gateway<'_>) -> Outcome {
    gateway.without_translation(3)?;
    assert_eq!(learnt(gateway, 3, false)?, None);
    gateway.assert_totals(Totals::default())?;
    let flow = learnt(gateway, 3, true)?.ok_or("nothing was entered")?;
    assert_eq!(
        (flow.uplink, flow.reason, flow.confirmed),
        (3, Reason::Inbound, true)
    );
    Ok(())
}

fn states(gateway: &mut Gateway<'_>) -> Outcome {
    for (state, teaches) in TEACHING {
        gateway.set_state(1, state)?;
        for first in [true, false] {
            let entered = learnt(gateway, 1, first)?.is_some();
            assert_eq!(entered, teaches, "{state:?}, first packet: {first}");
        }
    }
    Ok(())
}

fn nothing_to_learn(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    let about = ends.out(Message::udp(SERVER, CLIENT)).bytes();
    let errors = crate::errors::kinds(gateway.family)
        .into_iter()
        .map(|(kind, code)| Message::error(gateway.family, kind, code, &about));
    let resets = [RST, RST | ACK, RST | SYN].map(|flags| Message::tcp(CLIENT, SERVER, flags));
    for message in errors.chain(resets) {
        gateway.lan_out(&ends.back(message.clone()), 1)?;
        gateway.lan_out_first(&ends.back(message), 1)?;
    }
    gateway.assert_flows(&[])?;
    gateway.assert_totals(Totals::default())
}

fn closing(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    gateway.lan_out(&ends.back(Message::tcp(CLIENT, SERVER, FIN | ACK)), 1)?;
    let key = ends.key(TCP, SERVER, CLIENT);
    assert_eq!(gateway.flow(&key)?.phase, Phase::Closing);
    Ok(())
}

/// Packets that came in by an interface teach nothing and are counted nowhere.
fn teaches_nothing(gateway: &mut Gateway<'_>, from: u32) -> Outcome {
    let ends = gateway.ends();
    let asked = ends.out(Message::udp(1, 1));
    gateway.lan_in(&asked)?;
    let key = ends.key(UDP, 1, 1);
    let (opened, totals) = (gateway.flow(&key)?, gateway.programs.totals()?);
    for message in [
        Message::udp(1, 1),
        Message::udp(CLIENT, SERVER),
        Message::tcp(CLIENT, SERVER, SYN),
    ] {
        for marked in [Mark::None, Mark::Ask(2), Mark::Sure(2)] {
            gateway.lan_out_from(&ends.back(message.clone()), from, marked)?;
        }
    }
    gateway.assert_flows(&[key])?;
    assert_eq!(gateway.flow(&key)?, opened);
    gateway.assert_totals(totals)?;
    let lan_in = counted(1, asked.frame([0; 6]).len());
    for uplink in 1..=crate::gateway::UPLINKS {
        let lan_in = if uplink == opened.uplink {
            lan_in
        } else {
            counted(0, 0)
        };
        gateway.assert_counters(
            uplink,
            UplinkCounters {
                lan_in,
                ..UplinkCounters::default()
            },
        )?;
    }
    Ok(())
}

fn own(gateway: &mut Gateway<'_>) -> Outcome {
    teaches_nothing(gateway, 0)
}

fn downlink(gateway: &mut Gateway<'_>) -> Outcome {
    let other = gateway.wan(2)?;
    gateway.set_role(other, Role::Downlink, 0)?;
    teaches_nothing(gateway, other)
}

fn unknown(gateway: &mut Gateway<'_>) -> Outcome {
    teaches_nothing(gateway, 999)
}
