//! ICMP errors from inside go with the flow that they are about.

use failover_common::lifetime::protocol::{ICMP, ICMPV6};
use failover_common::{Family, FlowKey, Totals};

use crate::frames::Extension::{Authentication, Destination, HopByHop};
use crate::frames::{ETHERNET, Message, Packet, least};
use crate::gateway::{Gateway, Mark, Outcome, both};
use crate::kinds::kinds as kinds_of_flow;
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both("an_error_goes_with_the_flow_that_it_is_about", goes_with),
        both(
            "an_error_about_an_unconfirmed_flow_is_left_alone",
            unconfirmed,
        ),
        both("an_error_about_an_unknown_flow_is_left_alone", unknown),
        both("an_error_about_a_forgotten_flow_is_left_alone", forgotten),
        both("an_error_about_odd_headers_finds_its_flow", odd_headers),
        both("an_error_that_says_too_little_is_left_alone", too_little),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Type and code of all errors: unreachable (with "fragmentation needed"), source quench, time
/// exceeded, parameter problem; in IPv6 unreachable, packet too big, time exceeded, parameter
/// problem and one that is not assigned.
pub(crate) fn kinds(family: Family) -> Vec<(u8, u8)> {
    match family {
        Family::Ipv4 => vec![(3, 1), (3, 3), (3, 4), (4, 0), (11, 0), (11, 1), (12, 0)],
        Family::Ipv6 => vec![(1, 0), (1, 4), (2, 0), (3, 0), (3, 1), (4, 0), (100, 0)],
    }
}

/// An error from the client about a packet from outside.
fn about(gateway: &Gateway<'_>, packet: &Packet, (kind, code): (u8, u8)) -> Packet {
    let error = Message::error(gateway.family, kind, code, &packet.bytes());
    gateway.ends().out(error)
}

/// Makes every kind of flow, each confirmed on uplink 2, and gives the answer of each.
fn confirmed(gateway: &mut Gateway<'_>) -> Result<Vec<(Packet, FlowKey)>, crate::gateway::Failure> {
    let ends = gateway.ends();
    let mut answers = Vec::new();
    for kind in kinds_of_flow(gateway.family, ends) {
        let answer = ends.back(kind.answer);
        gateway.lan_out_first(&answer, 2)?;
        assert_eq!(gateway.lan_in(&ends.out(kind.ask))?, Mark::Sure(2));
        answers.push((answer, kind.key));
    }
    Ok(answers)
}

fn goes_with(gateway: &mut Gateway<'_>) -> Outcome {
    let answers = confirmed(gateway)?;
    let before = gateway.programs.totals()?;
    for (answer, key) in &answers {
        let flow = gateway.flow(key)?;
        for kind in kinds(gateway.family) {
            let mark = gateway.lan_in(&about(gateway, answer, kind))?;
            assert_eq!(mark, Mark::Sure(2), "{kind:?} about {key:?}");
        }
        assert_eq!(
            gateway.flow(key)?,
            flow,
            "an error is no packet of the flow"
        );
    }
    let keys: Vec<FlowKey> = answers.into_iter().map(|(_, key)| key).collect();
    gateway.assert_flows(&keys)?;
    gateway.assert_totals(before)
}

fn unconfirmed(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    for kind in kinds_of_flow(gateway.family, ends) {
        gateway.lan_in(&ends.out(kind.ask))?;
        let error = about(gateway, &ends.back(kind.answer), (3, 1));
        assert_eq!(gateway.lan_in(&error)?, Mark::None, "{}", kind.name);
    }
    Ok(())
}

fn unknown(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    for flow in kinds_of_flow(gateway.family, ends) {
        for kind in kinds(gateway.family) {
            let error = about(gateway, &ends.back(flow.answer.clone()), kind);
            assert_eq!(gateway.lan_in(&error)?, Mark::None, "{}", flow.name);
        }
    }
    gateway.assert_flows(&[])?;
    gateway.assert_totals(Totals::default())
}

fn forgotten(gateway: &mut Gateway<'_>) -> Outcome {
    let answers = confirmed(gateway)?;
    gateway.raise_generation(2)?;
    for (answer, key) in &answers {
        let flow = gateway.flow(key)?;
        let mark = gateway.lan_in(&about(gateway, answer, (3, 1)))?;
        assert_eq!(mark, Mark::None, "{key:?}");
        assert_eq!(gateway.flow(key)?, flow);
    }
    Ok(())
}

fn odd_headers(gateway: &mut Gateway<'_>) -> Outcome {
    for (answer, key) in confirmed(gateway)? {
        for options in [1, 10] {
            let odd = Packet {
                options,
                extensions: vec![HopByHop(0), Authentication(1), Destination(2)],
                ..answer.clone()
            };
            let plain = about(gateway, &odd, (3, 1));
            assert_eq!(gateway.lan_in(&plain)?, Mark::Sure(2), "{key:?}");
            // The error itself may be odd as well.
            let error = Packet {
                options,
                extensions: vec![Destination(0)],
                ..plain
            };
            assert_eq!(gateway.lan_in(&error)?, Mark::Sure(2), "{key:?}");
        }
    }
    Ok(())
}

fn too_little(gateway: &mut Gateway<'_>) -> Outcome {
    let header = match gateway.family {
        Family::Ipv4 => 20,
        Family::Ipv6 => 40,
    };
    for (answer, key) in confirmed(gateway)? {
        // What follows the inner IP header, and is needed to tell the flow.
        let ports = match key.protocol {
            ICMP | ICMPV6 if key.inside_port != 0 => 8,
            // Its two first words are read as an echo's, which the other family's ICMP is not.
            ICMP | ICMPV6 => 0,
            _ if key.inside_port != 0 => 4,
            _ => 0,
        };
        let needed = ETHERNET + header + 8 + header + ports;
        let frame = about(gateway, &answer, (3, 1)).frame(gateway.wiring.lan_mac);
        for length in least(gateway.family)..=frame.len() {
            let before = gateway.programs.totals()?;
            let part = frame.get(..length).unwrap_or_default();
            let mark = gateway.lan_in_frame(part)?;
            let whole = length >= needed;
            let expected = if whole { Mark::Sure(2) } else { Mark::None };
            assert_eq!(mark, expected, "{length} of {needed} bytes, {key:?}");
            gateway.assert_totals(Totals {
                unread: before.unread + u64::from(!whole),
                ..before
            })?;
        }
    }
    Ok(())
}
