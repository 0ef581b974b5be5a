//! What keeps all packets of a flow from the fast path, for a while or for good.

use failover_common::fastpath::TRIES;
use failover_common::lifetime::protocol::{SCTP, TCP, UDP, UDPLITE};
use failover_common::{Direction, Family, KeyWords, Lease, NextHop, Pair, Role, Side, Totals};
use failover_tests::programs::Context;

use super::{BACK_HOP, ID, LEASE, Line, OUT_HOP, UPLINK, WAYS, Way, next_hop};
use crate::frames::{FROM, Message, Packet};
use crate::gateway::{Gateway, Mark, Outcome, both};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both("a_flow_that_is_not_offloaded_takes_the_stacks_way", unknown),
        both("a_closed_next_hop_is_the_stacks", closed),
        both("a_changed_next_hop_is_sent_to", changed),
        both("an_interface_that_takes_less_is_obeyed", narrow),
        both("what_comes_in_elsewhere_is_the_stacks", elsewhere),
        both("a_pair_of_another_generation_is_the_stacks", generations),
        both(
            "a_forgotten_uplink_takes_its_flows_off_the_fast_path",
            forgotten,
        ),
        both("a_direction_that_was_given_up_is_not_believed", given_up),
        both("a_direction_of_another_key_is_not_believed", anothers),
        both("a_direction_is_found_where_others_were_first", displaced),
        both("without_a_lease_all_is_the_stacks", lease),
        both("what_is_for_another_host_is_left_alone", other_hosts),
        both(
            "other_protocols_of_the_same_hosts_are_not_of_it",
            other_protocols,
        ),
        both(
            "what_the_interface_is_does_not_matter_to_the_fast_path",
            any_role,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A flow on the fast path.
fn offloaded(gateway: &mut Gateway<'_>, protocol: u8) -> Result<Line, crate::gateway::Failure> {
    let line = Line::new(gateway, protocol);
    gateway.offload(&line)?;
    Ok(line)
}

fn direction(pair: &mut Pair, way: Way) -> &mut Direction {
    match way {
        Way::Out => &mut pair.out,
        Way::Back => &mut pair.back,
    }
}

fn assert_both_sent(gateway: &Gateway<'_>, what: &str, line: &Line) -> Outcome {
    for way in WAYS {
        gateway.assert_sent(what, line, way, &line.packet(way, 100))?;
    }
    Ok(())
}

fn unknown(gateway: &mut Gateway<'_>) -> Outcome {
    let line = Line::new(gateway, UDP);
    gateway.establish(&line)?;
    gateway.programs.set_lease(&LEASE)?;
    let before = gateway.programs.totals()?;
    for way in WAYS {
        gateway.assert_packet_passed("not offloaded", &line, way, Mark::Sure(UPLINK))?;
    }
    gateway.assert_totals(before)
}

fn closed(gateway: &mut Gateway<'_>) -> Outcome {
    let line = offloaded(gateway, TCP)?;
    for (way, index) in [(Way::Out, OUT_HOP), (Way::Back, BACK_HOP)] {
        let shut = NextHop {
            interface: 0,
            ..next_hop(gateway.family, 0, FROM, FROM)
        };
        gateway.programs.set_next_hop(index, &shut)?;
        for checked in WAYS {
            if checked == way {
                gateway.assert_packet_returned("closed", &line, checked)?;
            } else {
                gateway.assert_sent("open", &line, checked, &line.packet(checked, 1))?;
            }
        }
        gateway.open_hops()?;
        assert_both_sent(gateway, "opened again", &line)?;
    }
    // There is none at such an index.
    let mut pair = gateway.pair_of(&line)?;
    for way in WAYS {
        direction(&mut pair, way).next_hop = u32::MAX;
    }
    gateway.programs.set_pair(&pair)?;
    for way in WAYS {
        gateway.assert_packet_returned("no such next hop", &line, way)?;
    }
    Ok(())
}

fn changed(gateway: &mut Gateway<'_>) -> Outcome {
    let line = offloaded(gateway, UDP)?;
    let mac = [0xfe, 1, 2, 3, 4, 5];
    let hop = next_hop(gateway.family, gateway.wan(2)?, mac, FROM);
    gateway.programs.set_next_hop(OUT_HOP, &hop)?;
    let packet = line.packet(Way::Out, 100);
    let frame = gateway.arriving(Way::Out, &packet)?;
    let run = gateway.meet(Way::Out, &frame, gateway.context(Way::Out)?)?;
    assert_eq!(run.returned, super::SENT);
    let expected = super::leaving(mac, FROM, &line.translated(Way::Out, &packet));
    assert_eq!(run.frame, expected);
    Ok(())
}

fn narrow(gateway: &mut Gateway<'_>) -> Outcome {
    let line = offloaded(gateway, UDP)?;
    let packet = line.packet(Way::Out, 100);
    let length = u32::try_from(packet.bytes().len())?;
    let frame = gateway.arriving(Way::Out, &packet)?;
    for (mtu, fits) in [(length, true), (length - 1, false)] {
        let hop = NextHop {
            mtu,
            ..next_hop(
                gateway.family,
                gateway.wan(UPLINK)?,
                super::ROUTER,
                gateway.wan_mac(UPLINK)?,
            )
        };
        gateway.programs.set_next_hop(OUT_HOP, &hop)?;
        if fits {
            gateway.assert_sent("it fits", &line, Way::Out, &packet)?;
        } else {
            let context = gateway.context(Way::Out)?;
            gateway.assert_returned("it does not fit", Way::Out, &frame, context)?;
        }
    }
    Ok(())
}

/// The same packets by another interface.
fn elsewhere(gateway: &mut Gateway<'_>) -> Outcome {
    let line = offloaded(gateway, TCP)?;
    let (other, mac) = (gateway.wan(2)?, gateway.wan_mac(2)?);
    for way in WAYS {
        let frame = line.packet(way, 100).frame(mac);
        let context = Context {
            ifindex: other,
            ..Context::default()
        };
        gateway.assert_returned("by another interface", way, &frame, context)?;
        gateway.assert_sent("by its own", &line, way, &line.packet(way, 100))?;
    }
    Ok(())
}

/// It was written for another generation of the uplink than the flow and the uplink have.
fn generations(gateway: &mut Gateway<'_>) -> Outcome {
    let line = offloaded(gateway, TCP)?;
    for way in WAYS {
        let mut pair = gateway.pair_of(&line)?;
        direction(&mut pair, way).generation += 1;
        gateway.programs.set_pair(&pair)?;
        gateway.assert_packet_returned("another generation", &line, way)?;
    }
    Ok(())
}

fn forgotten(gateway: &mut Gateway<'_>) -> Outcome {
    let line = offloaded(gateway, TCP)?;
    let family = gateway.family;
    gateway.raise_generation(UPLINK)?;
    gateway
        .programs
        .select(family, failover_common::Affinity::Flow, &[2])?;
    gateway.assert_packet_returned("its uplink's flows were forgotten", &line, Way::Back)?;
    let before = gateway.programs.totals()?;
    gateway.assert_packet_passed("picked anew", &line, Way::Out, Mark::Ask(2))?;
    gateway.assert_totals(Totals {
        renewed: before.renewed + 1,
        returned: before.returned + 1,
        ..before
    })?;
    let flow = gateway.flow(&line.key())?;
    assert_eq!(flow.uplink, 2);
    // The uplink is not there any more.
    gateway.programs.remove_uplink(UPLINK)?;
    gateway.assert_packet_returned("of no uplink", &line, Way::Back)
}

fn given_up(gateway: &mut Gateway<'_>) -> Outcome {
    let line = offloaded(gateway, TCP)?;
    let mut pair = gateway.pair_of(&line)?;
    pair.out.id = 0;
    pair.back.id = 0;
    not_believed(gateway, &line, &pair)
}

/// What is found where the key leads to is of another flow, as when the daemon has just given the place
/// to that.
fn anothers(gateway: &mut Gateway<'_>) -> Outcome {
    let line = offloaded(gateway, UDP)?;
    let (users, provider, _) = line.offloaded();
    for key in [users, provider] {
        let (place, way) = gateway.programs.direction(&key)?;
        for changed in 0..way.key.len() {
            let mut other = way;
            for (index, word) in other.key.iter_mut().enumerate() {
                *word ^= u64::from(index == changed) << (7 * index);
            }
            gateway.programs.set_way(place, &other)?;
            let before = gateway.programs.totals()?;
            let side = match key.side {
                Side::Users => Way::Out,
                Side::Provider => Way::Back,
            };
            gateway.assert_packet_passed("another key", &line, side, Mark::Sure(UPLINK))?;
            gateway.assert_totals(before)?;
        }
        gateway.programs.set_way(place, &way)?;
    }
    assert_both_sent(gateway, "its own again", &line)
}

/// Where others are at the first place that its key leads to, it is found at any of the next ones.
fn displaced(gateway: &mut Gateway<'_>) -> Outcome {
    let line = offloaded(gateway, TCP)?;
    let (users, provider, _) = line.offloaded();
    for key in [users, provider] {
        let (first, way) = gateway.programs.direction(&key)?;
        let (home, other) = key.words().homes();
        for nth in 1..TRIES {
            let place = gateway.programs.place(KeyWords::place(home, other, nth));
            let stranger = Direction {
                id: ID,
                key: [7; 5],
                displaced: 1,
                ..Direction::default()
            };
            gateway.programs.set_way(first, &stranger)?;
            gateway.programs.set_way(place, &way)?;
            assert_both_sent(gateway, "displaced", &line)?;
            // Nobody is looked for elsewhere who is not said to be there.
            let alone = Direction {
                displaced: 0,
                ..stranger
            };
            gateway.programs.set_way(first, &alone)?;
            let side = match key.side {
                Side::Users => Way::Out,
                Side::Provider => Way::Back,
            };
            gateway.assert_packet_passed("not looked for", &line, side, Mark::Sure(UPLINK))?;
            gateway.programs.set_way(place, &Direction::default())?;
        }
        gateway.programs.set_way(first, &way)?;
    }
    assert_both_sent(gateway, "at home", &line)
}

fn not_believed(gateway: &mut Gateway<'_>, line: &Line, pair: &Pair) -> Outcome {
    gateway.programs.set_pair(pair)?;
    let (before, known) = (gateway.programs.totals()?, gateway.pair(line)?);
    for way in WAYS {
        gateway.assert_packet_passed("nobody's", line, way, Mark::Sure(UPLINK))?;
    }
    // It is no flow of the fast path any more.
    gateway.assert_totals(before)?;
    assert_eq!(gateway.pair(line)?, known, "and counts nothing");
    Ok(())
}

/// The daemon has not renewed it, or no flow is on the fast path.
fn lease(gateway: &mut Gateway<'_>) -> Outcome {
    let line = offloaded(gateway, TCP)?;
    let now_ns = gateway.now_ns()?;
    for packets_until_ns in [0, 1, now_ns] {
        gateway.programs.set_lease(&Lease {
            packets_until_ns,
            ..LEASE
        })?;
        let before = gateway.programs.totals()?;
        for way in WAYS {
            gateway.assert_packet_passed("no lease", &line, way, Mark::Sure(UPLINK))?;
        }
        gateway.assert_totals(before)?;
    }
    gateway.programs.set_lease(&Lease {
        packets_until_ns: now_ns + 3_600_000_000_000,
        ..LEASE
    })?;
    assert_both_sent(gateway, "the daemon is back", &line)
}

/// The kernel tells by the address whom a frame is for.
fn other_hosts(gateway: &mut Gateway<'_>) -> Outcome {
    let line = offloaded(gateway, TCP)?;
    let before = gateway.programs.totals()?;
    for (way, mac) in WAYS
        .into_iter()
        .flat_map(|way| [FROM, [0xff; 6], [1, 0, 0x5e, 0, 0, 1]].map(|mac| (way, mac)))
    {
        let frame = line.packet(way, 100).frame(mac);
        let context = gateway.context(way)?;
        gateway.assert_passed("for another host", way, &frame, context, Mark::None)?;
    }
    gateway.assert_totals(before)
}

/// Between the same hosts, and the same ports where there are any.
fn other_protocols(gateway: &mut Gateway<'_>) -> Outcome {
    let line = offloaded(gateway, UDP)?;
    gateway
        .programs
        .select(gateway.family, failover_common::Affinity::Flow, &[UPLINK])?;
    let before = gateway.programs.totals()?.returned;
    for way in WAYS {
        let (from, to) = line.before(way);
        let ported = [UDPLITE, SCTP].map(|other| Message::ported(other, from.port(), to.port()));
        let echo = match gateway.family {
            Family::Ipv4 => Message::icmp(Family::Ipv4, 8, 0, &[0; 8]),
            Family::Ipv6 => Message::icmp(Family::Ipv6, 128, 0, &[0; 8]),
        };
        for message in ported.into_iter().chain([echo]) {
            let what = format!("protocol {}", message.protocol);
            let packet = Packet {
                message,
                ..line.packet(way, 0)
            };
            let frame = gateway.arriving(way, &packet)?;
            let context = gateway.context(way)?;
            gateway.assert_passed(&what, way, &frame, context, Mark::Ask(UPLINK))?;
        }
    }
    assert_eq!(gateway.programs.totals()?.returned, before);
    assert_both_sent(gateway, "the flow itself", &line)
}

/// The flow says by which interface its packets come.
fn any_role(gateway: &mut Gateway<'_>) -> Outcome {
    let line = offloaded(gateway, TCP)?;
    let wan = gateway.wan(UPLINK)?;
    gateway.set_role(wan, Role::Downlink, 0)?;
    assert_both_sent(gateway, "a downlink's", &line)
}
