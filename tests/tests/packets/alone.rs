//! What is no flow between two hosts, or not for this gateway, is left alone.

use std::net::IpAddr;

use failover_common::{Family, Totals, UplinkCounters};
use failover_tests::programs::Context;

use crate::frames::{ETHERNET, GRE, Message, Packet, frame};
use crate::gateway::{Failure, Gateway, Mark, Outcome, both, counted, in_family};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    let mut trials = both("multicast_and_link_local_packets_are_left_alone", multicast);
    trials.extend(both(
        "messages_between_neighbours_are_left_alone",
        neighbours,
    ));
    trials.extend(both("frames_for_other_hosts_are_left_alone", other_hosts));
    trials.push(in_family(
        "other_kinds_of_frames_are_left_alone",
        Family::Ipv4,
        other_frames,
    ));
    trials.push(in_family(
        "a_packet_that_its_frame_denies_is_left_alone",
        Family::Ipv4,
        mislabelled,
    ));
    trials
}

/// A frame that no program does anything about, in either direction.
fn left_alone(gateway: &Gateway<'_>, what: &str, frame: &[u8]) -> Outcome {
    assert_eq!(gateway.lan_in_frame(frame)?, Mark::None, "{what}");
    let context = Context {
        ifindex: gateway.wiring.lan,
        ingress_ifindex: gateway.wan(1)?,
        ..Context::default()
    };
    gateway.through("fo_lan_out", frame, context)?;
    gateway.assert_flows(&[])?;
    gateway.assert_totals(Totals::default())?;
    Ok(())
}

fn multicast(gateway: &mut Gateway<'_>) -> Outcome {
    let inside = gateway.ends().inside;
    let destinations: Vec<IpAddr> = match gateway.family {
        Family::Ipv4 => vec![
            [224, 0, 0, 1].into(),
            [224, 0, 0, 251].into(),
            [239, 255, 255, 250].into(),
            [232, 1, 2, 3].into(),
            [240, 0, 0, 1].into(),
            [255, 255, 255, 255].into(),
        ],
        Family::Ipv6 => vec![
            [0xff02, 0, 0, 0, 0, 0, 0, 1].into(),
            [0xff02, 0, 0, 0, 0, 0, 1, 2].into(),
            [0xff05, 0, 0, 0, 0, 0, 0, 2].into(),
            [0xff0e, 0, 0, 0, 0, 0, 0, 0x101].into(),
            [0xfe80, 0, 0, 0, 0, 0, 0, 1].into(),
            [0xfebf, 1, 2, 3, 4, 5, 6, 7].into(),
        ],
    };
    for destination in destinations {
        let packet = Packet::new(inside, destination, Message::udp(5353, 5353));
        let frame = packet.frame(gateway.wiring.lan_mac);
        left_alone(gateway, &destination.to_string(), &frame)?;
    }
    Ok(())
}

/// ICMP that stays on its link: redirects, router and neighbour discovery, multicast listeners.
fn neighbours(gateway: &mut Gateway<'_>) -> Outcome {
    let kinds: &[u8] = match gateway.family {
        Family::Ipv4 => &[5, 9, 10],
        Family::Ipv6 => &[
            130, 131, 132, 133, 134, 135, 136, 137, 143, 148, 149, 151, 152, 153,
        ],
    };
    let ends = gateway.ends();
    for kind in kinds {
        let message = Message::icmp(gateway.family, *kind, 0, &[0; 28]);
        for packet in [ends.out(message.clone()), ends.back(message)] {
            let frame = packet.frame(gateway.wiring.lan_mac);
            left_alone(gateway, &format!("ICMP type {kind}"), &frame)?;
        }
    }
    Ok(())
}

fn other_hosts(gateway: &mut Gateway<'_>) -> Outcome {
    let packet = gateway.ends().out(Message::udp(1, 53));
    for mac in [
        [0x02, 0, 0, 0, 0, 0x77],
        [0xff; 6],
        [0x01, 0, 0x5e, 0, 0, 1],
        [0x33, 0x33, 0, 0, 0, 1],
    ] {
        let mark = gateway.lan_in_frame(&packet.frame(mac))?;
        assert_eq!(mark, Mark::None, "{mac:02x?}");
    }
    gateway.assert_flows(&[])?;
    gateway.assert_totals(Totals::default())
}

fn other_frames(gateway: &mut Gateway<'_>) -> Outcome {
    let packet = gateway.ends().out(Message::udp(1, 53)).bytes();
    let mut frames = Vec::new();
    for (what, kind) in [
        ("ARP", 0x0806),
        ("MPLS", 0x8847),
        ("a VLAN within the packet", 0x8100),
        ("a provider's VLAN within the packet", 0x88a8),
        ("PPPoE", 0x8864),
        ("LLDP", 0x88cc),
        ("EAPOL", 0x888e),
        ("one without a name", 0x1234),
        ("a length", 100),
        ("zero", 0),
    ] {
        let frame = frame(gateway.wiring.lan_mac, kind, &packet);
        left_alone(gateway, what, &frame)?;
        frames.push(frame);
    }
    // To users, only the uplink's count goes up.
    let lan_out = counted(u64::try_from(frames.len())?, ETHERNET + packet.len());
    gateway.assert_counters(
        1,
        UplinkCounters {
            lan_out,
            ..UplinkCounters::default()
        },
    )
}

/// The frame says IPv6, the packet is IPv4, and the other way round.
fn mislabelled(gateway: &mut Gateway<'_>) -> Outcome {
    let pass = |kind, family| -> Result<Mark, Failure> {
        // Long enough for either header.
        let packet = crate::gateway::ends(family).out(Message::portless(GRE));
        gateway.lan_in_frame(&frame(gateway.wiring.lan_mac, kind, &packet.bytes()))
    };
    assert_eq!(pass(crate::frames::IPV6, Family::Ipv4)?, Mark::None);
    assert_eq!(pass(crate::frames::IPV4, Family::Ipv6)?, Mark::None);
    gateway.assert_flows(&[])?;
    gateway.assert_totals(Totals {
        unread: 2,
        ..Totals::default()
    })
}
