//! IPv4 options and IPv6 extension headers: the flow stands behind them.

use failover_common::lifetime::protocol::{ICMPV6, TCP, UDP};
use failover_common::{Family, Totals};

use crate::frames::Extension::{self, Authentication, Destination, Fragment, HopByHop, Routing};
use crate::frames::{Message, Packet, SYN};
use crate::gateway::{Gateway, Mark, Outcome, in_family};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    vec![
        in_family("options_of_every_length_are_skipped", Family::Ipv4, options),
        in_family("each_extension_header_is_skipped", Family::Ipv6, each),
        in_family(
            "extension_headers_of_every_length_are_skipped",
            Family::Ipv6,
            lengths,
        ),
        in_family(
            "up_to_eight_extension_headers_are_skipped",
            Family::Ipv6,
            chains,
        ),
        in_family(
            "more_extension_headers_are_passed_on",
            Family::Ipv6,
            too_many,
        ),
        in_family(
            "an_extension_header_beyond_the_packet_is_passed_on",
            Family::Ipv6,
            beyond,
        ),
        in_family(
            "answers_with_extension_headers_confirm",
            Family::Ipv6,
            answers,
        ),
    ]
}

/// How many extension headers the programs look through.
const BOUND: usize = 8;

fn options(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    let mut keys = Vec::new();
    for options in 0..=10_u16 {
        let port = 1000 + options;
        let packet = Packet {
            options: options.into(),
            ..ends.out(Message::udp(port, 53))
        };
        let key = ends.key(UDP, port, 53);
        assert_eq!(
            gateway.lan_in(&packet)?,
            Mark::Ask(gateway.chosen(&key)?),
            "{options} words of options"
        );
        keys.push(key);
        let packet = Packet {
            message: Message::tcp(port, 53, SYN),
            ..packet
        };
        gateway.lan_in(&packet)?;
        keys.push(ends.key(TCP, port, 53));
        gateway.assert_flows(&keys)?;
    }
    Ok(())
}

/// Gives a packet behind extension headers to the program, and asserts that it is seen as what it
/// is.
fn skipped(gateway: &mut Gateway<'_>, extensions: &[Extension]) -> Outcome {
    let ends = gateway.ends();
    for (message, key) in [
        (Message::udp(4000, 53), ends.key(UDP, 4000, 53)),
        (Message::tcp(4000, 53, SYN), ends.key(TCP, 4000, 53)),
        (
            Message::echo_request(Family::Ipv6, 4000),
            ends.key(ICMPV6, 4000, 0),
        ),
        (Message::portless(50), ends.key(50, 0, 0)),
    ] {
        let packet = Packet {
            extensions: extensions.to_vec(),
            ..ends.out(message)
        };
        let mark = gateway.lan_in(&packet)?;
        assert_eq!(mark, Mark::Ask(gateway.chosen(&key)?), "{extensions:?}");
        gateway.assert_flows(&[key])?;
        gateway.programs.remove_flow(&key)?;
    }
    Ok(())
}

fn each(gateway: &mut Gateway<'_>) -> Outcome {
    for extension in [
        HopByHop(0),
        Routing(0),
        Destination(0),
        Authentication(0),
        Fragment(0, false),
    ] {
        skipped(gateway, &[extension])?;
    }
    Ok(())
}

fn lengths(gateway: &mut Gateway<'_>) -> Outcome {
    for length in [1, 2, 3, 7, 100] {
        skipped(gateway, &[HopByHop(length)])?;
        skipped(gateway, &[Routing(length)])?;
        skipped(gateway, &[Destination(length)])?;
        skipped(gateway, &[Authentication(length)])?;
    }
    Ok(())
}

/// Kinds in an order that repeats: the standard's order, then any other.
const ORDER: [Extension; 5] = [
    HopByHop(1),
    Destination(0),
    Routing(2),
    Fragment(0, false),
    Authentication(3),
];

fn chains(gateway: &mut Gateway<'_>) -> Outcome {
    for length in 0..=BOUND {
        for first in 0..ORDER.len() {
            let chain = ORDER.iter().cycle().skip(first).take(length);
            skipped(gateway, &chain.copied().collect::<Vec<_>>())?;
        }
    }
    Ok(())
}

fn too_many(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    for (length, unread) in [(BOUND + 1, 1), (BOUND + 2, 2), (100, 3)] {
        let packet = Packet {
            extensions: vec![Destination(0); length],
            ..ends.out(Message::udp(4000, 53))
        };
        assert_eq!(gateway.lan_in(&packet)?, Mark::None, "{length} headers");
        gateway.assert_flows(&[])?;
        gateway.assert_totals(Totals {
            unread,
            ..Totals::default()
        })?;
    }
    Ok(())
}

fn beyond(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    for extension in [HopByHop(0), Routing(0), Destination(0), Authentication(0)] {
        let packet = Packet {
            extensions: vec![extension],
            ..ends.out(Message::udp(4000, 53))
        };
        let mut frame = packet.frame(gateway.wiring.lan_mac);
        // The header's own length: the longest that there is.
        let length = frame.get_mut(14 + 40 + 1).ok_or("no such byte")?;
        *length = u8::MAX;
        assert_eq!(gateway.lan_in_frame(&frame)?, Mark::None, "{extension:?}");
    }
    gateway.assert_flows(&[])?;
    gateway.assert_totals(Totals {
        unread: 4,
        ..Totals::default()
    })
}

fn answers(gateway: &mut Gateway<'_>) -> Outcome {
    let ends = gateway.ends();
    let packet = ends.out(Message::udp(4000, 53));
    let key = ends.key(UDP, 4000, 53);
    let uplink = gateway.chosen(&key)?;
    gateway.lan_in(&packet)?;
    let answer = Packet {
        extensions: ORDER.to_vec(),
        ..ends.back(Message::udp(53, 4000))
    };
    gateway.lan_out(&answer, uplink)?;
    assert_eq!(gateway.lan_in(&packet)?, Mark::Sure(uplink));
    gateway.assert_flows(&[key])
}
