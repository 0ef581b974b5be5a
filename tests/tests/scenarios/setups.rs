//! The configurations of `docs/setups.md`, with the firewalls that are shown there: each loses an uplink
//! under open connections, and clients connect again.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use failover::family::Family;
use failover_tests::addressing::{self, InterfaceAddress};
use failover_tests::daemon::State;
use failover_tests::{Host, Lab, LabBuilder, Protocol, Traffic};

use crate::Outcome;
use crate::case::Case;
use crate::leases::{Link, ppp_is_up};
use crate::page::Page;
use crate::scene::{PATIENT, Scene, answered_flows};
use crate::service::{self, Visitor};
use crate::translation::{route_back, route_prefix_back};

const PAGE: Page = Page(include_str!("../../../docs/setups.md"));

const FLOWS: [(Protocol, usize); 2] = [(Protocol::Udp, 20), (Protocol::Tcp, 20)];

/// New flows of a client.
const NEW: usize = 20;

/// The port that the world asks for, and that the server in the DMZ has.
const WEB: u16 = 80;
const MAIL: u16 = 25;

/// All goes by the better line, by the other one while that is dead, and by the better one again.
pub(crate) async fn home(case: &Case) -> Outcome {
    let scene = open(case, Lab::builder(), "Home with DSL and LTE").await?;
    for family in Family::ALL {
        let mut flows = scene.converse(family, &FLOWS).await?;
        assert_eq!(flows.on(1), 40);
        scene.uplink(1)?.black_hole().await?;
        scene.until_state(1, family, State::Down).await?;
        flows.expect_moved(1, &[2]).await?;
        all_by(scene.client()?, family, 2).await?;
        scene.uplink(1)?.heal().await?;
        scene.until_all_up().await?;
        all_by(scene.client()?, family, 1).await?;
        // They may finish.
        flows.expect_unmoved(&[2]).await?;
    }
    Ok(())
}

/// Users, a server that is asked by both providers, and its mail, which leaves by one provider only.
pub(crate) async fn office(case: &Case) -> Outcome {
    let lab = Lab::builder().downlinks([1, 1]);
    let scene = open(case, lab, "Office with fixed addresses and a DMZ").await?;
    let server = scene.lab.client(2)?;
    service::start(server.node(), WEB).await?;
    let internet = scene.lab.internet().node();
    service::start(internet, MAIL).await?;
    for family in Family::ALL {
        let mut flows = scene.converse(family, &FLOWS).await?;
        assert!(flows.on(1) > flows.on(2) && flows.on(2) > 0);
        let mut visitors = Vec::new();
        for number in [1, 2] {
            visitors.push((number, visit(scene, family, number).await?));
        }
        let mail = send_mail(scene, server, family).await?;
        assert_eq!(mail, scene.uplink(1)?.gateway_address(family));

        scene.uplink(1)?.black_hole().await?;
        scene.until_state(1, family, State::Down).await?;
        flows.expect_unmoved(&[2]).await?;
        flows.expect_moved(1, &[2]).await?;
        all_by(scene.client()?, family, 2).await?;
        for (number, visitor) in &mut visitors {
            if *number == 2 {
                visitor.ask().await?;
            }
        }
        visit(scene, family, 2).await?;
        assert_eq!(send_mail(scene, server, family).await?, None);

        scene.uplink(1)?.heal().await?;
        scene.until_all_up().await?;
        visit(scene, family, 1).await?;
        let mail = send_mail(scene, server, family).await?;
        assert_eq!(mail, scene.uplink(1)?.gateway_address(family));
    }
    Ok(())
}

/// Somebody from the internet asks the server in the DMZ at an uplink's address.
async fn visit(
    scene: &Scene,
    family: Family,
    uplink: u8,
) -> Result<Visitor, Box<dyn std::error::Error>> {
    let from = addressing::servers(family).first().copied();
    let from = from.ok_or("the internet has no address")?;
    let at = scene.uplink(uplink)?.gateway_address(family);
    let at = SocketAddr::new(at.ok_or("no address")?, WEB);
    let mut visitor = Visitor::connect(scene.lab.internet().node(), Some(from), at).await?;
    assert_eq!(visitor.ask().await?.ip(), from);
    Ok(visitor)
}

/// By which address the world sees the sender of mail; none when it is not let out.
async fn send_mail(
    scene: &Scene,
    sender: &Host,
    family: Family,
) -> Result<Option<IpAddr>, Box<dyn std::error::Error>> {
    let to = addressing::servers(family).first().copied();
    let to = SocketAddr::new(to.ok_or("the internet has no address")?, MAIL);
    match Visitor::connect(sender.node(), None, to).await {
        Ok(mut sent) => Ok(Some(sent.ask().await?.ip())),
        Err(_refused) => {
            // It is the rule that keeps it in, and not that nothing works.
            answered_flows(sender, Traffic::new(Protocol::Tcp, family, 1)).await?;
            assert!(scene.lab.uplinks().len() > 1);
            Ok(None)
        }
    }
}

pub(crate) async fn two_gateways(case: &Case) -> Outcome {
    let lab = Lab::builder().shared_uplinks();
    loses_an_uplink(case, lab, "Two gateways in one network").await
}

pub(crate) async fn one_arm(case: &Case) -> Outcome {
    loses_an_uplink(case, Lab::builder().one_arm(), "One arm").await
}

/// The flows of the second uplink go on by the first, and the second is used again.
async fn loses_an_uplink(case: &Case, lab: LabBuilder, setup: &str) -> Outcome {
    let scene = open(case, lab, setup).await?;
    for family in Family::ALL {
        let mut flows = scene.converse(family, &FLOWS).await?;
        assert!(flows.on(1) > 0 && flows.on(2) > 0);
        scene.uplink(2)?.black_hole().await?;
        scene.until_state(2, family, State::Down).await?;
        flows.expect_unmoved(&[1]).await?;
        flows.expect_moved(2, &[1]).await?;
        all_by(scene.client()?, family, 1).await?;
        scene.uplink(2)?.heal().await?;
        scene.until_all_up().await?;
        flows.expect_unmoved(&[1]).await?;
        let tally = scene.new_flows(Protocol::Tcp, family, 60).await?;
        assert!(tally.on(2) > 10, "{tally}");
    }
    Ok(())
}

/// The link ends, and returns with another address.
pub(crate) async fn ppp(case: &Case) -> Outcome {
    let family = Family::Ipv4;
    let scene = case
        .prepare(Lab::builder().uplink_without(1, family))
        .await?;
    let link = Link::make(scene).await?;
    link.connect(family, 2, 1).await?;
    scene.run_daemon(&PAGE.block("PPP", "yaml", 0)?).await?;
    ppp_is_up(scene, family, "198.18.11.2").await?;
    scene.until_state(2, family, State::Up).await?;
    let mut flows = scene.converse(family, &FLOWS).await?;
    assert!(flows.on(1) > 0 && flows.on(2) > 0);

    scene.in_gateway("ip link set ppp0 down").await?;
    scene
        .until("ppp0 is out of use", |status| {
            let mut uplinks = status.uplinks.iter();
            uplinks.any(|uplink| uplink.interface == "ppp0" && uplink.ipv4.state != State::Up)
        })
        .await?;
    flows.expect_unmoved(&[2]).await?;
    flows.expect_moved(1, &[2]).await?;
    all_by(scene.client()?, family, 2).await?;

    scene.in_gateway("ip link set ppp0 up").await?;
    link.connect(family, 7, 1).await?;
    ppp_is_up(scene, family, "198.18.11.7").await?;
    flows.expect_unmoved(&[2]).await?;
    let tally = scene.new_flows(Protocol::Tcp, family, 60).await?;
    assert!(tally.on(1) > 10 && tally.on(2) > 10, "{tally}");
    Ok(())
}

/// Each of a client's addresses leaves by its own provider as it is, and by the other one translated
/// while that is dead.
pub(crate) async fn prefixes(case: &Case) -> Outcome {
    let family = Family::Ipv6;
    let scene = case.prepare(Lab::builder()).await?;
    let of_second = Ipv6Addr::new(0xfd00, 0x28, 0, 0, 0, 0, 0, 0x10);
    let client = scene.client()?;
    let (first, second) = (
        client.address(family).ok_or("no address")?,
        of_second.into(),
    );
    for (node, interface, address) in [
        (
            scene.lab.gateway().node(),
            "lan0",
            Ipv6Addr::new(0xfd00, 0x28, 0, 0, 0, 0, 0, 1),
        ),
        (client.node(), "eth0", of_second),
    ] {
        let address = InterfaceAddress {
            address: address.into(),
            prefix: 64,
        };
        node.add_address(interface, address).await?;
    }
    route_back(scene, family).await?;
    route_prefix_back(scene, family, "fd00:28::/64", 2).await?;
    let config = PAGE.block("IPv6 with prefixes of both providers", "yaml", 0)?;
    scene.run_daemon(&config).await?;
    scene.until_all_up().await?;
    let seen_as = async |own: IpAddr| {
        let traffic = Traffic::new(Protocol::Tcp, family, NEW)
            .within(PATIENT)
            .from_address(own);
        let mut seen = Vec::new();
        for asked in client.burst(traffic).await? {
            seen.push(asked?.seen.ip());
        }
        seen.dedup();
        Ok::<_, Box<dyn std::error::Error>>(seen)
    };
    assert_eq!(seen_as(first).await?, [first]);
    assert_eq!(seen_as(second).await?, [second]);

    scene.uplink(1)?.black_hole().await?;
    scene.until_state(1, family, State::Down).await?;
    let other = scene
        .uplink(2)?
        .gateway_address(family)
        .ok_or("no address")?;
    assert_eq!(seen_as(first).await?, [other]);
    assert_eq!(seen_as(second).await?, [second]);
    scene.uplink(1)?.heal().await?;
    scene.until_all_up().await?;
    assert_eq!(seen_as(first).await?, [first]);
    scene.expect_no_strays_since(None)
}

/// Loads a setup's firewall, if it has one, and starts the daemon with its configuration.
async fn open<'a>(
    case: &'a Case,
    lab: LabBuilder,
    setup: &str,
) -> Result<&'a Scene, Box<dyn std::error::Error>> {
    let scene = case.prepare(lab).await?;
    if let Ok(firewall) = PAGE.block(setup, "nft", 0) {
        scene.lab.gateway().node().nft(firewall).await?;
    }
    scene.run_daemon(&PAGE.block(setup, "yaml", 0)?).await?;
    scene.until_all_up().await?;
    Ok(scene)
}

/// All new flows of a client go by an uplink.
async fn all_by(client: &Host, family: Family, uplink: u8) -> Outcome {
    for (protocol, count) in FLOWS {
        let tally = answered_flows(client, Traffic::new(protocol, family, count)).await?;
        assert_eq!(tally.on(uplink), count, "{protocol}: {tally}");
    }
    Ok(())
}
