//! What comes back tells by which uplink a flow really goes.

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Affinity, Flow, FlowKey, Phase, Reason, Totals, UplinkState};

use crate::frames::{ACK, Message, RST, SYN};
use crate::gateway::{Failure, Gateway, Mark, Outcome, TEACHING, both, length};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both("an_answer_by_another_uplink_corrects_a_flow", corrects),
        both(
            "an_answer_corrects_a_confirmed_flow_too",
            corrects_confirmed,
        ),
        both("answers_teach_by_uplinks_that_can_carry_packets", states),
        both(
            "an_answer_without_translation_corrects_nothing",
            untranslated,
        ),
        both("a_reset_corrects_and_confirms_nothing", resets),
        both("an_icmp_error_corrects_and_confirms_nothing", errors),
        both(
            "an_answer_after_a_raised_generation_counts_anew",
            generations,
        ),
        both(
            "an_answer_on_its_uplink_confirms_without_translation",
            confirms,
        ),
        both("an_answer_by_an_unknown_uplink_teaches_nothing", unknown),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const CLIENT: u16 = 40_000;
const SERVER: u16 = 53;

/// A flow on uplink 1 that is not confirmed yet.
fn open(gateway: &mut Gateway<'_>) -> Result<(FlowKey, Flow), Failure> {
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[1])?;
    let ends = gateway.ends();
    let key = ends.key(UDP, CLIENT, SERVER);
    if gateway.programs.flow(&key)?.is_some() {
        gateway.programs.remove_flow(&key)?;
    }
    assert_eq!(next(gateway)?, Mark::Ask(1));
    Ok((key, gateway.flow(&key)?))
}

/// Its next packet.
fn next(gateway: &Gateway<'_>) -> Result<Mark, Failure> {
    gateway.lan_in(&gateway.ends().out(Message::udp(CLIENT, SERVER)))
}

fn answer(gateway: &Gateway<'_>, by: u8) -> Outcome {
    let answer = Message::udp(SERVER, CLIENT);
    gateway.lan_out(&gateway.ends().back(answer), by)
}

fn corrects(gateway: &mut Gateway<'_>) -> Outcome {
    let (key, opened) = open(gateway)?;
    answer(gateway, 2)?;
    let answer = gateway.ends().back(Message::udp(SERVER, CLIENT));
    let expected = Flow {
        in_packets: 1,
        in_bytes: length(answer.frame([0; 6]).len()),
        uplink: 2,
        reason: Reason::Restored,
        phase: Phase::Established,
        confirmed: true,
        waits: false,
        ..opened
    };
    assert_eq!(gateway.flow(&key)?, expected);
    gateway.assert_totals(Totals {
        entered: 1,
        corrected: 1,
        ..Totals::default()
    })?;
    assert_eq!(next(gateway)?, Mark::Sure(2));
    Ok(())
}

fn corrects_confirmed(gateway: &mut Gateway<'_>) -> Outcome {
    open(gateway)?;
    answer(gateway, 1)?;
    assert_eq!(next(gateway)?, Mark::Sure(1));
    answer(gateway, 3)?;
    assert_eq!(next(gateway)?, Mark::Sure(3));
    Ok(())
}

fn states(gateway: &mut Gateway<'_>) -> Outcome {
    for (state, teaches) in TEACHING {
        for by in [1, 2] {
            open(gateway)?;
            gateway.set_state(by, state)?;
            answer(gateway, by)?;
            let expected = if teaches {
                Mark::Sure(by)
            } else {
                Mark::Ask(1)
            };
            assert_eq!(next(gateway)?, expected, "{state:?}, by uplink {by}");
            gateway.set_state(by, UplinkState::Up)?;
        }
    }
    Ok(())
}

fn untranslated(gateway: &mut Gateway<'_>) -> Outcome {
    let (key, opened) = open(gateway)?;
    gateway.without_translation(2)?;
    answer(gateway, 2)?;
    let flow = gateway.flow(&key)?;
    assert_eq!((flow.uplink, flow.confirmed), (1, false));
    assert_eq!(flow.reason, opened.reason);
    assert_eq!(flow.in_packets, 1, "it is counted all the same");
    gateway.assert_totals(Totals {
        entered: 1,
        ..Totals::default()
    })?;
    assert_eq!(next(gateway)?, Mark::Ask(1));
    Ok(())
}

fn resets(gateway: &mut Gateway<'_>) -> Outcome {
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[1])?;
    let ends = gateway.ends();
    let syn = ends.out(Message::tcp(CLIENT, SERVER, SYN));
    let key = ends.key(TCP, CLIENT, SERVER);
    for by in [1, 2] {
        gateway.lan_in(&syn)?;
        for flags in [RST, RST | ACK] {
            gateway.lan_out(&ends.back(Message::tcp(SERVER, CLIENT, flags)), by)?;
        }
        let flow = gateway.flow(&key)?;
        assert_eq!(
            (flow.uplink, flow.confirmed, flow.phase),
            (1, false, Phase::Closing),
            "resets by uplink {by}"
        );
        assert_eq!(flow.in_packets, 2);
        gateway.programs.remove_flow(&key)?;
    }
    Ok(())
}

fn errors(gateway: &mut Gateway<'_>) -> Outcome {
    let (key, opened) = open(gateway)?;
    let ends = gateway.ends();
    let about = ends.out(Message::udp(CLIENT, SERVER)).bytes();
    for (kind, code) in crate::errors::kinds(gateway.family) {
        let error = Message::error(gateway.family, kind, code, &about);
        for by in [1, 2] {
            gateway.lan_out(&ends.back(error.clone()), by)?;
        }
    }
    assert_eq!(gateway.flow(&key)?, opened);
    gateway.assert_flows(&[key])
}

fn generations(gateway: &mut Gateway<'_>) -> Outcome {
    let (key, opened) = open(gateway)?;
    answer(gateway, 1)?;
    gateway.raise_generation(1)?;
    gateway
        .programs
        .select(gateway.family, Affinity::Flow, &[2])?;
    // An answer that was on its way when the flow was forgotten does not keep it there.
    answer(gateway, 1)?;
    assert_eq!(next(gateway)?, Mark::Ask(2));
    // But when the connection mark has it stay, it comes back there again, which counts.
    answer(gateway, 1)?;
    assert_eq!(next(gateway)?, Mark::Sure(1));
    assert_eq!(gateway.flow(&key)?.generation, 2);
    // A late answer by an uplink that died takes no flow back.
    gateway.programs.set_flow(&key, &opened)?;
    gateway.set_state(1, UplinkState::Down)?;
    answer(gateway, 1)?;
    assert!(!gateway.flow(&key)?.confirmed);
    assert_eq!(next(gateway)?, Mark::Ask(2));
    answer(gateway, 1)?;
    assert_eq!(next(gateway)?, Mark::Ask(2));
    Ok(())
}

fn confirms(gateway: &mut Gateway<'_>) -> Outcome {
    open(gateway)?;
    gateway.without_translation(1)?;
    answer(gateway, 1)?;
    assert_eq!(next(gateway)?, Mark::Sure(1));
    Ok(())
}

fn unknown(gateway: &mut Gateway<'_>) -> Outcome {
    let (key, opened) = open(gateway)?;
    gateway.programs.remove_uplink(2)?;
    answer(gateway, 2)?;
    let flow = gateway.flow(&key)?;
    assert_eq!((flow.uplink, flow.confirmed), (1, false));
    assert_eq!(flow.reason, opened.reason);
    assert_eq!(next(gateway)?, Mark::Ask(1));
    Ok(())
}
