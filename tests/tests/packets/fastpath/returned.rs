//! Packets of offloaded flows that are left to the stack, each by itself: it answers them, joins them,
//! or has to see them.

use failover_common::lifetime::protocol::TCP;
use failover_common::{Family, Totals};

use super::{Line, MTU, PROTOCOLS, WAYS, Way};
use crate::frames::{ACK, ETHERNET, Extension, FIN, IPV4, IPV6, Message, Packet, RST, SYN, frame};
use crate::gateway::{Gateway, Mark, Outcome, both, in_family};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    let mut trials: Vec<SystemTest> = [
        both("the_last_hop_is_the_stacks_to_tell", last_hops),
        both("what_is_too_long_is_the_stacks_to_tell", too_long),
        both("what_begins_or_ends_a_connection_sends_it_back", ends),
        both("broken_packets_of_offloaded_flows_are_passed_on", broken),
        both("tagged_packets_of_offloaded_flows_are_passed_on", tagged),
        both("errors_about_offloaded_flows_are_passed_on", errors),
    ]
    .into_iter()
    .flatten()
    .collect();
    trials.push(in_family(
        "options_and_fragments_are_the_stacks",
        Family::Ipv4,
        options_and_fragments,
    ));
    trials.push(in_family(
        "extension_headers_are_the_stacks",
        Family::Ipv6,
        extensions,
    ));
    trials
}

/// Packets of a flow that are the stack's, each of which changes nothing about the next one.
fn assert_each_returned(
    gateway: &mut Gateway<'_>,
    change: impl Fn(&Packet) -> Vec<(String, Packet)>,
) -> Outcome {
    for protocol in PROTOCOLS {
        let line = Line::new(gateway, protocol);
        gateway.offload(&line)?;
        for way in WAYS {
            let plain = line.packet(way, 100);
            for (what, packet) in change(&plain) {
                let frame = gateway.arriving(way, &packet)?;
                gateway.assert_returned(&what, way, &frame, gateway.context(way)?)?;
                gateway.assert_sent("the next one", &line, way, &plain)?;
            }
        }
    }
    Ok(())
}

fn last_hops(gateway: &mut Gateway<'_>) -> Outcome {
    assert_each_returned(gateway, |plain| {
        let with = |hops| Packet {
            hops,
            ..plain.clone()
        };
        [0, 1]
            .map(|hops| (format!("{hops} hops"), with(hops)))
            .into()
    })
}

fn options_and_fragments(gateway: &mut Gateway<'_>) -> Outcome {
    assert_each_returned(gateway, |plain| {
        let options = [1, 10].map(|options| {
            let packet = Packet {
                options,
                ..plain.clone()
            };
            (format!("{options} words of options"), packet)
        });
        let first = Packet {
            fragment: (0, true),
            whole: false,
            ..plain.clone()
        };
        let mut all = Vec::from(options);
        all.push(("the first fragment".to_owned(), first));
        all
    })?;
    // A later fragment has no ports: it is nobody's.
    let line = Line::new(gateway, TCP);
    gateway.offload(&line)?;
    let before = gateway.programs.totals()?;
    for (way, more) in WAYS.into_iter().flat_map(|way| [(way, true), (way, false)]) {
        let later = Packet {
            fragment: (1, more),
            whole: false,
            ..line.packet(way, 100)
        };
        let frame = gateway.arriving(way, &later)?;
        let context = gateway.context(way)?;
        gateway.assert_passed("a later fragment", way, &frame, context, Mark::None)?;
    }
    gateway.assert_totals(before)
}

fn extensions(gateway: &mut Gateway<'_>) -> Outcome {
    assert_each_returned(gateway, |plain| {
        [
            vec![Extension::HopByHop(0)],
            vec![Extension::Routing(1)],
            vec![Extension::Destination(2)],
            vec![Extension::Authentication(1)],
            vec![Extension::Fragment(0, true)],
            vec![Extension::Fragment(0, false)],
            vec![Extension::HopByHop(0), Extension::Destination(0)],
        ]
        .map(|extensions| {
            let packet = Packet {
                extensions: extensions.clone(),
                ..plain.clone()
            };
            (format!("{extensions:?}"), packet)
        })
        .into()
    })?;
    let line = Line::new(gateway, TCP);
    gateway.offload(&line)?;
    let before = gateway.programs.totals()?;
    for way in WAYS {
        let later = Packet {
            extensions: vec![Extension::Fragment(1, true)],
            ..line.packet(way, 100)
        };
        let frame = gateway.arriving(way, &later)?;
        let context = gateway.context(way)?;
        gateway.assert_passed("a later fragment", way, &frame, context, Mark::None)?;
    }
    gateway.assert_totals(before)
}

/// One byte too long, with the don't-fragment bit and without.
fn too_long(gateway: &mut Gateway<'_>) -> Outcome {
    let most = usize::try_from(MTU)?;
    for protocol in PROTOCOLS {
        let line = Line::new(gateway, protocol);
        gateway.offload(&line)?;
        for way in WAYS {
            let longest = most - line.packet(way, 0).bytes().len();
            for whole in [true, false] {
                let packet = |length| Packet {
                    whole,
                    ..line.packet(way, length)
                };
                let frame = gateway.arriving(way, &packet(longest + 1))?;
                gateway.assert_returned("too long", way, &frame, gateway.context(way)?)?;
                gateway.assert_sent("just not", &line, way, &packet(longest))?;
            }
        }
    }
    Ok(())
}

/// From the first such packet on both directions are the stack's, whichever way it went.
fn ends(gateway: &mut Gateway<'_>) -> Outcome {
    let line = Line::new(gateway, TCP);
    for flags in [SYN, SYN | ACK, FIN, FIN | ACK, RST, RST | ACK] {
        for way in WAYS {
            gateway.offload(&line)?;
            for way in WAYS {
                gateway.assert_sent("before", &line, way, &line.packet(way, 10))?;
            }
            let mut packet = line.packet(way, 0);
            let (from, to) = line.before(way);
            packet.message = Message::tcp(from.port(), to.port(), flags);
            let frame = gateway.arriving(way, &packet.sealed())?;
            let what = format!("flags {flags:#x}");
            gateway.assert_returned(&what, way, &frame, gateway.context(way)?)?;
            for other in WAYS {
                let what = format!("{what}, {way:?}, and then");
                gateway.assert_packet_returned(&what, &line, other)?;
            }
        }
    }
    Ok(())
}

/// A packet that is cut off somewhere, says that it is longer or shorter than it is, or has a header
/// that is none.
fn broken(gateway: &mut Gateway<'_>) -> Outcome {
    for protocol in PROTOCOLS {
        let line = Line::new(gateway, protocol);
        gateway.offload(&line)?;
        let internet = match gateway.family {
            Family::Ipv4 => 20,
            Family::Ipv6 => 40,
        };
        for way in WAYS {
            let packet = line.packet(way, 30);
            let whole = gateway.arriving(way, &packet)?;
            let context = gateway.context(way)?;
            let before = gateway.programs.totals()?;
            for length in ETHERNET + internet..whole.len() {
                let cut = whole.get(..length).unwrap_or_default();
                let run = gateway.meet(way, cut, context)?;
                assert_eq!(run.returned, super::PASSED_ON, "cut to {length} bytes");
                assert_eq!(run.frame, cut, "cut to {length} bytes");
            }
            let after = gateway.programs.totals()?;
            assert!(after.returned > before.returned, "{way:?}");
            let upper = if protocol == TCP { 20 } else { 8 };
            let said = |length: usize| -> Result<Vec<u8>, crate::gateway::Failure> {
                let (at, length) = match gateway.family {
                    Family::Ipv4 => (ETHERNET + 2, internet + length),
                    Family::Ipv6 => (ETHERNET + 4, length),
                };
                let mut frame = whole.clone();
                frame.splice(at..at + 2, u16::try_from(length)?.to_be_bytes());
                Ok(frame)
            };
            for length in [0, 1, 4, upper - 1, upper + 31, 1400, 0xff00] {
                let what = format!("{length} bytes behind the IP header, it says");
                gateway.assert_returned(&what, way, &said(length)?, context)?;
            }
            if protocol == TCP {
                for words in [0_u8, 1, 4, 15] {
                    let mut frame = whole.clone();
                    let at = ETHERNET + internet + 12;
                    frame.splice(at..=at, [words << 4]);
                    let what = format!("a TCP header of {words} words");
                    gateway.assert_returned(&what, way, &frame, context)?;
                }
            }
        }
    }
    Ok(())
}

/// A tag in the frame itself. Those that the kernel has taken out come over a wire.
fn tagged(gateway: &mut Gateway<'_>) -> Outcome {
    let kind = match gateway.family {
        Family::Ipv4 => IPV4,
        Family::Ipv6 => IPV6,
    };
    let line = Line::new(gateway, TCP);
    gateway.offload(&line)?;
    for way in WAYS {
        for tag in [0_u16, 0xe000, 7] {
            let packet = line.packet(way, 20).bytes();
            let inner = [&tag.to_be_bytes()[..], &kind.to_be_bytes(), &packet].concat();
            let to = match way {
                Way::Out => gateway.wiring.lan_mac,
                Way::Back => gateway.wan_mac(super::UPLINK)?,
            };
            let frame = frame(to, 0x8100, &inner);
            let context = gateway.context(way)?;
            gateway.assert_passed("tagged", way, &frame, context, Mark::None)?;
        }
    }
    Ok(())
}

/// Errors go with the flow that they are about, and are translated by the stack.
fn errors(gateway: &mut Gateway<'_>) -> Outcome {
    let family = gateway.family;
    let kinds: &[(u8, u8)] = match family {
        Family::Ipv4 => &[(3, 4), (3, 3), (11, 0)],
        Family::Ipv6 => &[(2, 0), (1, 4), (3, 0)],
    };
    for protocol in PROTOCOLS {
        let line = Line::new(gateway, protocol);
        gateway.offload(&line)?;
        let before = Totals {
            returned: 0,
            ..gateway.programs.totals()?
        };
        for way in WAYS {
            let other = match way {
                Way::Out => Way::Back,
                Way::Back => Way::Out,
            };
            // What it is about went the other way, and as it left.
            let about = line.translated(other, &line.packet(other, 20));
            for (kind, code) in kinds {
                let message = Message::error(family, *kind, *code, &about.bytes());
                let error = Packet::new(about.destination, about.source, message);
                let frame = gateway.arriving(way, &error)?;
                let context = gateway.context(way)?;
                gateway.assert_passed("an error", way, &frame, context, Mark::Sure(1))?;
            }
            gateway.assert_sent("the next one", &line, way, &line.packet(way, 1))?;
        }
        let after = gateway.programs.totals()?;
        assert_eq!(
            after.returned, before.returned,
            "it is no packet of the flow"
        );
    }
    Ok(())
}
