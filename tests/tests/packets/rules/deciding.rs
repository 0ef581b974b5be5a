//! What a rule does with the packets that it is for, and which packets are for no rule.

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Affinity, Phase, Reason, Totals};

use super::{decide, first_rule_has};
use crate::errors::kinds as errors_of;
use crate::fragments::fragment;
use crate::frames::{Message, Packet, RST, SYN};
use crate::gateway::{Gateway, Mark, Outcome, both};
use crate::trial::SystemTest;

pub(super) fn trials() -> Vec<SystemTest> {
    [
        both("the_first_rule_that_matches_decides", first),
        both(
            "a_rule_without_a_usable_uplink_sends_flows_where_all_go",
            otherwise_any,
        ),
        both(
            "a_rule_that_drops_without_a_usable_uplink_says_so_by_mark",
            otherwise_drop,
        ),
        both("without_any_rule_all_flows_share_all_uplinks", no_rules),
        both("rules_are_for_what_leaves_by_an_uplink", elsewhere),
        both("rules_are_not_for_errors_and_later_fragments", no_flows),
        both("a_reset_follows_rules_and_makes_no_flow", resets),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const MAIL_BY_THREE: &str =
    "rules: [{name: mail, match: {protocol: tcp, ports: 25}, via: [three]}]";
const MAIL_BY_THREE_ALONE: &str =
    "rules: [{name: mail, match: {protocol: tcp, ports: 25}, via: [three], otherwise: drop}]";
const NOTHING_LEAVES: &str = "rules: [{name: none, match: {}, via: [three], otherwise: drop}]";

const MAIL: (u16, u16) = (40_000, 25);

fn mail(gateway: &Gateway<'_>) -> Packet {
    gateway.ends().out(Message::tcp(MAIL.0, MAIL.1, SYN))
}

/// All flows that no rule names go by the first uplink.
fn others_by_one(gateway: &mut Gateway<'_>) -> Outcome {
    let family = gateway.family;
    Ok(gateway.programs.select(family, Affinity::Flow, &[1])?)
}

fn first(gateway: &mut Gateway<'_>) -> Outcome {
    others_by_one(gateway)?;
    decide(
        gateway.programs,
        0,
        "rules:\n  - {name: mail, match: {ports: 25}, via: [three]}\n  \
         - {name: tcp, match: {protocol: tcp}, via: [two]}\n  \
         - {name: all mail, match: {ports: [25, 587]}, via: [one]}",
    )?;
    let ends = gateway.ends();
    for (protocol, to, uplink, reason) in [
        (TCP, 25, 3, Reason::Rule),
        (UDP, 25, 3, Reason::Rule),
        (TCP, 587, 2, Reason::Rule),
        (UDP, 587, 1, Reason::Rule),
        (UDP, 53, 1, Reason::Hash),
    ] {
        let message = match protocol {
            TCP => Message::tcp(MAIL.0, to, SYN),
            _ => Message::udp(MAIL.0, to),
        };
        let key = ends.key(protocol, MAIL.0, to);
        let packet = ends.out(message);
        let length = packet.frame(gateway.wiring.lan_mac).len();
        assert_eq!(gateway.lan_in(&packet)?, Mark::Ask(uplink), "{key:?}");
        let flow = gateway.flow(&key)?;
        let like = gateway.opened(uplink, length, &flow);
        assert_eq!(flow, failover_common::Flow { reason, ..like }, "{key:?}");
    }
    Ok(())
}

fn otherwise_any(gateway: &mut Gateway<'_>) -> Outcome {
    others_by_one(gateway)?;
    decide(gateway.programs, 0, MAIL_BY_THREE)?;
    first_rule_has(gateway, &[])?;
    assert_eq!(gateway.lan_in(&mail(gateway))?, Mark::Ask(1));
    let key = gateway.ends().key(TCP, MAIL.0, MAIL.1);
    let flow = gateway.flow(&key)?;
    assert_eq!((flow.uplink, flow.reason), (1, Reason::Hash));
    gateway.assert_totals(Totals {
        entered: 1,
        ..Totals::default()
    })
}

fn otherwise_drop(gateway: &mut Gateway<'_>) -> Outcome {
    others_by_one(gateway)?;
    decide(gateway.programs, 0, MAIL_BY_THREE_ALONE)?;
    first_rule_has(gateway, &[])?;
    for _ in 0..3 {
        assert_eq!(gateway.lan_in(&mail(gateway))?, Mark::Denied);
    }
    gateway.assert_flows(&[])?;
    gateway.assert_totals(Totals {
        denied: 3,
        ..Totals::default()
    })?;
    let other = Message::tcp(MAIL.0, 587, SYN);
    assert_eq!(gateway.lan_in(&gateway.ends().out(other))?, Mark::Ask(1));

    // As soon as it has one again, the same client gets through.
    first_rule_has(gateway, &[3])?;
    assert_eq!(gateway.lan_in(&mail(gateway))?, Mark::Ask(3));
    let key = gateway.ends().key(TCP, MAIL.0, MAIL.1);
    assert_eq!(gateway.flow(&key)?.reason, Reason::Rule);
    gateway.assert_totals(Totals {
        denied: 3,
        entered: 2,
        ..Totals::default()
    })
}

fn no_rules(gateway: &mut Gateway<'_>) -> Outcome {
    // First none was ever there, then all were taken away.
    for (generation, port) in [(None, 1), (Some(1), 2)] {
        if let Some(generation) = generation {
            decide(gateway.programs, 0, NOTHING_LEAVES)?;
            decide(gateway.programs, generation, "rules: []")?;
        }
        let ends = gateway.ends();
        for from in 0..50 {
            let key = ends.key(UDP, from, port);
            let uplink = gateway.chosen(&key)?;
            let mark = gateway.lan_in(&ends.out(Message::udp(from, port)))?;
            assert_eq!(mark, Mark::Ask(uplink), "{key:?}");
            assert_eq!(gateway.flow(&key)?.reason, Reason::Hash);
        }
    }
    Ok(())
}

fn elsewhere(gateway: &mut Gateway<'_>) -> Outcome {
    decide(gateway.programs, 0, NOTHING_LEAVES)?;
    first_rule_has(gateway, &[])?;
    let ends = gateway.ends();
    let neighbour = match gateway.family {
        failover_common::Family::Ipv4 => [198, 18, 0, 99].into(),
        failover_common::Family::Ipv6 => [0xfd00, 0x18, 0, 0, 0, 0, 0, 0x99].into(),
    };
    let local = Packet::new(ends.inside, neighbour, Message::udp(1, 53));
    assert_eq!(gateway.lan_in(&local)?, Mark::None);
    assert_eq!(gateway.lan_in(&mail(gateway))?, Mark::Denied);
    gateway.assert_totals(Totals {
        elsewhere: 1,
        denied: 1,
        ..Totals::default()
    })
}

fn no_flows(gateway: &mut Gateway<'_>) -> Outcome {
    decide(gateway.programs, 0, NOTHING_LEAVES)?;
    first_rule_has(gateway, &[])?;
    let ends = gateway.ends();
    let question = Message::udp(1, 2);
    let later = fragment(ends.out(question.clone()), 100, true);
    assert_eq!(gateway.lan_in(&later)?, Mark::None, "a later fragment");
    let answer = ends.back(Message::udp(2, 1));
    let about = |kind: (u8, u8)| {
        ends.out(Message::error(
            gateway.family,
            kind.0,
            kind.1,
            &answer.bytes(),
        ))
    };
    for kind in errors_of(gateway.family) {
        let mark = gateway.lan_in(&about(kind))?;
        assert_eq!(mark, Mark::None, "{kind:?} about an unknown flow");
    }
    gateway.assert_flows(&[])?;
    gateway.assert_totals(Totals::default())?;
    // The flow that it is about came in, which no rule forbids.
    gateway.lan_out_first(&answer, 2)?;
    for kind in errors_of(gateway.family) {
        let mark = gateway.lan_in(&about(kind))?;
        assert_eq!(mark, Mark::Sure(2), "{kind:?} about a known flow");
    }
    assert_eq!(gateway.lan_in(&ends.out(question))?, Mark::Sure(2));

    let first = fragment(ends.out(Message::udp(7, 2)), 0, true);
    assert_eq!(gateway.lan_in(&first)?, Mark::Denied, "a first fragment");
    first_rule_has(gateway, &[3])?;
    assert_eq!(gateway.lan_in(&first)?, Mark::Ask(3), "a first fragment");
    assert_eq!(gateway.lan_in(&later)?, Mark::None, "a later fragment");
    Ok(())
}

fn resets(gateway: &mut Gateway<'_>) -> Outcome {
    others_by_one(gateway)?;
    decide(gateway.programs, 0, MAIL_BY_THREE_ALONE)?;
    let reset = gateway.ends().out(Message::tcp(MAIL.0, MAIL.1, RST));
    assert_eq!(gateway.lan_in(&reset)?, Mark::Ask(3));
    first_rule_has(gateway, &[])?;
    assert_eq!(gateway.lan_in(&reset)?, Mark::Denied);
    gateway.assert_flows(&[])?;
    first_rule_has(gateway, &[3])?;
    gateway.lan_in(&mail(gateway))?;
    let key = gateway.ends().key(TCP, MAIL.0, MAIL.1);
    assert_eq!(gateway.flow(&key)?.phase, Phase::Opening);
    Ok(())
}
