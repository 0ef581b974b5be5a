//! Packets that contradict themselves or end too early pass on untouched.

use failover_common::lifetime::protocol::{ICMP, ICMPV6, TCP};
use failover_common::{Family, Totals};
use failover_tests::programs::Context;

use crate::frames::Extension::{Authentication, Destination, Fragment, HopByHop, Routing};
use crate::frames::{ETHERNET, Packet, least};
use crate::gateway::{Gateway, Mark, Outcome, both, in_family};
use crate::kinds::kinds;
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    let mut trials = both("a_wrong_version_is_passed_on", versions);
    trials.push(in_family(
        "a_header_that_is_too_short_is_passed_on",
        Family::Ipv4,
        lengths,
    ));
    trials.extend(both("a_packet_cut_anywhere_is_passed_on", cut));
    trials.extend(both("an_answer_cut_anywhere_is_passed_on", cut_answers));
    trials
}

fn versions(gateway: &mut Gateway<'_>) -> Outcome {
    let right = match gateway.family {
        Family::Ipv4 => 4,
        Family::Ipv6 => 6,
    };
    let packet = gateway.ends().out(crate::frames::Message::udp(1, 53));
    let frame = packet.frame(gateway.wiring.lan_mac);
    let mut unread = 0;
    for version in (0..16).filter(|version| *version != right) {
        let mut frame = frame.clone();
        let first = frame.get_mut(ETHERNET).ok_or("no such byte")?;
        *first = *first & 0x0f | version << 4;
        assert_eq!(
            gateway.lan_in_frame(&frame)?,
            Mark::None,
            "version {version}"
        );
        unread += 1;
    }
    gateway.assert_flows(&[])?;
    gateway.assert_totals(Totals {
        unread,
        ..Totals::default()
    })
}

fn lengths(gateway: &mut Gateway<'_>) -> Outcome {
    let packet = gateway.ends().out(crate::frames::Message::udp(1, 53));
    let frame = packet.frame(gateway.wiring.lan_mac);
    for words in 0..5 {
        let mut frame = frame.clone();
        let first = frame.get_mut(ETHERNET).ok_or("no such byte")?;
        *first = 0x40 | words;
        assert_eq!(gateway.lan_in_frame(&frame)?, Mark::None, "{words} words");
    }
    gateway.assert_flows(&[])?;
    gateway.assert_totals(Totals {
        unread: 5,
        ..Totals::default()
    })
}

/// Packets of every kind, plain and with much in their headers; and how many bytes of a frame are
/// needed to tell the flow.
fn packets(gateway: &Gateway<'_>, from_inside: bool) -> Vec<(&'static str, Packet, usize)> {
    let ends = gateway.ends();
    let mut packets = Vec::new();
    for kind in kinds(gateway.family, ends) {
        let own = match kind.key.protocol {
            // As far as the flags.
            TCP => 16,
            ICMP | ICMPV6 if kind.key.inside_port != 0 => 8,
            _ if kind.key.inside_port != 0 => 4,
            _ => 0,
        };
        let plain = if from_inside {
            ends.out(kind.ask)
        } else {
            ends.back(kind.answer)
        };
        let rich = Packet {
            options: 3,
            extensions: vec![
                HopByHop(1),
                Routing(0),
                Fragment(0, false),
                Authentication(2),
                Destination(0),
            ],
            ..plain.clone()
        };
        for packet in [plain, rich] {
            let headers = packet.bytes().len() - packet.message.bytes.len();
            packets.push((kind.name, packet, ETHERNET + headers + own));
        }
    }
    packets
}

fn cut(gateway: &mut Gateway<'_>) -> Outcome {
    for (name, packet, needed) in packets(gateway, true) {
        let frame = packet.frame(gateway.wiring.lan_mac);
        for length in least(gateway.family)..=frame.len() {
            let before = gateway.programs.totals()?;
            let mark = gateway.lan_in_frame(frame.get(..length).unwrap_or_default())?;
            let flows = gateway.programs.flows()?;
            let whole = length >= needed;
            assert_eq!(
                (mark != Mark::None, flows.len()),
                (whole, usize::from(whole)),
                "{name}: {length} bytes, {needed} are needed"
            );
            let after = gateway.programs.totals()?;
            assert_eq!(after.unread - before.unread, u64::from(!whole), "{name}");
            for key in flows {
                gateway.programs.remove_flow(&key)?;
            }
        }
    }
    Ok(())
}

fn cut_answers(gateway: &mut Gateway<'_>) -> Outcome {
    let context = Context {
        ifindex: gateway.wiring.lan,
        ingress_ifindex: gateway.wan(2)?,
        ..Context::default()
    };
    for (name, packet, needed) in packets(gateway, false) {
        let frame = packet.frame(gateway.wiring.lan_mac);
        for length in least(gateway.family)..=frame.len() {
            let part = frame.get(..length).unwrap_or_default();
            gateway.through("fo_lan_out", part, context)?;
            gateway.through("fo_wan_in", part, context)?;
            let flows = gateway.programs.flows()?;
            let whole = length >= needed;
            assert_eq!(
                flows.len(),
                usize::from(whole),
                "{name}: {length} bytes, {needed} are needed"
            );
            for key in flows {
                gateway.programs.remove_flow(&key)?;
            }
        }
    }
    Ok(())
}
