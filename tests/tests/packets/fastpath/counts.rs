//! What is counted and noted of packets that take the fast path: the same as of those that do not.

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::traffic::host_bit;
use failover_common::{
    Family, Flow, GatewayKey, Liveness, Moved, Pair, Role, Totals, UplinkCounters,
};
use failover_tests::programs::Context;

use super::{Line, PROTOCOLS, SENT, SLOT, UPLINK, WAYS, Way};
use crate::frames::FROM;
use crate::gateway::{Failure, Gateway, Outcome, both, counted, length};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both("packets_of_the_fast_path_are_counted", counts),
        both("segments_of_the_fast_path_count_each", segments),
        both("the_fast_path_notes_times_once_a_second", times),
        both("answers_by_the_fast_path_are_heard", heard),
        both("questions_by_the_fast_path_are_noted", asked),
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
        let flow = gateway.flow(&line.key())?;
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
        let after = gateway.flow(&line.key())?;
        let expected = Flow {
            out_packets: flow.out_packets + 3,
            out_bytes: flow.out_bytes + 3 * length(out),
            // What was sent last, where the protocol numbers it.
            out_next: after.out_next,
            sequenced: after.sequenced,
            ..flow
        };
        assert_eq!(after, expected);
        let moved = gateway.programs.pair(SLOT)?.moved;
        assert_eq!(
            (moved.back_packets, moved.back_bytes),
            (5, 5 * length(back))
        );
        let added = UplinkCounters {
            lan_in: counted(3, out),
            wan_in: counted(5, back),
            lan_out: counted(5, back),
        };
        gateway.assert_counters(UPLINK, before.plus(added))?;
        gateway.assert_totals(Totals {
            fast: totals.fast + 8,
            ..totals
        })?;
    }
    Ok(())
}

fn segments(gateway: &mut Gateway<'_>) -> Outcome {
    let line = Line::new(gateway, TCP);
    gateway.offload(&line)?;
    let flow = gateway.flow(&line.key())?;
    let before = gateway.programs.counters(UPLINK)?;
    let fast = gateway.programs.totals()?.fast;
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
    };
    gateway.assert_counters(UPLINK, before.plus(added))?;
    assert_eq!(gateway.programs.totals()?.fast, fast + 8);
    let after = gateway.flow(&line.key())?;
    assert_eq!(after.out_packets, flow.out_packets + 4);
    assert_eq!(gateway.programs.pair(SLOT)?.moved.back_packets, 4);
    Ok(())
}

fn times(gateway: &mut Gateway<'_>) -> Outcome {
    let line = Line::new(gateway, UDP);
    gateway.offload(&line)?;
    let (key, now_ns) = (line.key(), gateway.now_ns()?);
    let flow = gateway.flow(&key)?;
    let seen_before = |gateway: &mut Gateway<'_>, ago_ms: u64| -> Result<u64, Failure> {
        let seen_ns = now_ns - ago_ms * 1_000_000;
        gateway.programs.set_flow(&key, &Flow { seen_ns, ..flow })?;
        let pair = Pair {
            moved: Moved {
                out_seen_ns: seen_ns,
                back_seen_ns: seen_ns,
                ..Moved::default()
            },
            ..gateway.pair_of(&line)?
        };
        gateway.programs.set_pair(SLOT, &pair)?;
        Ok(seen_ns)
    };
    let found = |gateway: &Gateway<'_>| -> Result<[u64; 3], Failure> {
        let moved = gateway.programs.pair(SLOT)?.moved;
        let seen_ns = gateway.flow(&key)?.seen_ns;
        Ok([seen_ns, moved.out_seen_ns, moved.back_seen_ns])
    };
    // Half a second is time for everything here.
    let seen = seen_before(gateway, 500)?;
    for way in WAYS {
        gateway.assert_sent("half a second later", &line, way, &line.packet(way, 9))?;
    }
    assert_eq!(found(gateway)?, [seen; 3]);
    let seen = seen_before(gateway, 1000)?;
    gateway.assert_sent("later", &line, Way::Out, &line.packet(Way::Out, 9))?;
    let [flow_seen, out_seen, back_seen] = found(gateway)?;
    assert!(
        flow_seen >= now_ns && out_seen == flow_seen,
        "{flow_seen} {out_seen}"
    );
    assert_eq!(back_seen, seen, "nothing came back");
    let seen = seen_before(gateway, 1000)?;
    gateway.assert_sent("later", &line, Way::Back, &line.packet(Way::Back, 9))?;
    let [flow_seen, out_seen, back_seen] = found(gateway)?;
    assert!(back_seen >= now_ns, "{back_seen}");
    assert_eq!([flow_seen, out_seen], [seen; 2], "nothing went out");
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
    let line = Line::new(gateway, TCP);
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
    assert_eq!(gateway.programs.counters(UPLINK)?.wan_in.packets, 0);
    known(gateway, wan)?;
    for way in WAYS {
        gateway.assert_sent("shared", &line, way, &line.packet(way, 40))?;
    }
    assert_eq!(gateway.programs.counters(UPLINK)?.wan_in.packets, 1);
    // One arm: both ways by one interface, and the gateway's address tells which.
    let lan = gateway.wiring.lan;
    gateway.set_role(lan, Role::OneArm, 0)?;
    let mut pair = gateway.pair_of(&line)?;
    pair.back.ingress = lan;
    gateway.programs.set_pair(SLOT, &pair)?;
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
    Ok(())
}
