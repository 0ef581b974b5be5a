//! What is counted and noted of packets that take the fast path: the same as of those that do not.

use std::net::IpAddr;

use failover_common::fastpath::{SEEN_SHIFT, SETTLE_SHIFT};
use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::traffic::host_bit;
use failover_common::{Family, Flow, GatewayKey, Liveness, Role, UplinkCounters};
use failover_tests::programs::Context;

use super::{Line, Moved, PROTOCOLS, SENT, UPLINK, WAYS, Way};
use crate::frames::{ACK, FIN, FROM, Message, Packet};
use crate::gateway::{Failure, Gateway, Outcome, both, counted, length};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both("packets_of_the_fast_path_are_counted", counts),
        both("segments_of_the_fast_path_count_each", segments),
        both("flows_are_told_every_few_seconds_what_moved", times),
        both("answers_by_the_fast_path_are_heard", heard),
        both("questions_by_the_fast_path_are_noted", asked),
        both("what_the_stack_has_to_see_is_counted_once", returned_ones),
        both(
            "shared_and_one_armed_interfaces_have_the_fast_path_too",
            shared,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn counts(gateway: &mut Gateway<'_>) -> Outcome {
    for protocol in PROTOCOLS {
        let line = Line::new(gateway, protocol);
        gateway.offload(&line)?;
        let moved = gateway.moved(&line)?;
        let (totals, before) = (
            gateway.programs.totals()?,
            gateway.programs.counters(UPLINK)?,
        );
        let frames = WAYS.map(|way| line.packet(way, 100).frame([0; 6]).len());
        let [out, back] = frames;
        for (way, times) in [(Way::Out, 3), (Way::Back, 5)] {
            for _ in 0..times {
                gateway.assert_sent("counted", &line, way, &line.packet(way, 100))?;
            }
        }
        let expected = Moved {
            out: (moved.out.0 + 3, moved.out.1 + 3 * length(out)),
            back: (moved.back.0 + 5, moved.back.1 + 5 * length(back)),
        };
        assert_eq!(gateway.moved(&line)?, expected);
        let added = UplinkCounters {
            lan_in: counted(3, out),
            wan_in: counted(5, back),
            lan_out: counted(5, back),
            fast: 8,
            reserved: 0,
        };
        gateway.assert_counters(UPLINK, before.plus(added))?;
        gateway.assert_totals(totals)?;
    }
    Ok(())
}

fn segments(gateway: &mut Gateway<'_>) -> Outcome {
    let line = Line::new(gateway, TCP);
    gateway.offload(&line)?;
    let moved = gateway.moved(&line)?;
    let before = gateway.programs.counters(UPLINK)?;
    let mut bytes = 0;
    for way in WAYS {
        let frame = gateway.arriving(way, &line.packet(way, 2000))?;
        let context = Context {
            gso_segs: 4,
            gso_size: 500,
            ..gateway.context(way)?
        };
        assert_eq!(gateway.meet(way, &frame, context)?.returned, SENT);
        bytes = length(frame.len());
    }
    let counted = failover_common::Counters { packets: 4, bytes };
    let added = UplinkCounters {
        lan_in: counted,
        wan_in: counted,
        lan_out: counted,
        fast: 8,
        reserved: 0,
    };
    gateway.assert_counters(UPLINK, before.plus(added))?;
    let after = gateway.moved(&line)?;
    assert_eq!(after.out.0, moved.out.0 + 4);
    assert_eq!(after.back.0, moved.back.0 + 4);
    Ok(())
}

/// The time of a direction, in the units that it is noted in.
fn seen(gateway: &mut Gateway<'_>) -> Result<u32, Failure> {
    Ok(u32::try_from(gateway.now_ns()? >> SEEN_SHIFT)?)
}

fn times(gateway: &mut Gateway<'_>) -> Outcome {
    let line = Line::new(gateway, TCP);
    gateway.offload(&line)?;
    let key = line.key();
    for way in WAYS {
        // When nothing was told for so long, the flow is told; and otherwise not, as long as the time does
        // not go on to the next few seconds just now.
        for (ago, told) in [(8, true), (0, false)] {
            let (flow, now) = loop {
                let now = seen(gateway)?;
                let flow = Flow {
                    seen_ns: gateway.now_ns()? - 3_000_000_000,
                    ..gateway.establish(&line)?
                };
                gateway.programs.set_flow(&key, &flow)?;
                let mut pair = gateway.pair_of(&line)?;
                pair.out.seen = now - ago;
                pair.back.seen = now - ago;
                gateway.programs.set_pair(&pair)?;
                gateway.assert_sent("timed", &line, way, &line.packet(way, 9))?;
                if seen(gateway)? >> SETTLE_SHIFT == now >> SETTLE_SHIFT {
                    break (flow, now);
                }
            };
            let (after, pair) = (gateway.flow(&key)?, gateway.pair(&line)?);
            let (mine, other) = match way {
                Way::Out => (pair.out, pair.back),
                Way::Back => (pair.back, pair.out),
            };
            assert!(mine.seen >= now && mine.seen <= now + 1, "{way:?}");
            assert_eq!(other.seen, now - ago, "{way:?}: nothing moved");
            assert_eq!(mine.packets, u64::from(!told), "{way:?}");
            assert_eq!(after.seen_ns > flow.seen_ns, told, "{way:?}");
            let counted =
                (after.out_packets + after.in_packets) - (flow.out_packets + flow.in_packets);
            assert_eq!(counted, u64::from(told), "{way:?}");
            if told && way == Way::Out {
                assert_eq!((after.out_next, after.sequenced), (mine.next, true));
            }
        }
    }
    Ok(())
}

fn liveness(gateway: &Gateway<'_>) -> Result<Liveness, Failure> {
    let both = gateway.programs.liveness(UPLINK)?;
    Ok(match gateway.family {
        Family::Ipv4 => both.ipv4,
        Family::Ipv6 => both.ipv6,
    })
}

fn heard(gateway: &mut Gateway<'_>) -> Outcome {
    // Answers are those of whom users asked, whoever answers in their place.
    let mut line = Line::new(gateway, TCP);
    let resolver: IpAddr = match gateway.family {
        Family::Ipv4 => [203, 0, 113, 53].into(),
        Family::Ipv6 => [0xfd00, 0x203, 0, 0, 0, 0, 0, 0x53].into(),
    };
    line.far.set_ip(resolver);
    let mut other = line;
    other.outside.set_ip(resolver);
    assert_ne!(host_bit(other.key().outside), host_bit(line.key().outside));
    gateway.offload(&line)?;
    let now_ns = gateway.now_ns()?;
    assert_eq!(liveness(gateway)?, Liveness::default());
    gateway.assert_sent("an answer", &line, Way::Back, &line.packet(Way::Back, 0))?;
    let after = liveness(gateway)?;
    assert!(after.answered_ns >= now_ns, "{after:?}");
    assert_eq!(after.answering, host_bit(line.key().outside));
    Ok(())
}

fn asked(gateway: &mut Gateway<'_>) -> Outcome {
    for (protocol, data, questions) in [(TCP, 0, 0), (TCP, 1, 1), (UDP, 10, 2)] {
        let line = Line::new(gateway, protocol);
        gateway.offload(&line)?;
        gateway.assert_sent("asked", &line, Way::Out, &line.packet(Way::Out, data))?;
        let found = liveness(gateway)?;
        assert_eq!(found.questions, questions, "{data} bytes of {protocol}");
        if questions > 0 {
            assert_eq!(found.asked, host_bit(line.key().outside));
        }
    }
    Ok(())
}

/// What the stack has to see is counted once where it came in, and not as sent.
fn returned_ones(gateway: &mut Gateway<'_>) -> Outcome {
    let line = Line::new(gateway, TCP);
    gateway.offload(&line)?;
    let mut end = line.packet(Way::Back, 0);
    let (from, to) = line.before(Way::Back);
    end.message = Message::tcp(from.port(), to.port(), FIN | ACK);
    let end = end.sealed();
    let last = Packet {
        hops: 1,
        ..line.packet(Way::Back, 40)
    };
    for (count, packet) in [(1, &last), (2, &end)] {
        let frame = gateway.arriving(Way::Back, packet)?;
        gateway.assert_returned("back", Way::Back, &frame, gateway.context(Way::Back)?)?;
        let counters = gateway.programs.counters(UPLINK)?;
        let found = (
            counters.wan_in.packets,
            counters.lan_out.packets,
            counters.fast,
        );
        assert_eq!(found, (count, 0, 0));
    }
    // One arm: what comes from a gateway.
    gateway.offload(&line)?;
    let lan = gateway.wiring.lan;
    gateway.set_role(lan, Role::OneArm, 0)?;
    let key = GatewayKey {
        interface: lan,
        address: FROM,
        family: gateway.family,
        reserved: 0,
    };
    gateway.programs.set_gateway(&key, UPLINK)?;
    let mut pair = gateway.pair_of(&line)?;
    pair.back.ingress = lan;
    gateway.programs.set_pair(&pair)?;
    let before = gateway.programs.totals()?.returned;
    let frame = end.frame(gateway.wiring.lan_mac);
    let context = gateway.context(Way::Out)?;
    let run = gateway.programs.run("fo_arm_in", &frame, context, 1)?;
    assert_eq!((run.returned, &run.frame), (super::PASSED_ON, &frame));
    let counters = gateway.programs.counters(UPLINK)?;
    assert_eq!((counters.wan_in.packets, counters.fast), (3, 0), "one arm");
    assert_eq!(gateway.programs.totals()?.returned, before + 1);
    let pair = gateway.pair(&line)?;
    assert_eq!((pair.out.left, pair.back.left), (1, 1), "it ends the flow");
    Ok(())
}

/// Interfaces that do not tell whose a packet is; the pair tells.
fn shared(gateway: &mut Gateway<'_>) -> Outcome {
    let line = Line::new(gateway, UDP);
    gateway.offload(&line)?;
    let wan = gateway.wan(UPLINK)?;
    let family = gateway.family;
    let known = |gateway: &mut Gateway<'_>, interface| -> Outcome {
        let key = GatewayKey {
            interface,
            address: FROM,
            family,
            reserved: 0,
        };
        Ok(gateway.programs.set_gateway(&key, UPLINK)?)
    };
    gateway.set_role(wan, Role::SharedUplink, 0)?;
    for way in WAYS {
        gateway.assert_sent("shared, stranger", &line, way, &line.packet(way, 40))?;
    }
    // Whoever sent it: its flow is on no other uplink.
    assert_eq!(gateway.programs.counters(UPLINK)?.wan_in.packets, 1);
    known(gateway, wan)?;
    for way in WAYS {
        gateway.assert_sent("shared", &line, way, &line.packet(way, 40))?;
    }
    assert_eq!(gateway.programs.counters(UPLINK)?.wan_in.packets, 2);
    // One arm: both ways by one interface, and the gateway's address tells which.
    let lan = gateway.wiring.lan;
    gateway.set_role(lan, Role::OneArm, 0)?;
    let mut pair = gateway.pair_of(&line)?;
    pair.back.ingress = lan;
    gateway.programs.set_pair(&pair)?;
    for way in WAYS {
        if way == Way::Back {
            known(gateway, lan)?;
        }
        let packet = line.packet(way, 40);
        let frame = packet.frame(gateway.wiring.lan_mac);
        let context = gateway.context(Way::Out)?;
        let run = gateway.programs.run("fo_arm_in", &frame, context, 1)?;
        assert_eq!(run.returned, SENT, "one arm, {way:?}");
        let expected = gateway.leaving(way, &line.translated(way, &packet))?;
        assert_eq!(run.frame, expected, "one arm, {way:?}");
    }
    assert_eq!(gateway.programs.counters(UPLINK)?.wan_in.packets, 3);
    Ok(())
}
