//! Interfaces without a header below IP: TUN, which stands for PPP, WireGuard and other tunnels.

use std::error::Error;

use etherparse::PacketBuilder;
use failover_common::lifetime::protocol::{ICMP, ICMPV6, UDP};
use failover_common::{
    Affinity, Counters, Family, Flow, Phase, Reason, Role, Uplink, UplinkFamily, UplinkState,
};
use failover_tests::programs::{Direction, Stand};
use failover_tests::{Layout, ProgramSpec, within};

use super::{Attached, PATIENCE, usual_hooks};
use crate::frames::{Ends, Message};
use crate::gateway::{BOTH, UPLINKS, ends, length};
use crate::rules::decide;
use crate::trial::{SystemTest, TestResult};

pub(crate) fn trials() -> Vec<SystemTest> {
    vec![
        SystemTest::new("users_behind_a_tunnel_are_steered", downlink),
        SystemTest::new("a_tunnel_can_be_an_uplink", uplink),
        SystemTest::new(
            "rules_about_hardware_addresses_are_not_for_tunnels",
            no_hardware_address,
        ),
        SystemTest::new("broken_packets_from_a_tunnel_are_passed_on", broken),
    ]
}

/// A user behind the tunnel, and the internet.
pub(super) fn tunnelled(family: Family) -> Ends {
    let inside = match family {
        Family::Ipv4 => [198, 18, 40, 10].into(),
        Family::Ipv6 => [0xfd00, 0x18, 0x40, 0, 0, 0, 0, 0x10].into(),
    };
    Ends {
        inside,
        ..ends(family)
    }
}

/// A gateway with a TUN as a downlink, to which the internet finds back by the first uplink.
pub(super) async fn with_downlink() -> Result<(Attached, failover_tests::tun::Tun), Box<dyn Error>>
{
    let stand = Stand::new(UPLINKS).await?;
    let lab = stand.lab();
    let gateway = lab.gateway().node();
    let tun = gateway.add_tun("tun0").await?;
    for (node, line) in [
        (gateway, "ip -4 route add 198.18.40.0/24 dev tun0"),
        (gateway, "ip -6 route add fd00:18:40::/64 dev tun0"),
        (
            lab.uplink(1)?.provider(),
            "ip -4 route add 198.18.40.0/24 via 198.18.11.2",
        ),
        (
            lab.uplink(1)?.provider(),
            "ip -6 route add fd00:18:40::/64 via fd00:18:11::2",
        ),
        (
            lab.internet().node(),
            "ip -4 route add 198.18.40.0/24 via 198.19.11.2",
        ),
        (
            lab.internet().node(),
            "ip -6 route add fd00:18:40::/64 via fd00:19:11::2",
        ),
    ] {
        node.must(ProgramSpec::line(line)).await?;
    }
    let hooks = vec![
        ("fo_lan_in_l3", "tun0".to_owned(), Direction::Ingress),
        ("fo_lan_out_l3", "tun0".to_owned(), Direction::Egress),
        ("fo_wan_in", "wan1".to_owned(), Direction::Ingress),
    ];
    let mut attached = Attached::on(stand, hooks).await?;
    attached.know("tun0", Role::Downlink, 0).await?;
    for family in BOTH {
        attached.programs.select(family, Affinity::Flow, &[1])?;
    }
    Ok((attached, tun))
}

/// An echo request with all its checksums.
fn echo_request(ends: Ends, identifier: u16) -> Result<Vec<u8>, Box<dyn Error>> {
    use std::net::IpAddr;
    let mut bytes = Vec::new();
    match (ends.inside, ends.outside) {
        (IpAddr::V4(inside), IpAddr::V4(outside)) => {
            PacketBuilder::ipv4(inside.octets(), outside.octets(), 64)
                .icmpv4_echo_request(identifier, 1)
                .write(&mut bytes, b"failover")?;
        }
        (IpAddr::V6(inside), IpAddr::V6(outside)) => {
            PacketBuilder::ipv6(inside.octets(), outside.octets(), 64)
                .icmpv6_echo_request(identifier, 1)
                .write(&mut bytes, b"failover")?;
        }
        _ => return Err("two families".into()),
    }
    Ok(bytes)
}

async fn downlink() -> TestResult {
    let (mut attached, mut tun) = with_downlink().await?;
    for (family, protocol) in [(Family::Ipv4, ICMP), (Family::Ipv6, ICMPV6)] {
        let ends = tunnelled(family);
        let key = ends.key(protocol, 77, 0);
        let request = echo_request(ends, 77)?;
        let bytes = length(request.len());
        let (ask, sure) = (attached.seen("ask").await?, attached.seen("sure").await?);
        tun.deliver.send(request.clone())?;
        let flow = attached
            .flow_that("is confirmed", &key, |flow| flow.confirmed)
            .await?;
        assert_eq!((flow.uplink, flow.phase), (1, Phase::Established));
        // A reply is as long as its request; there is no header below IP to be counted.
        assert_eq!((flow.out_packets, flow.out_bytes), (1, bytes));
        assert_eq!((flow.in_packets, flow.in_bytes), (1, bytes));
        within("the reply comes back", PATIENCE, async {
            while let Some(packet) = tun.sent.recv().await {
                if packet.len() == request.len() {
                    return;
                }
            }
        })
        .await?;
        let ripe = Flow {
            until_offer: 1,
            ..flow
        };
        attached.programs.set_flow(&key, &ripe)?;
        tun.deliver.send(request)?;
        let twice = |flow: &Flow| flow.in_packets == 2;
        let flow = attached.flow_that("is answered twice", &key, twice).await?;
        assert_eq!(flow.offered_ns, Flow::WITHOUT_ETHERNET);
        assert_eq!(attached.seen("ask").await?, ask + 1, "the first request");
        assert_eq!(attached.seen("sure").await?, sure + 1, "the second request");
    }
    Ok(())
}

async fn broken() -> TestResult {
    let (attached, tun) = with_downlink().await?;
    let mut unread = 0;
    for family in BOTH {
        let ends = tunnelled(family);
        let whole = ends.out(Message::udp(7, 53)).bytes();
        let ports = whole.len() - 18 + 4;
        for length in 1..ports {
            tun.deliver
                .send(whole.get(..length).unwrap_or_default().to_vec())?;
            unread += 1;
        }
        tun.deliver.send(whole)?;
        attached.flow(&ends.key(UDP, 7, 53)).await?;
        assert_eq!(attached.programs.totals()?.unread, unread);
    }
    assert_eq!(attached.programs.flows()?.len(), 2);
    Ok(())
}

/// Not even a rule about the address that nobody has.
async fn no_hardware_address() -> TestResult {
    let (mut attached, tun) = with_downlink().await?;
    for family in BOTH {
        attached.programs.select(family, Affinity::Flow, &[2])?;
    }
    let rules = "rules:\n  - {name: hosts, match: {mac: [\"00:00:00:00:00:00\", \"02:00:00:00:00:09\"]}, via: [three]}\n  \
                 - {name: tunnel, match: {source: [198.18.40.0/24, \"fd00:18:40::/64\"]}, via: [one]}";
    decide(&mut attached.programs, 0, rules).map_err(|error| error.to_string())?;
    for (family, protocol) in [(Family::Ipv4, ICMP), (Family::Ipv6, ICMPV6)] {
        let ends = tunnelled(family);
        tun.deliver.send(echo_request(ends, 77)?)?;
        let key = ends.key(protocol, 77, 0);
        let flow = attached
            .flow_that("is confirmed", &key, |flow| flow.confirmed)
            .await?;
        assert_eq!((flow.uplink, flow.reason), (1, Reason::Rule), "{family:?}");
    }
    Ok(())
}

/// The id of the uplink behind the tunnel.
const TUNNEL: u8 = 9;

async fn uplink() -> TestResult {
    let stand = Stand::new(UPLINKS).await?;
    let gateway = stand.lab().gateway().node();
    let mut tun = gateway.add_tun("tun9").await?;
    for line in [
        "ip -4 route add 203.0.113.11/32 dev tun9",
        "ip -6 route add fd00:203::11/128 dev tun9",
    ] {
        gateway.must(ProgramSpec::line(line)).await?;
    }
    let mut hooks = usual_hooks("lan0");
    hooks.push(("fo_wan_in_l3", "tun9".to_owned(), Direction::Ingress));
    let mut attached = Attached::on(stand, hooks).await?;
    attached.know("tun9", Role::Uplink, TUNNEL).await?;
    let up = UplinkFamily {
        generation: 1,
        state: UplinkState::Up,
        translates: true,
        reserved: [0; 2],
    };
    let interface = attached.gateway().interface_index("tun9").await?;
    attached.programs.set_uplink(
        TUNNEL,
        &Uplink {
            interface,
            ipv4: up,
            ipv6: up,
        },
    )?;
    let mut came = Counters::default();
    for family in BOTH {
        attached
            .programs
            .select(family, Affinity::Flow, &[TUNNEL])?;
        let ends = ends(family);
        let question = ends.out(Message::udp(7, 53));
        let client = attached.stand.lab().client(1)?.node();
        let frames = vec![question.frame(attached.stand.wiring().lan_mac)];
        client.send_frames("eth0", Layout::Linear, frames).await?;
        let key = ends.key(UDP, 7, 53);
        assert_eq!(attached.flow(&key).await?.uplink, TUNNEL);
        within("the packet leaves by the tunnel", PATIENCE, async {
            while let Some(packet) = tun.sent.recv().await {
                if packet.len() == question.bytes().len() {
                    return;
                }
            }
        })
        .await?;
        let answer = ends.back(Message::udp(53, 7)).bytes();
        came.packets += 1;
        came.bytes += length(answer.len());
        tun.deliver.send(answer)?;
        let flow = attached
            .flow_that("is confirmed", &key, |flow| flow.confirmed)
            .await?;
        assert_eq!(flow.uplink, TUNNEL);
        let counters = attached.programs.counters(TUNNEL)?;
        assert_eq!(counters.wan_in, came);
        assert_eq!(counters.lan_out.packets, came.packets);
        assert_eq!(counters.lan_in.packets, came.packets);
    }
    Ok(())
}
