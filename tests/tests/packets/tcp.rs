//! TCP connections end and begin, which their flags tell.

use failover_common::lifetime::protocol::TCP;
use failover_common::{Affinity, Flow, FlowKey, Phase, Totals, UplinkCounters};

use crate::frames::{ACK, FIN, Message, RST, SYN};
use crate::gateway::{Failure, Gateway, Mark, Outcome, both, counted};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both("a_reset_from_inside_makes_no_entry", reset_enters_nothing),
        both("a_fin_or_reset_closes_a_flow", closes),
        both("a_flow_that_begins_with_its_end_is_closing", begins_closing),
        both("a_syn_on_a_closing_flow_begins_anew", reopens),
        both("a_syn_on_an_open_flow_changes_nothing", repeated_syn),
        both("other_flags_on_a_closing_flow_change_nothing", late_packets),
        both("both_directions_establish_a_flow", establishes),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const CLIENT: u16 = 33_000;
const SERVER: u16 = 80;

fn key(gateway: &Gateway<'_>) -> FlowKey {
    gateway.ends().key(TCP, CLIENT, SERVER)
}

/// A segment from inside.
fn out(gateway: &Gateway<'_>, flags: u8) -> Result<Mark, Failure> {
    gateway.lan_in(&gateway.ends().out(Message::tcp(CLIENT, SERVER, flags)))
}

/// A segment from outside.
fn back(gateway: &Gateway<'_>, flags: u8, by: u8) -> Outcome {
    let segment = Message::tcp(SERVER, CLIENT, flags);
    gateway.lan_out(&gateway.ends().back(segment), by)
}

/// An established connection by uplink 1; the next ones go by uplink 2.
fn established(gateway: &mut Gateway<'_>) -> Result<FlowKey, Failure> {
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[1])?;
    let key = key(gateway);
    if gateway.programs.flow(&key)?.is_some() {
        gateway.programs.remove_flow(&key)?;
    }
    out(gateway, SYN)?;
    back(gateway, SYN | ACK, 1)?;
    assert_eq!(out(gateway, ACK)?, Mark::Sure(1));
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[2])?;
    assert_eq!(gateway.flow(&key)?.phase, Phase::Established);
    Ok(key)
}

fn reset_enters_nothing(gateway: &mut Gateway<'_>) -> Outcome {
    let uplink = gateway.chosen(&key(gateway))?;
    for flags in [RST, RST | ACK, RST | SYN, RST | FIN] {
        assert_eq!(out(gateway, flags)?, Mark::Ask(uplink), "flags {flags:#x}");
    }
    gateway.assert_flows(&[])?;
    gateway.assert_totals(Totals::default())?;
    let packet = gateway.ends().out(Message::tcp(CLIENT, SERVER, RST));
    let lan_in = counted(4, packet.frame([0; 6]).len());
    gateway.assert_counters(
        uplink,
        UplinkCounters {
            lan_in,
            ..UplinkCounters::default()
        },
    )
}

fn closes(gateway: &mut Gateway<'_>) -> Outcome {
    for flags in [FIN, FIN | ACK, RST, RST | ACK] {
        let key = established(gateway)?;
        assert_eq!(out(gateway, flags)?, Mark::Sure(1), "flags {flags:#x}");
        assert_eq!(
            gateway.flow(&key)?.phase,
            Phase::Closing,
            "{flags:#x} from inside"
        );
        let key = established(gateway)?;
        back(gateway, flags, 1)?;
        assert_eq!(
            gateway.flow(&key)?.phase,
            Phase::Closing,
            "{flags:#x} from outside"
        );
    }
    Ok(())
}

fn begins_closing(gateway: &mut Gateway<'_>) -> Outcome {
    out(gateway, FIN | ACK)?;
    assert_eq!(gateway.flow(&key(gateway))?.phase, Phase::Closing);
    Ok(())
}

fn reopens(gateway: &mut Gateway<'_>) -> Outcome {
    let key = established(gateway)?;
    back(gateway, FIN | ACK, 1)?;
    let totals = gateway.programs.totals()?;
    assert_eq!(out(gateway, SYN)?, Mark::Ask(2));
    let flow = gateway.flow(&key)?;
    let segment = gateway.ends().out(Message::tcp(CLIENT, SERVER, SYN));
    let length = segment.frame([0; 6]).len();
    assert_eq!(flow, gateway.begun_anew(2, length, &flow));
    gateway.assert_totals(Totals {
        renewed: totals.renewed + 1,
        ..totals
    })
}

fn repeated_syn(gateway: &mut Gateway<'_>) -> Outcome {
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[1])?;
    out(gateway, SYN)?;
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[2])?;
    assert_eq!(out(gateway, SYN)?, Mark::Ask(1), "the same SYN again");
    established(gateway)?;
    assert_eq!(
        out(gateway, SYN)?,
        Mark::Sure(1),
        "a SYN within a connection"
    );
    Ok(())
}

fn late_packets(gateway: &mut Gateway<'_>) -> Outcome {
    let key = established(gateway)?;
    out(gateway, FIN | ACK)?;
    for flags in [ACK, SYN | ACK, SYN | RST, FIN | ACK, 0] {
        assert_eq!(out(gateway, flags)?, Mark::Sure(1), "flags {flags:#x}");
    }
    back(gateway, ACK, 1)?;
    let flow = gateway.flow(&key)?;
    assert_eq!(flow.phase, Phase::Closing);
    assert!(flow.confirmed);
    Ok(())
}

fn establishes(gateway: &mut Gateway<'_>) -> Outcome {
    let key = key(gateway);
    out(gateway, SYN)?;
    let uplink = gateway.flow(&key)?.uplink;
    assert_eq!(gateway.flow(&key)?.phase, Phase::Opening);
    back(gateway, SYN | ACK, uplink)?;
    let flow: Flow = gateway.flow(&key)?;
    assert_eq!((flow.phase, flow.confirmed), (Phase::Established, true));
    Ok(())
}
