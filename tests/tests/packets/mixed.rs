//! Interfaces that do not tell whose a packet is: several uplinks share them, or users are behind them
//! too. Hardware addresses of gateways tell it, and at a downlink the mark, which the own nftables
//! table takes from the connection.

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{
    Affinity, GatewayKey, Phase, Reason, Role, Totals, UplinkCounters, UplinkState,
};
use failover_tests::programs::Context;

use crate::frames::{ACK, FROM, Message, Packet, RST, SYN};
use crate::gateway::{Failure, Gateway, Mark, Outcome, both, counted, mark};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        both("a_shared_interface_is_told_by_the_mark", told),
        both("what_a_mark_tells_corrects_without_translation", corrects),
        both(
            "without_a_mark_a_shared_interface_teaches_nothing",
            unmarked,
        ),
        both("a_mark_teaches_nothing_of_an_uplink_that_is_down", down),
        both(
            "packets_of_a_shared_interface_are_counted_by_gateway",
            counting,
        ),
        both(
            "on_one_arm_what_is_from_no_gateway_is_from_users",
            from_users,
        ),
        both(
            "on_one_arm_what_is_from_a_gateway_is_from_a_provider",
            from_gateways,
        ),
        both(
            "on_one_arm_what_goes_to_a_gateway_teaches_nothing",
            to_gateways,
        ),
        both("on_one_arm_neighbours_are_left_alone", neighbours),
        both(
            "on_one_arm_a_users_answer_to_an_answer_establishes",
            one_sided,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

const CLIENT: u16 = 40_000;
const SERVER: u16 = 53;

/// The address of nobody's gateway.
const STRANGER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x77];

/// Makes an uplink's interface one of several uplinks; returns its index.
fn share(gateway: &mut Gateway<'_>) -> Result<u32, Failure> {
    let shared = gateway.wan(1)?;
    gateway.set_role(shared, Role::SharedUplink, 0)?;
    Ok(shared)
}

/// Makes `lan0` and the interface by which the kernel sends what has no better route one arm.
fn arm(gateway: &mut Gateway<'_>) -> Outcome {
    let (lan, wan) = (gateway.wiring.lan, gateway.wan(1)?);
    for index in [lan, wan] {
        gateway.set_role(index, Role::OneArm, 0)?;
    }
    Ok(())
}

/// An address is that of an uplink's gateway behind `lan0`.
fn know(gateway: &mut Gateway<'_>, address: [u8; 6], uplink: u8) -> Outcome {
    let key = GatewayKey {
        interface: gateway.wiring.lan,
        address,
        family: gateway.family,
        reserved: 0,
    };
    Ok(gateway.programs.set_gateway(&key, uplink)?)
}

/// A packet that comes in by one arm, from the address of all packets.
fn arm_in(gateway: &Gateway<'_>, packet: &Packet) -> Result<Mark, Failure> {
    let context = Context {
        ifindex: gateway.wiring.lan,
        ..Context::default()
    };
    let frame = packet.frame(gateway.wiring.lan_mac);
    mark(gateway.through("fo_arm_in", &frame, context)?)
}

/// A packet that came in by one arm and leaves by it, to an address, marked with an uplink.
fn arm_out(gateway: &Gateway<'_>, packet: &Packet, to: [u8; 6], uplink: u8) -> Outcome {
    let context = Context {
        ifindex: gateway.wiring.lan,
        ingress_ifindex: gateway.wiring.lan,
        mark: u32::from(uplink) << 24,
        ..Context::default()
    };
    gateway.through("fo_arm_out", &packet.frame(to), context)?;
    Ok(())
}

fn question(gateway: &Gateway<'_>) -> Packet {
    gateway.ends().out(Message::udp(CLIENT, SERVER))
}

fn answer(gateway: &Gateway<'_>) -> Packet {
    gateway.ends().back(Message::udp(SERVER, CLIENT))
}

fn told(gateway: &mut Gateway<'_>) -> Outcome {
    let shared = share(gateway)?;
    let key = gateway.ends().key(UDP, CLIENT, SERVER);
    for (marked, reason) in [
        (Mark::Ask(2), Reason::Inbound),
        (Mark::Sure(2), Reason::Restored),
    ] {
        gateway.lan_out_from(&answer(gateway), shared, marked)?;
        let flow = gateway.flow(&key)?;
        assert_eq!(
            (flow.uplink, flow.reason, flow.confirmed),
            (2, reason, true),
            "{marked:?}"
        );
        assert_eq!(gateway.lan_in(&question(gateway))?, Mark::Sure(2));
        gateway.programs.remove_flow(&key)?;
    }
    let lan_out = counted(2, answer(gateway).frame([0; 6]).len());
    let lan_in = counted(2, question(gateway).frame([0; 6]).len());
    gateway.assert_counters(
        2,
        UplinkCounters {
            lan_in,
            lan_out,
            ..UplinkCounters::default()
        },
    )
}

fn corrects(gateway: &mut Gateway<'_>) -> Outcome {
    let shared = share(gateway)?;
    for id in [1, 2] {
        gateway.without_translation(id)?;
    }
    let family = gateway.family;
    gateway.programs.select(family, Affinity::Flow, &[1])?;
    assert_eq!(gateway.lan_in(&question(gateway))?, Mark::Ask(1));
    gateway.lan_out_from(&answer(gateway), shared, Mark::Sure(2))?;
    assert_eq!(gateway.lan_in(&question(gateway))?, Mark::Sure(2));
    let flow = gateway.flow(&gateway.ends().key(UDP, CLIENT, SERVER))?;
    assert_eq!(flow.reason, Reason::Restored);
    gateway.assert_totals(Totals {
        entered: 1,
        corrected: 1,
        ..Totals::default()
    })
}

fn unmarked(gateway: &mut Gateway<'_>) -> Outcome {
    let shared = share(gateway)?;
    gateway.lan_out_from(&answer(gateway), shared, Mark::None)?;
    gateway.assert_flows(&[])?;
    let chosen = gateway.chosen(&gateway.ends().key(UDP, CLIENT, SERVER))?;
    for _ in 0..2 {
        assert_eq!(gateway.lan_in(&question(gateway))?, Mark::Ask(chosen));
        gateway.lan_out_from(&answer(gateway), shared, Mark::None)?;
    }
    Ok(())
}

fn down(gateway: &mut Gateway<'_>) -> Outcome {
    let shared = share(gateway)?;
    gateway.set_state(2, UplinkState::Down)?;
    for marked in [Mark::Ask(2), Mark::Sure(2)] {
        gateway.lan_out_from(&answer(gateway), shared, marked)?;
    }
    gateway.assert_flows(&[])
}

fn counting(gateway: &mut Gateway<'_>) -> Outcome {
    let shared = share(gateway)?;
    let key = |interface, address| GatewayKey {
        interface,
        address,
        family: gateway.family,
        reserved: 0,
    };
    let (own, others) = (key(shared, FROM), key(shared + 1, FROM));
    gateway.programs.set_gateway(&others, 3)?;
    gateway.wan_in(&answer(gateway), 1)?;
    gateway.programs.set_gateway(&own, 0)?;
    gateway.wan_in(&answer(gateway), 1)?;
    gateway.programs.set_gateway(&own, 2)?;
    gateway.wan_in(&answer(gateway), 1)?;
    let wan_in = counted(1, answer(gateway).frame([0; 6]).len());
    for (uplink, wan_in) in [
        (0, counted(0, 0)),
        (1, counted(0, 0)),
        (2, wan_in),
        (3, counted(0, 0)),
    ] {
        let expected = UplinkCounters {
            wan_in,
            ..UplinkCounters::default()
        };
        gateway.assert_counters(uplink, expected)?;
    }
    Ok(())
}

fn from_users(gateway: &mut Gateway<'_>) -> Outcome {
    arm(gateway)?;
    know(gateway, STRANGER, 1)?;
    let key = gateway.ends().key(UDP, CLIENT, SERVER);
    let chosen = gateway.chosen(&key)?;
    assert_eq!(arm_in(gateway, &question(gateway))?, Mark::Ask(chosen));
    gateway.assert_flows(&[key])?;
    arm_out(gateway, &answer(gateway), FROM, chosen)?;
    assert_eq!(arm_in(gateway, &question(gateway))?, Mark::Sure(chosen));
    assert_eq!(gateway.flow(&key)?.phase, Phase::Established);
    Ok(())
}

fn from_gateways(gateway: &mut Gateway<'_>) -> Outcome {
    arm(gateway)?;
    let frame = question(gateway).frame([0; 6]).len();
    for (uplink, counts) in [(2, 1), (0, 0)] {
        know(gateway, FROM, uplink)?;
        assert_eq!(arm_in(gateway, &question(gateway))?, Mark::None);
        let expected = UplinkCounters {
            wan_in: counted(counts, frame),
            ..UplinkCounters::default()
        };
        gateway.assert_counters(uplink, expected)?;
    }
    gateway.assert_flows(&[])?;
    gateway.assert_totals(Totals::default())
}

fn to_gateways(gateway: &mut Gateway<'_>) -> Outcome {
    arm(gateway)?;
    know(gateway, STRANGER, 1)?;
    arm_out(gateway, &question(gateway), STRANGER, 1)?;
    gateway.assert_flows(&[])?;
    gateway.assert_counters(1, UplinkCounters::default())
}

/// What the kernel sends to a host on the link itself leaves by no uplink.
fn neighbours(gateway: &mut Gateway<'_>) -> Outcome {
    arm(gateway)?;
    let neighbour = match gateway.family {
        failover_common::Family::Ipv4 => [198, 18, 11, 77].into(),
        failover_common::Family::Ipv6 => [0xfd00, 0x18, 0x11, 0, 0, 0, 0, 0x77].into(),
    };
    let packet = Packet::new(
        gateway.ends().inside,
        neighbour,
        Message::udp(CLIENT, SERVER),
    );
    assert_eq!(arm_in(gateway, &packet)?, Mark::None);
    gateway.assert_flows(&[])?;
    gateway.assert_totals(Totals {
        elsewhere: 1,
        ..Totals::default()
    })
}

/// Answers go past the gateway: what a user sends tells that there was one.
fn one_sided(gateway: &mut Gateway<'_>) -> Outcome {
    arm(gateway)?;
    let key = gateway.ends().key(TCP, CLIENT, SERVER);
    let send = |gateway: &Gateway<'_>, flags| {
        let packet = gateway.ends().out(Message::tcp(CLIENT, SERVER, flags));
        arm_in(gateway, &packet)
    };
    let chosen = gateway.chosen(&key)?;
    for (flags, phase) in [
        (SYN, Phase::Opening),
        (SYN, Phase::Opening),
        (ACK, Phase::Established),
        (RST | ACK, Phase::Closing),
    ] {
        assert_eq!(send(gateway, flags)?, Mark::Ask(chosen));
        assert_eq!(gateway.flow(&key)?.phase, phase, "after flags {flags:#x}");
    }
    // Where users are not behind the same interface only answers tell.
    gateway.programs.remove_flow(&key)?;
    for flags in [SYN, ACK] {
        let packet = gateway.ends().out(Message::tcp(CLIENT, SERVER, flags));
        gateway.lan_in(&packet)?;
        assert_eq!(gateway.flow(&key)?.phase, Phase::Opening);
    }
    Ok(())
}
