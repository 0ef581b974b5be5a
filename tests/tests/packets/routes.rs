//! What the kernel sends elsewhere than to an uplink is none of ours.

use std::error::Error;
use std::net::IpAddr;

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Family, Role, Totals};
use failover_tests::programs::{Settings, Stand};
use failover_tests::{LabError, ProgramSpec};

use crate::frames::{GRE, Message, Packet};
use crate::gateway::{BOTH, Failure, Gateway, Mark, Outcome, UPLINKS, both, named, play};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    let own_rules = BOTH.map(|family| {
        let name = named("the_users_routes_and_rules_are_obeyed", family);
        SystemTest::new(name, move || users_routes(family))
    });
    let simple = [
        both("what_is_for_the_gateway_or_the_lan_is_left_alone", local),
        both("what_leaves_by_no_known_interface_is_left_alone", unknown),
        both("what_leaves_by_a_shared_interface_is_steered", shared),
        both("a_known_flow_needs_no_route", known),
    ];
    simple.into_iter().flatten().chain(own_rules).collect()
}

/// An address whose last number is given.
fn host(family: Family, v4: [u8; 3], v6: u16, number: u8) -> IpAddr {
    match family {
        Family::Ipv4 => {
            let [a, b, c] = v4;
            [a, b, c, number].into()
        }
        Family::Ipv6 => {
            let number = u16::from(number / 10 * 0x10 + number % 10);
            match v6 {
                0 => [0xfd00, 0x18, 0, 0, 0, 0, 0, number].into(),
                third => [0xfd00, 0x18, third, 0, 0, 0, 0, number].into(),
            }
        }
    }
}

/// Packets that must pass unmarked, as ones that the kernel sends elsewhere.
fn elsewhere(gateway: &Gateway<'_>, packets: &[(&str, Packet)]) -> Outcome {
    let totals = gateway.programs.totals()?;
    for (what, packet) in packets {
        assert_eq!(gateway.lan_in(packet)?, Mark::None, "{what}");
    }
    gateway.assert_flows(&[])?;
    gateway.assert_totals(Totals {
        elsewhere: totals.elsewhere + u64::try_from(packets.len())?,
        ..totals
    })
}

fn local(gateway: &mut Gateway<'_>) -> Outcome {
    let family = gateway.family;
    let inside = gateway.ends().inside;
    let to = |destination| Packet::new(inside, destination, Message::udp(1, 53));
    let mut packets = vec![
        (
            "the gateway's LAN address",
            to(host(family, [198, 18, 0], 0, 1)),
        ),
        (
            "the gateway's uplink address",
            to(host(family, [198, 18, 11], 0x11, 2)),
        ),
        ("another client", to(host(family, [198, 18, 0], 0, 99))),
    ];
    if family == Family::Ipv4 {
        packets.push(("the LAN's broadcast address", to([198, 18, 0, 255].into())));
        packets.push(("loopback", to([127, 0, 0, 1].into())));
    }
    elsewhere(gateway, &packets)
}

fn unknown(gateway: &mut Gateway<'_>) -> Outcome {
    // The default route leaves by `wan1`.
    let wan1 = gateway.wan(1)?;
    gateway.set_role(wan1, Role::Downlink, 0)?;
    let packet = gateway.ends().out(Message::udp(1, 53));
    elsewhere(gateway, &[("by a downlink", packet)])
}

fn shared(gateway: &mut Gateway<'_>) -> Outcome {
    let wan1 = gateway.wan(1)?;
    gateway.set_role(wan1, Role::SharedUplink, 0)?;
    let key = gateway.ends().key(UDP, 1, 53);
    let mark = gateway.lan_in(&gateway.ends().out(Message::udp(1, 53)))?;
    assert_eq!(mark, Mark::Ask(gateway.chosen(&key)?));
    gateway.assert_flows(&[key])
}

fn known(gateway: &mut Gateway<'_>) -> Outcome {
    // A connection from outside to a client of which the kernel has no route back at all.
    let outside = match gateway.family {
        Family::Ipv4 => [198, 18, 0, 200].into(),
        Family::Ipv6 => [0xfd00, 0x18, 0, 0, 0, 0, 0, 0x200].into(),
    };
    let ends = crate::frames::Ends {
        outside,
        ..gateway.ends()
    };
    gateway.lan_out_first(&ends.back(Message::udp(2, 1)), 2)?;
    assert_eq!(
        gateway.lan_in(&ends.out(Message::udp(1, 2)))?,
        Mark::Sure(2)
    );
    gateway.assert_totals(Totals {
        entered: 1,
        ..Totals::default()
    })
}

/// A port, a traffic class and a source that the user's rules send elsewhere.
const PORT: u16 = 4500;
const CLASS: u8 = 0x10;
const SOURCE: u8 = 77;

/// The user's own routes and rules: another way for some hosts, ports, classes, protocols, sources.
async fn users_routes(family: Family) -> Result<(), Box<dyn Error>> {
    let stand = Stand::new(UPLINKS).await?;
    let (ip, via, server, source, dead) = match family {
        Family::Ipv4 => (
            "ip -4",
            "198.18.0.10",
            "203.0.113.14/32",
            "198.18.0.77",
            ["203.0.113.21", "203.0.113.22", "203.0.113.23"],
        ),
        Family::Ipv6 => (
            "ip -6",
            "fd00:18::10",
            "fd00:203::14/128",
            "fd00:18::77",
            ["fd00:203::21", "fd00:203::22", "fd00:203::23"],
        ),
    };
    let gateway = stand.lab().gateway().node();
    let [blackhole, unreachable, prohibited] = dead;
    for line in [
        format!("{ip} route add {server} via {via} dev lan0"),
        format!("{ip} route add blackhole {blackhole}"),
        format!("{ip} route add unreachable {unreachable}"),
        format!("{ip} route add prohibit {prohibited}"),
        format!("{ip} route add default via {via} dev lan0 table 77"),
        format!("{ip} rule add ipproto {UDP} sport {PORT} lookup 77"),
        format!("{ip} rule add ipproto {TCP} dport {PORT} lookup 77"),
        format!("{ip} rule add ipproto {GRE} lookup 77"),
        format!("{ip} rule add tos {CLASS:#x} lookup 77"),
        format!("{ip} rule add from {source} iif lan0 lookup 77"),
    ] {
        gateway.must(ProgramSpec::line(&line)).await?;
    }
    Ok::<_, LabError>(())?;
    play(&stand, Settings::default(), family, obeys).await
}

fn obeys(gateway: &mut Gateway<'_>) -> Outcome {
    let (ends, family) = (gateway.ends(), gateway.family);
    let to = |number| -> Packet {
        let destination = match family {
            Family::Ipv4 => [203, 0, 113, number].into(),
            Family::Ipv6 => {
                let number = u16::from(number / 10 * 0x10 + number % 10);
                [0xfd00, 0x203, 0, 0, 0, 0, 0, number].into()
            }
        };
        Packet::new(ends.inside, destination, Message::udp(1, 53))
    };
    let syn = |from, to| Message::tcp(from, to, crate::frames::SYN);
    let from_source = Packet {
        source: host(family, [198, 18, 0], 0, SOURCE),
        ..ends.out(Message::udp(1, 53))
    };
    let with_class = Packet {
        traffic_class: CLASS,
        ..ends.out(Message::udp(1, 53))
    };
    elsewhere(
        gateway,
        &[
            ("a host's own route", to(14)),
            ("a black hole", to(21)),
            ("an unreachable one", to(22)),
            ("a prohibited one", to(23)),
            ("a rule by source port", ends.out(Message::udp(PORT, 53))),
            ("a rule by destination port", ends.out(syn(1, PORT))),
            ("a rule by protocol", ends.out(Message::portless(GRE))),
            ("a rule by class", with_class),
            ("a rule by source and interface", from_source),
        ],
    )?;
    let steered: [(&str, Packet); 3] = [
        ("any other host", to(12)),
        ("any other port", ends.out(Message::udp(53, PORT))),
        ("the other protocol's port", ends.out(syn(PORT, 53))),
    ];
    for (what, packet) in steered {
        let mark: Result<Mark, Failure> = gateway.lan_in(&packet);
        assert!(matches!(mark?, Mark::Ask(_)), "{what} is steered");
    }
    Ok(())
}
