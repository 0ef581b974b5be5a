//! What takes the fast path, and what becomes of it in every byte.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use failover_common::Family;
use failover_common::lifetime::protocol::{TCP, UDP};
use failover_tests::programs::Context;

use super::{Line, MTU, PROTOCOLS, SENT, WAYS, Way, program};
use crate::frames::{ETHERNET, Packet};
use crate::gateway::{Failure, Gateway, Outcome, both};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both(
            "the_fast_path_translates_as_connection_tracking",
            translations,
        ),
        both("the_fast_path_takes_packets_of_any_length", lengths),
        both("a_datagram_without_a_checksum_stays_so", unsummed),
        both("what_hardware_has_summed_up_stays_true", summed),
        both("a_checksum_of_zero_is_written_so_that_it_counts", zeros),
        both("the_fast_path_leaves_padding_as_it_is", padded),
        both(
            "the_fast_path_leaves_other_fields_as_they_are",
            other_fields,
        ),
        both(
            "segments_that_fit_the_next_hop_take_the_fast_path",
            segments,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Another address of the same family, which ends in this byte.
fn other(gateway: &Gateway<'_>, last: u8) -> IpAddr {
    match gateway.family {
        Family::Ipv4 => [192, 0, 2, last].into(),
        Family::Ipv6 => [0xfd00, 0x192, 0xffff, 0, 0x1234, 0, 0, last.into()].into(),
    }
}

/// Nothing is translated, the source, the destination, both; addresses alone, ports alone, both.
fn lines(gateway: &Gateway<'_>, protocol: u8) -> Vec<(&'static str, Line)> {
    let source = Line::new(gateway, protocol);
    let none = Line {
        own: source.inside,
        ..source
    };
    // As a packet to a forwarded port looks: the user's host answers from its own address and port.
    let forwarded = Line {
        inside: SocketAddr::new(source.inside.ip(), 8080),
        own: SocketAddr::new(source.own.ip(), 80),
        outside: SocketAddr::new(source.outside.ip(), 51_000),
        far: SocketAddr::new(source.far.ip(), 51_000),
        ..source
    };
    let destination = Line {
        outside: SocketAddr::new(other(gateway, 1), 53),
        far: SocketAddr::new(source.outside.ip(), 5353),
        ..none
    };
    vec![
        ("nothing", none),
        ("the source", source),
        (
            "the source's address",
            Line {
                own: SocketAddr::new(source.own.ip(), source.inside.port()),
                ..source
            },
        ),
        (
            "the source's port",
            Line {
                own: SocketAddr::new(source.inside.ip(), 1),
                ..source
            },
        ),
        ("a forwarded port", forwarded),
        ("the destination", destination),
        (
            "both",
            Line {
                own: source.own,
                ..destination
            },
        ),
    ]
}

fn translations(gateway: &mut Gateway<'_>) -> Outcome {
    for protocol in PROTOCOLS {
        for (what, line) in lines(gateway, protocol) {
            gateway.offload(&line)?;
            for way in WAYS {
                for _ in 0..2 {
                    gateway.assert_sent(what, &line, way, &line.packet(way, 100))?;
                }
            }
        }
    }
    Ok(())
}

fn lengths(gateway: &mut Gateway<'_>) -> Outcome {
    for protocol in PROTOCOLS {
        let line = Line::new(gateway, protocol);
        gateway.offload(&line)?;
        let longest = usize::try_from(MTU)? - line.packet(Way::Out, 0).bytes().len();
        for length in (0..70).chain([511, 512, 513, longest - 1, longest]) {
            for way in WAYS {
                let packet = line.packet(way, length);
                gateway.assert_sent(&format!("{length} bytes"), &line, way, &packet)?;
            }
        }
    }
    Ok(())
}

/// A datagram of a flow by UDP whose sender has left the checksum out.
fn without_checksum(line: &Line, way: Way) -> Packet {
    let mut packet = line.packet(way, 33);
    packet.message.bytes.splice(6..8, [0, 0]);
    packet
}

fn unsummed(gateway: &mut Gateway<'_>) -> Outcome {
    let line = Line::new(gateway, UDP);
    gateway.offload(&line)?;
    for way in WAYS {
        gateway.assert_sent("no checksum", &line, way, &without_checksum(&line, way))?;
    }
    Ok(())
}

/// Cards that sum up all bytes of a packet tell the sum to the kernel, which looks at it where the packet
/// ends, or says that the hardware is broken.
fn summed(gateway: &mut Gateway<'_>) -> Outcome {
    for protocol in PROTOCOLS {
        for (what, line) in lines(gateway, protocol) {
            gateway.offload(&line)?;
            for way in WAYS {
                let mut packets: Vec<Packet> = [0, 1, 2, 100, 777]
                    .map(|length| line.packet(way, length))
                    .into();
                if protocol == UDP {
                    packets.push(without_checksum(&line, way));
                }
                for packet in packets {
                    gateway.assert_sent_summed(what, &line, way, &packet)?;
                }
            }
        }
    }
    Ok(())
}

/// Payloads are chosen so that the checksum comes out as 0 before the translation, and after it.
fn zeros(gateway: &mut Gateway<'_>) -> Outcome {
    for protocol in PROTOCOLS {
        let line = Line::new(gateway, protocol);
        gateway.offload(&line)?;
        let at = if protocol == TCP { 16 } else { 6 };
        let sum = |packet: &Packet| {
            let field = packet.message.bytes.get(at..at + 2);
            field.and_then(|bytes| bytes.try_into().ok().map(u16::from_be_bytes))
        };
        for way in WAYS {
            let mut found = (0, 0);
            for word in 0..=u16::MAX {
                let packet = line.carrying(way, &word.to_be_bytes());
                let sent = line.translated(way, &packet);
                let zero = if protocol == UDP { 0xffff } else { 0 };
                let (before, after) = (sum(&packet) == Some(zero), sum(&sent) == Some(zero));
                if before || after {
                    found = (found.0 + u8::from(before), found.1 + u8::from(after));
                    gateway.assert_sent("a checksum of 0", &line, way, &packet)?;
                }
            }
            assert_eq!(found, (1, 1), "one payload of two bytes each");
        }
    }
    Ok(())
}

fn padded(gateway: &mut Gateway<'_>) -> Outcome {
    for protocol in PROTOCOLS {
        let line = Line::new(gateway, protocol);
        gateway.offload(&line)?;
        for (way, padding) in WAYS
            .into_iter()
            .flat_map(|way| [1, 6, 17].map(|n| (way, n)))
        {
            let packet = line.packet(way, 1);
            let pad = |mut frame: Vec<u8>| {
                frame.resize(frame.len() + padding, 0xee);
                frame
            };
            let frame = pad(gateway.arriving(way, &packet)?);
            let run = gateway.meet(way, &frame, gateway.context(way)?)?;
            assert_eq!(run.returned, SENT);
            let expected = gateway.leaving(way, &line.translated(way, &packet))?;
            assert_eq!(run.frame, pad(expected), "{way:?}, {padding} bytes");
        }
    }
    Ok(())
}

fn other_fields(gateway: &mut Gateway<'_>) -> Outcome {
    for protocol in PROTOCOLS {
        let line = Line::new(gateway, protocol);
        gateway.offload(&line)?;
        for way in WAYS {
            let packet = line.packet(way, 10);
            for (class, hops, label, whole) in [
                (0, 2, 0, false),
                (0xff, 255, 0xffff, true),
                (0xb8, 64, 1, false),
                (3, 128, 0x8000, true),
            ] {
                let odd = Packet {
                    traffic_class: class,
                    hops,
                    label,
                    whole,
                    ..packet.clone()
                };
                gateway.assert_sent("other fields", &line, way, &odd)?;
                gateway.reserved_bit(&line, way, &odd)?;
            }
        }
    }
    Ok(())
}

/// Whether the kernel is sure to have test runs with packets that hardware has summed up: older ones have
/// them only where the change was taken over.
fn must_know_sums() -> Result<bool, Failure> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(version)), Some(Ok(minor))) => Ok((version, minor) >= (6, 11)),
        _ => Err(format!("no release of a kernel: {release}").into()),
    }
}

impl Gateway<'_> {
    /// As without a sum; and the sum is that of what leaves.
    fn assert_sent_summed(&self, what: &str, line: &Line, way: Way, packet: &Packet) -> Outcome {
        let frame = self.arriving(way, packet)?;
        let run = self
            .programs
            .run_summed(program(way), &frame, self.context(way)?)?;
        let Some((returned, found)) = run else {
            assert!(!must_know_sums()?, "the kernel takes no summed packet");
            return self.assert_sent(what, line, way, packet);
        };
        let expected = self.leaving(way, &line.translated(way, packet))?;
        assert_eq!((returned, found), (SENT, expected), "{what}, {way:?}");
        Ok(())
    }

    /// The bit of IPv4 beside "don't fragment" that means nothing (RFC 791, section 3.1) stays as it is.
    fn reserved_bit(&self, line: &Line, way: Way, packet: &Packet) -> Outcome {
        if self.family == Family::Ipv6 {
            return Ok(());
        }
        // The checksum of the header, behind, is less by as much as the word is more.
        let with_bit = |mut frame: Vec<u8>| {
            let word = |frame: &[u8], at: usize| {
                let bytes = frame.get(at..at + 2).and_then(|word| word.try_into().ok());
                bytes.map(u16::from_be_bytes).unwrap_or_default()
            };
            let (bits, sum) = (word(&frame, ETHERNET + 6), word(&frame, ETHERNET + 10));
            let (less, borrow) = sum.overflowing_sub(0x8000);
            let sum = less - u16::from(borrow);
            frame.splice(ETHERNET + 6..ETHERNET + 8, (bits | 0x8000).to_be_bytes());
            frame.splice(ETHERNET + 10..ETHERNET + 12, sum.to_be_bytes());
            frame
        };
        let frame = with_bit(self.arriving(way, packet)?);
        let run = self.meet(way, &frame, self.context(way)?)?;
        let expected = with_bit(self.leaving(way, &line.translated(way, packet))?);
        assert_eq!((run.returned, run.frame), (SENT, expected), "{way:?}");
        Ok(())
    }
}

/// An offloaded packet is longer than the next hop takes, and each of its segments is not.
fn segments(gateway: &mut Gateway<'_>) -> Outcome {
    for protocol in PROTOCOLS {
        let line = Line::new(gateway, protocol);
        gateway.offload(&line)?;
        let most = MTU - u32::try_from(line.packet(Way::Out, 0).bytes().len())?;
        for way in WAYS {
            let packet = line.packet(way, 3000);
            let frame = gateway.arriving(way, &packet)?;
            let expected = gateway.leaving(way, &line.translated(way, &packet))?;
            for (gso_size, fits) in [(1000, true), (most, true), (most + 1, false)] {
                let context = Context {
                    gso_segs: 3,
                    gso_size,
                    ..gateway.context(way)?
                };
                if fits {
                    let run = gateway.meet(way, &frame, context)?;
                    assert_eq!((run.returned, &run.frame), (SENT, &expected));
                } else {
                    gateway.assert_returned("long segments", way, &frame, context)?;
                }
            }
        }
    }
    Ok(())
}
