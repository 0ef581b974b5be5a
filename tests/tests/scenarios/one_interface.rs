//! Gateways that are behind one interface in one network, with users behind another, behind the same
//! one, or nowhere.
//!
//! Each provider translates to an address of its own, as a home router does: it tells by whom a flow
//! went, and an answer that goes back by another provider reaches nobody.

use std::net::SocketAddr;
use std::time::Instant;

use failover::family::Family;
use failover_common::maps;
use failover_tests::Pinning as _;
use failover_tests::addressing::{self, uplink_of};
use failover_tests::daemon::State;
use failover_tests::programs::{empty, flow_map};
use failover_tests::{Host, Lab, LabBuilder, LabError, Protocol, patient};

use crate::Outcome;
use crate::bpftool::{Entries, dump};
use crate::case::Case;
use crate::conversations::Conversations;
use crate::own_traffic;
use crate::scene::{LIMIT, Scene};
use crate::service::{self, Visitor};

const FLOWS: [(Protocol, usize); 3] = [
    (Protocol::Udp, 90),
    (Protocol::Tcp, 90),
    (Protocol::Icmp, 30),
];

const PORT: u16 = 8080;

/// Gateways behind `wan0`, users behind `lan0`.
const SHARED: &str = "
uplinks:
  one: {interface: wan0, id: 1, gateway: 198.18.10.101, gateway6: \"fd00:18:10::101\", weight: 2}
  two: {interface: wan0, id: 2, gateway: 198.18.10.102, gateway6: \"fd00:18:10::102\"}
  three: {interface: wan0, id: 3, gateway: 198.18.10.103, gateway6: \"fd00:18:10::103\"}
downlinks: [lan0]
";

/// Gateways behind `wan0`, and nobody else.
const HOST: &str = "
uplinks:
  one: {interface: wan0, id: 1, gateway: 198.18.10.101, gateway6: \"fd00:18:10::101\"}
  two: {interface: wan0, id: 2, gateway: 198.18.10.102, gateway6: \"fd00:18:10::102\"}
  three: {interface: wan0, id: 3, gateway: 198.18.10.103, gateway6: \"fd00:18:10::103\"}
";

/// Gateways and users behind `lan0`. The kernel sends redirects to link-local gateways only.
const ONE_ARM: &str = "
uplinks:
  one: {interface: lan0, id: 1, gateway: 198.18.0.101, gateway6: \"fe80::101\"}
  two: {interface: lan0, id: 2, gateway: 198.18.0.102, gateway6: \"fe80::102\"}
  three: {interface: lan0, id: 3, gateway: 198.18.0.103, gateway6: \"fe80::103\"}
downlinks: [lan0]
";

/// The same, and answers go straight to users.
const UNTRANSLATED: &str = "
uplinks:
  one: {interface: lan0, id: 1, gateway: 198.18.0.101, gateway6: \"fe80::101\"}
  two: {interface: lan0, id: 2, gateway: 198.18.0.102, gateway6: \"fe80::102\"}
  three: {interface: lan0, id: 3, gateway: 198.18.0.103, gateway6: \"fe80::103\"}
downlinks: [lan0]
nat: none
";

/// A gateway and one in reserve, both in the users' network and both translating.
const RESERVE: &str = "
uplinks:
  one: {interface: lan0, id: 1, gateway: 198.18.0.101, gateway6: \"fe80::101\"}
  two: {interface: lan0, id: 2, gateway: 198.18.0.102, gateway6: \"fe80::102\", priority: 2}
downlinks: [lan0]
nat: none
";

pub(crate) async fn shared(case: &Case, family: Family) -> Outcome {
    let lab = Lab::builder().uplinks(3).shared_uplinks();
    let scene = case.open(lab, SHARED).await?;
    let tally = scene.new_flows(Protocol::Udp, family, 400).await?;
    assert!((150..=250).contains(&tally.on(1)), "{tally}");
    let mut flows = scene.converse(family, &FLOWS).await?;
    dies_and_returns(scene, family, &mut flows).await
}

pub(crate) async fn one_arm(case: &Case, family: Family) -> Outcome {
    let scene = case.open(one_arm_lab(), ONE_ARM).await?;
    count_redirects(scene.client()?).await?;
    let mut flows = scene.converse(family, &FLOWS).await?;
    dies_and_returns(scene, family, &mut flows).await?;
    expect_no_redirects(scene.client()?).await
}

pub(crate) async fn one_arm_untranslated(case: &Case, family: Family) -> Outcome {
    let scene = case.open(one_arm_lab(), UNTRANSLATED).await?;
    count_redirects(scene.client()?).await?;
    let mut flows = scene.converse(family, &FLOWS).await?.untold();
    for uplink in scene.lab.uplinks() {
        let user = scene.client()?.address(family);
        let seen = uplink.capture()?.flows()?;
        let seen: Vec<_> = seen
            .iter()
            .filter(|flow| Family::of(flow.key.source.ip()) == family)
            .collect();
        assert!(
            !seen.is_empty() && seen.iter().all(|flow| Some(flow.key.source.ip()) == user),
            "users' addresses come to the provider: {seen:?}"
        );
    }
    dies_and_returns(scene, family, &mut flows).await?;
    expect_no_redirects(scene.client()?).await
}

pub(crate) async fn one_arm_reserve(case: &Case, family: Family) -> Outcome {
    let lab = Lab::builder().uplinks(2).one_arm();
    let scene = case.open(lab, RESERVE).await?;
    all_new_flows_go_by(scene, family, 1).await?;
    scene.uplink(1)?.black_hole().await?;
    scene.until_state(1, family, State::Down).await?;
    all_new_flows_go_by(scene, family, 2).await?;
    scene.uplink(1)?.heal().await?;
    scene.until_state(1, family, State::Up).await?;
    all_new_flows_go_by(scene, family, 1).await
}

async fn all_new_flows_go_by(scene: &Scene, family: Family, uplink: u8) -> Outcome {
    for protocol in Protocol::ALL {
        let tally = scene.new_flows(protocol, family, 30).await?;
        // One may happen to have the port of an earlier flow, which is on another uplink.
        assert_eq!((tally.unanswered, tally.elsewhere), (0, 0), "{tally}");
        assert!(tally.on(uplink) >= 28, "{protocol}: {tally}");
    }
    Ok(())
}

/// The programs know gateways by their addresses, and every flow by its uplink.
pub(crate) async fn shared_maps(case: &Case, family: Family) -> Outcome {
    let lab = Lab::builder().uplinks(3).shared_uplinks();
    let scene = case.open(lab, SHARED).await?;
    maps(scene, family).await
}

pub(crate) async fn one_arm_maps(case: &Case, family: Family) -> Outcome {
    let scene = case.open(one_arm_lab(), ONE_ARM).await?;
    maps(scene, family).await
}

async fn maps(scene: &Scene, family: Family) -> Outcome {
    let name = match family {
        Family::Ipv4 => "Ipv4",
        Family::Ipv6 => "Ipv6",
    };
    for uplink in scene.lab.uplinks() {
        let address = uplink.provider().hardware_address("access").await?;
        let gateways = dump(scene, maps::GATEWAYS).await?;
        let found = gateways.iter().find(|(key, _)| {
            key["family"] == name && key["address"] == serde_json::json!(address.to_vec())
        });
        let whose = found.map(|(_, gateway)| gateway["uplink"].clone());
        assert_eq!(whose, Some(uplink.number().into()), "{gateways:?}");
    }
    let flows = scene.converse(family, &[(Protocol::Tcp, 30)]).await?;
    for reason in [&["Hash"][..], &["Hash", "Restored"]] {
        let all = entries(scene, &flows).await?;
        for (key, flow) in &all {
            assert_eq!(
                (&key["family"], &key["outside_port"]),
                (&name.into(), &7007.into())
            );
            assert_eq!(flow["phase"], "Established", "{key} {flow}");
            assert_eq!(flow["confirmed"], true, "{key} {flow}");
            assert!(
                reason.iter().any(|reason| flow["reason"] == *reason),
                "{flow}"
            );
        }
        for uplink in 1..=3 {
            let here = all
                .iter()
                .filter(|(_, flow)| flow["uplink"] == uplink)
                .count();
            assert_eq!(here, flows.on(uplink), "flows on uplink {uplink}");
        }
        // Without their entries connection tracking knows them.
        empty(flow_map(&scene.lab.pins())?)?;
    }
    Ok(())
}

/// The entries of all flows. Those on the fast path come back into the table within some seconds, when
/// they are told what moved.
async fn entries(
    scene: &Scene,
    flows: &Conversations,
) -> Result<Entries, Box<dyn std::error::Error>> {
    let began = Instant::now();
    loop {
        flows.expect_unmoved(&[1, 2, 3]).await?;
        let mut all = dump(scene, maps::FLOWS).await?;
        all.retain(|(key, _)| key["protocol"] == 6);
        if all.len() == 30 {
            return Ok(all);
        }
        assert!(began.elapsed() < patient(LIMIT), "{all:?}");
    }
}

/// A host with host routes to what it asks.
pub(crate) async fn host(case: &Case, family: Family) -> Outcome {
    let lab = Lab::builder().uplinks(3).shared_uplinks().host_only();
    let scene = case.prepare(lab).await?;
    for (target, gateway) in [
        ("203.0.113.1", "198.18.10.101"),
        ("203.0.113.2", "198.18.10.102"),
        ("fd00:203::1", "fd00:18:10::101"),
        ("fd00:203::2", "fd00:18:10::102"),
    ] {
        scene
            .in_gateway(&format!("ip route add {target} via {gateway} dev wan0"))
            .await?;
    }
    scene.run_daemon(HOST).await?;
    scene.until_all_up().await?;
    own_traffic::fails_over(scene, family).await
}

fn one_arm_lab() -> LabBuilder {
    Lab::builder().uplinks(3).one_arm()
}

/// An uplink dies in silence and returns; then another one vanishes from the network and returns.
async fn dies_and_returns(scene: &Scene, family: Family, flows: &mut Conversations) -> Outcome {
    for uplink in 1..=3 {
        assert!(
            flows.on(uplink) > 25,
            "{} on uplink {uplink}",
            flows.on(uplink)
        );
    }
    flows.expect_unmoved(&[1, 2, 3]).await?;

    scene.uplink(2)?.black_hole().await?;
    scene.until_state(2, family, State::Down).await?;
    flows.expect_unmoved(&[1, 3]).await?;
    flows.expect_moved(2, &[1, 3]).await?;
    for protocol in Protocol::ALL {
        let tally = scene.new_flows(protocol, family, 60).await?;
        assert_eq!(tally.on(2), 0, "{protocol}: {tally}");
    }
    scene.uplink(2)?.heal().await?;
    scene.until_state(2, family, State::Up).await?;
    flows.expect_unmoved(&[1, 3]).await?;
    for protocol in Protocol::ALL {
        let tally = scene.new_flows(protocol, family, 90).await?;
        assert!(tally.on(2) > 5, "{protocol}: {tally}");
    }

    scene.uplink(3)?.carrier_loss().await?;
    scene.until_state(3, family, State::Down).await?;
    flows.expect_unmoved(&[1]).await?;
    flows.expect_moved(3, &[1, 2]).await?;
    scene.uplink(3)?.heal().await?;
    scene.until_state(3, family, State::Up).await?;
    flows.expect_unmoved(&[1, 2]).await
}

/// Asked by way of each provider, the router and a client behind it answer by the same one.
pub(crate) async fn shared_inbound(case: &Case, family: Family) -> Outcome {
    let lab = Lab::builder().uplinks(3).shared_uplinks();
    let scene = case.open(lab, SHARED).await?;
    inbound(scene, family).await
}

pub(crate) async fn one_arm_inbound(case: &Case, family: Family) -> Outcome {
    let scene = case.open(one_arm_lab(), ONE_ARM).await?;
    inbound(scene, family).await
}

async fn inbound(scene: &Scene, family: Family) -> Outcome {
    let gateway = scene.lab.gateway().node();
    let interface = scene.uplink(1)?.interface();
    let at = scene.uplink(1)?.gateway_address(family);
    let at = at.ok_or("the gateway has no address")?;
    service::start(gateway, PORT).await?;
    service::start(scene.client()?.node(), PORT + 1).await?;
    service::start_udp(gateway, PORT).await?;
    let ip = match family {
        Family::Ipv4 => "ip",
        Family::Ipv6 => "ip6",
    };
    let client = scene.client()?.address(family).ok_or("no address")?;
    let client = SocketAddr::new(client, PORT + 1);
    let forwarding = format!(
        "table {ip} users_own {{
            chain prerouting {{
                type nat hook prerouting priority dstnat; policy accept;
                iifname {interface} {ip} daddr {at} tcp dport {} dnat to {client}
            }}
        }}",
        PORT + 1
    );
    gateway.nft(forwarding).await?;

    let internet = scene.lab.internet().node();
    let from = addressing::servers(family);
    let from = *from.first().ok_or("the internet has no address")?;
    let mut visitors = Vec::new();
    for number in 1..=3 {
        let public = addressing::public_address(family, number);
        assert_eq!(uplink_of(public), Some(number));
        for port in [PORT, PORT + 1] {
            for _ in 0..6 {
                let at = SocketAddr::new(public, port);
                let mut visitor = Visitor::connect(internet, Some(from), at).await?;
                assert_eq!(visitor.ask().await?.ip(), from);
                visitors.push((number, visitor));
            }
        }
        let at = SocketAddr::new(public, PORT);
        for seen in service::ask_udp(internet, from, at, 2).await? {
            assert_eq!(seen.ip(), from, "asked at {at}");
        }
    }
    scene.uplink(1)?.black_hole().await?;
    scene.until_state(1, family, State::Down).await?;
    for (number, visitor) in &mut visitors {
        if *number != 1 {
            visitor.ask().await?;
        }
    }
    Ok(())
}

/// Counts the redirects that come to a user.
async fn count_redirects(user: &Host) -> Result<(), LabError> {
    let table = "table inet lab_redirects {
        chain in {
            type filter hook prerouting priority raw; policy accept;
            icmp type redirect counter
            icmpv6 type nd-redirect counter
        }
    }";
    user.node().nft(table).await
}

async fn expect_no_redirects(user: &Host) -> Outcome {
    let line = "nft list chain inet lab_redirects in";
    let counted = user
        .node()
        .must(failover_tests::ProgramSpec::line(line))
        .await?;
    assert_eq!(
        counted.matches("packets 0 bytes 0").count(),
        2,
        "a user was told to go past the gateway:\n{counted}"
    );
    Ok(())
}
