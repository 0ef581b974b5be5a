//! Flows that are known: rules that change move none of them, until its uplink forgets it.

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Affinity, Reason, Totals};

use super::{decide, first_rule_has};
use crate::frames::{ACK, Message, SYN};
use crate::gateway::{Gateway, Mark, Outcome, both};
use crate::trial::SystemTest;

pub(super) fn trials() -> Vec<SystemTest> {
    [
        both("new_rules_move_no_known_flow", stays),
        both("a_forgotten_flow_is_picked_by_rules_again", forgotten),
        both("a_forgotten_flow_may_be_denied", denied),
        both("what_came_in_asks_no_rule", inbound),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const BY_ONE: &str = "rules: [{name: all, match: {}, via: [one]}]";
const BY_THREE: &str = "rules: [{name: all, match: {}, via: [three], otherwise: drop}]";

fn stays(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    let family = gateway.family;
    gateway.programs.select(family, Affinity::Flow, &[2])?;
    let flow = |port| ends.out(Message::udp(port, 53));
    assert_eq!(gateway.lan_in(&flow(1))?, Mark::Ask(2), "by no rule");
    decide(gateway.programs, 0, BY_ONE)?;
    assert_eq!(gateway.lan_in(&flow(2))?, Mark::Ask(1), "by a rule");
    decide(gateway.programs, 1, BY_THREE)?;
    assert_eq!(gateway.lan_in(&flow(3))?, Mark::Ask(3), "by a new rule");
    first_rule_has(gateway, &[])?;
    decide(gateway.programs, 0, BY_THREE)?;
    first_rule_has(gateway, &[])?;
    assert_eq!(gateway.lan_in(&flow(4))?, Mark::Denied, "by none");
    for (port, uplink, reason) in [
        (1, 2, Reason::Hash),
        (2, 1, Reason::Rule),
        (3, 3, Reason::Rule),
    ] {
        assert_eq!(gateway.lan_in(&flow(port))?, Mark::Ask(uplink));
        gateway.lan_out(&ends.back(Message::udp(53, port)), uplink)?;
        assert_eq!(gateway.lan_in(&flow(port))?, Mark::Sure(uplink));
        assert_eq!(gateway.flow(&ends.key(UDP, port, 53))?.reason, reason);
    }
    gateway.assert_totals(Totals {
        entered: 3,
        denied: 1,
        ..Totals::default()
    })
}

fn forgotten(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    let family = gateway.family;
    gateway.programs.select(family, Affinity::Flow, &[2])?;
    let syn = ends.out(Message::tcp(1, 443, SYN));
    assert_eq!(gateway.lan_in(&syn)?, Mark::Ask(2));
    gateway.lan_out(&ends.back(Message::tcp(443, 1, SYN | ACK)), 2)?;
    decide(gateway.programs, 0, BY_THREE)?;
    let ack = ends.out(Message::tcp(1, 443, ACK));
    assert_eq!(gateway.lan_in(&ack)?, Mark::Sure(2));

    gateway.raise_generation(2)?;
    assert_eq!(gateway.lan_in(&ack)?, Mark::Ask(3));
    let key = ends.key(TCP, 1, 443);
    let flow = gateway.flow(&key)?;
    assert_eq!((flow.uplink, flow.reason), (3, Reason::Rule));

    // And back to no rule.
    decide(gateway.programs, 1, "rules: []")?;
    assert_eq!(gateway.lan_in(&ack)?, Mark::Ask(3));
    gateway.raise_generation(3)?;
    assert_eq!(gateway.lan_in(&ack)?, Mark::Ask(2));
    let flow = gateway.flow(&key)?;
    assert_eq!((flow.uplink, flow.reason), (2, Reason::Hash));
    gateway.assert_totals(Totals {
        entered: 1,
        renewed: 2,
        ..Totals::default()
    })
}

fn denied(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    decide(gateway.programs, 0, BY_THREE)?;
    let packet = ends.out(Message::udp(1, 53));
    assert_eq!(gateway.lan_in(&packet)?, Mark::Ask(3));
    gateway.raise_generation(3)?;
    first_rule_has(gateway, &[])?;
    for _ in 0..2 {
        assert_eq!(gateway.lan_in(&packet)?, Mark::Denied);
    }
    gateway.assert_totals(Totals {
        entered: 1,
        denied: 2,
        ..Totals::default()
    })?;
    first_rule_has(gateway, &[3])?;
    assert_eq!(gateway.lan_in(&packet)?, Mark::Ask(3), "it goes on");
    Ok(())
}

fn inbound(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    decide(gateway.programs, 0, BY_THREE)?;
    first_rule_has(gateway, &[])?;
    gateway.lan_out_first(&ends.back(Message::tcp(50_000, 22, SYN)), 1)?;
    let answer = ends.out(Message::tcp(22, 50_000, SYN | ACK));
    assert_eq!(gateway.lan_in(&answer)?, Mark::Sure(1));
    gateway.assert_totals(Totals {
        entered: 1,
        ..Totals::default()
    })
}
