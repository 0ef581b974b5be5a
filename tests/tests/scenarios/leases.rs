//! Uplinks whose addresses the provider gives, and takes back: DHCP, router advertisements, and
//! point-to-point links whose ends change.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use failover::family::Family;
use failover_tests::addressing::InterfaceAddress;
use failover_tests::daemon::State;
use failover_tests::given::{Advertised, Advertiser, DhcpClient, DhcpServer, Lease, Prefix};
use failover_tests::{Lab, LabError, Node, ProgramSpec, Protocol};

use crate::Outcome;
use crate::case::Case;
use crate::scene::{Scene, TWO, of};

const FLOWS: [(Protocol, usize); 3] = [
    (Protocol::Udp, 40),
    (Protocol::Tcp, 40),
    (Protocol::Icmp, 20),
];

/// For how long an uplink may have no address before its flows go elsewhere, less what the daemon and
/// this program need to notice.
const GAP: Duration = Duration::from_millis(700);

/// Where flows of an uplink go on that had no address for a while, on a machine as slow as this.
const fn home(uplink: u8, gap: Duration) -> &'static [u8] {
    match (uplink, gap.as_millis() < GAP.as_millis()) {
        (1, true) => &[1],
        (2, true) => &[2],
        _ => &[1, 2],
    }
}

const fn lease(address: u8, router: u8) -> Lease {
    Lease {
        address: Ipv4Addr::new(198, 18, 11, address),
        router: Ipv4Addr::new(198, 18, 11, router),
    }
}

/// A lease makes an uplink, its renewal costs no flow, another gateway none either, another address
/// those of the old one only, and while there is no address the flows go elsewhere.
pub(crate) async fn dhcp(case: &Case, family: Family) -> Outcome {
    let lab = Lab::builder().uplink_without(1, family);
    let scene = case.open(lab, TWO).await?;
    let uplink = scene.uplink(1)?;
    for router in [1, 9] {
        give(
            uplink.provider(),
            "access",
            lease(0, router).router.into(),
            24,
        )
        .await?;
    }
    let mut server = DhcpServer::start(&scene.lab, uplink, lease(50, 1)).await?;
    let client = DhcpClient::start(&scene.lab, uplink, 100).await?;
    up_as(scene, family, lease(50, 1)).await?;
    let mut flows = scene.converse(family, &FLOWS).await?;
    assert!(flows.on(1) > 20 && flows.on(2) > 20, "{}", flows.on(1));

    // The client takes the address off and puts it on again.
    let before = scene.tracked(family).await?;
    client.renew().await?;
    up_as(scene, family, lease(50, 1)).await?;
    flows.expect_unmoved(&[1, 2]).await?;
    assert_eq!(scene.tracked(family).await?, before);

    server.change(lease(50, 9)).await?;
    client.renew().await?;
    up_as(scene, family, lease(50, 9)).await?;
    flows.expect_unmoved(&[1, 2]).await?;
    assert_eq!(scene.tracked(family).await?, before);

    server.change(lease(60, 9)).await?;
    let gap = client.begin_anew().await?;
    up_as(scene, family, lease(60, 9)).await?;
    only_those_are_gone(scene, family, before, lease(50, 1).address.into()).await?;
    flows.expect_unmoved(&[2]).await?;
    flows.expect_moved(1, home(1, gap)).await?;
    flows.expect_unmoved(&[1, 2]).await?;

    // The server refuses to renew the address, and the client waits for some seconds before it asks
    // for another: here until it is answered.
    let before = scene.tracked(family).await?;
    server.change(lease(70, 9)).await?;
    client.renew_in_vain().await?;
    server.pause();
    scene.until_state(1, family, State::Absent).await?;
    only_those_are_gone(scene, family, before, lease(60, 9).address.into()).await?;
    flows.expect_unmoved(&[2]).await?;
    flows.expect_moved(1, &[2]).await?;
    server.go_on();
    up_as(scene, family, lease(70, 9)).await?;
    let tally = scene.new_flows(Protocol::Udp, family, 60).await?;
    assert!(tally.on(1) > 10 && tally.on(2) > 10, "{tally}");
    flows.expect_unmoved(&[2]).await?;

    // The address changes while no daemon runs.
    let more = scene.converse(family, &FLOWS).await?;
    let before = scene.tracked(family).await?;
    scene.kill_daemon().await?;
    server.change(lease(80, 9)).await?;
    client.begin_anew().await?;
    scene.run_daemon(TWO).await?;
    up_as(scene, family, lease(80, 9)).await?;
    only_those_are_gone(scene, family, before, lease(70, 9).address.into()).await?;
    more.expect_unmoved(&[2]).await
}

/// Two providers that know nothing of each other: both give addresses of the same network, with the
/// same gateway, and at last the very same address.
pub(crate) async fn the_same_network_twice(case: &Case, family: Family) -> Outcome {
    let lab = Lab::builder()
        .uplink_without(1, family)
        .uplink_without(2, family);
    let scene = case.open(lab, TWO).await?;
    let router = Ipv4Addr::new(192, 0, 2, 1);
    let lease = |host: u8| Lease {
        address: Ipv4Addr::new(192, 0, 2, host),
        router,
    };
    let mut running = Vec::new();
    for (number, host) in [(1, 51), (2, 52)] {
        let uplink = scene.uplink(number)?;
        let provider = uplink.provider();
        give(provider, "access", router.into(), 24).await?;
        // Providers of this kind translate themselves: to an address by which they are known here.
        let outside = Ipv4Addr::new(198, 18, 10 + number, 200);
        give(provider, "lo", outside.into(), 32).await?;
        provider.nft(translation(outside)).await?;
        let server = DhcpServer::start(&scene.lab, uplink, lease(host)).await?;
        let client = DhcpClient::start(&scene.lab, uplink, 100 * u32::from(number)).await?;
        running.push((server, client));
    }
    for (number, host) in [(1, 51), (2, 52)] {
        up(scene, number, family, lease(host)).await?;
    }
    let mut flows = scene.converse(family, &FLOWS).await?;
    assert!(flows.on(1) > 20 && flows.on(2) > 20, "{}", flows.on(1));

    let before = scene.tracked(family).await?;
    let (server, client) = running.last_mut().ok_or("no second uplink")?;
    server.change(lease(51)).await?;
    let gap = client.begin_anew().await?;
    up(scene, 2, family, lease(51)).await?;
    only_those_are_gone(scene, family, before, lease(52).address.into()).await?;
    flows.expect_unmoved(&[1]).await?;
    flows.expect_moved(2, home(2, gap)).await?;
    flows.expect_unmoved(&[1, 2]).await?;

    // The address goes from one of them.
    let before = scene.tracked(family).await?;
    server.change(lease(53)).await?;
    let gap = client.begin_anew().await?;
    up(scene, 2, family, lease(53)).await?;
    let gone: Vec<&String> = before
        .iter()
        .filter(|(_, mark)| **mark == format!("mark={}", 2 << 24))
        .map(|(flow, _)| flow)
        .collect();
    let left = scene.tracked(family).await?;
    assert!(!gone.is_empty());
    for (flow, mark) in &before {
        assert_eq!(
            left.contains_key(flow),
            !gone.contains(&flow),
            "{flow} {mark}"
        );
    }
    flows.expect_unmoved(&[1]).await?;
    flows.expect_moved(2, home(2, gap)).await?;
    flows.expect_unmoved(&[1, 2]).await
}

/// What a provider does that has one address for all its customers.
fn translation(outside: Ipv4Addr) -> String {
    format!(
        "table ip provider {{
            chain postrouting {{
                type nat hook postrouting priority srcnat; policy accept;
                oifname core ip saddr 192.0.2.0/24 snat to {outside}
            }}
        }}"
    )
}

/// The prefix that the uplink 1 has first in the lab, and one that is no uplink's of the lab. Servers
/// take sources from the latter for those of an uplink with this number.
const FIRST: &str = "fd00:18:11::";
const SECOND: &str = "fd00:18:71::";
const OF_SECOND: u8 = 61;

fn advertised(prefixes: &[(&str, u64, u64)]) -> Result<Advertised, Box<dyn std::error::Error>> {
    let mut all = Vec::new();
    for (network, valid, preferred) in prefixes {
        all.push(Prefix {
            network: network.parse()?,
            valid: Duration::from_secs(*valid),
            preferred: Duration::from_secs(*preferred),
        });
    }
    Ok(Advertised { prefixes: all })
}

/// Router advertisements make an uplink. When its prefix is replaced, flows go on with the old one as
/// long as it is valid, and then with the new one. When the router withdraws, all go elsewhere.
pub(crate) async fn router_advertisements(case: &Case, family: Family) -> Outcome {
    let lab = Lab::builder().uplink_without(1, family);
    let scene = case.open(lab, TWO).await?;
    let uplink = scene.uplink(1)?;
    let provider = uplink.provider();
    for prefix in [FIRST, SECOND] {
        let own: Ipv6Addr = format!("{prefix}1").parse()?;
        give(provider, "access", own.into(), 64).await?;
    }
    let back = format!("ip -6 route add {SECOND}/64 via fd00:19:11::2");
    scene
        .lab
        .internet()
        .node()
        .must(ProgramSpec::line(&back))
        .await?;

    let first = advertised(&[(FIRST, 12, 10)])?;
    let advertiser = Advertiser::start(&scene.lab, uplink, &first).await?;
    let old = up_within(scene, family, FIRST).await?;
    let mut flows = scene.converse(family, &FLOWS).await?;
    assert!(flows.on(1) > 20 && flows.on(2) > 20, "{}", flows.on(1));

    let before = scene.tracked(family).await?;
    advertiser.change(&advertised(&[(FIRST, 1, 0), (SECOND, 600, 600)])?)?;
    up_within(scene, family, SECOND).await?;
    let addresses = scene
        .in_gateway("ip -6 -oneline address show dev wan1")
        .await?;
    assert!(addresses.contains(&old.to_string()), "{addresses}");
    flows.expect_unmoved(&[1, 2]).await?;
    let tally = scene.new_flows(Protocol::Udp, family, 60).await?;
    assert_eq!(tally.on(1), 0, "new flows have the new prefix: {tally}");
    assert!(tally.on(OF_SECOND) > 10 && tally.on(2) > 10, "{tally}");

    only_those_are_gone(scene, family, before, old).await?;
    flows.expect_unmoved(&[2]).await?;
    flows.expect_moved(1, &[OF_SECOND]).await?;

    advertiser.withdraw().await?;
    scene.until_state(1, family, State::Absent).await?;
    flows.expect_unmoved(&[2]).await?;
    flows.expect_moved(OF_SECOND, &[2]).await
}

const PPP: &str = "
uplinks:
  one: {interface: ppp0}
  two: {interface: wan2}
downlinks: [lan0]
";

/// A link with two ends and no gateway, as PPP makes it: the other end changes, then the own one.
pub(crate) async fn point_to_point(case: &Case, family: Family) -> Outcome {
    let lab = Lab::builder().uplink_without(1, family);
    let scene = case.prepare(lab).await?;
    let link = Link::make(scene).await?;
    link.connect(family, 2, 1).await?;
    scene.run_daemon(PPP).await?;
    let own = |last: u8| Link::end(family, last);
    ppp_is_up(scene, family, &own(2)).await?;
    scene.until_state(2, family, State::Up).await?;
    let mut flows = scene.converse(family, &FLOWS).await?;
    assert!(flows.on(1) > 20 && flows.on(2) > 20, "{}", flows.on(1));

    let before = scene.tracked(family).await?;
    link.connect(family, 2, 9).await?;
    ppp_is_up(scene, family, &own(2)).await?;
    flows.expect_unmoved(&[1, 2]).await?;
    assert_eq!(scene.tracked(family).await?, before);

    link.connect(family, 3, 9).await?;
    ppp_is_up(scene, family, &own(3)).await?;
    only_those_are_gone(scene, family, before, own(2).parse()?).await?;
    flows.expect_unmoved(&[2]).await?;
    flows.expect_moved(1, &[1]).await?;
    flows.expect_unmoved(&[1, 2]).await
}

/// A point-to-point link, `ppp0` at both ends, between the gateway and the first provider.
pub(crate) struct Link<'a> {
    gateway: &'a Node,
    provider: &'a Node,
}

impl<'a> Link<'a> {
    pub(crate) async fn make(scene: &'a Scene) -> Result<Self, Box<dyn std::error::Error>> {
        let (gateway, provider) = (scene.lab.gateway().node(), scene.uplink(1)?.provider());
        let (near, far) = (
            gateway.add_tun("ppp0").await?,
            provider.add_tun("ppp0").await?,
        );
        carry(provider, near.sent, far.deliver)?;
        carry(provider, far.sent, near.deliver)?;
        Ok(Self { gateway, provider })
    }

    /// Gives both ends their addresses, the gateway's and the provider's last numbers, in place of those
    /// that they had.
    pub(crate) async fn connect(&self, family: Family, own: u8, peer: u8) -> Outcome {
        let (own, peer) = (Self::end(family, own), Self::end(family, peer));
        let (kind, nodad) = match family {
            Family::Ipv4 => ("-4", ""),
            Family::Ipv6 => ("-6", "nodad"),
        };
        for (node, own, peer) in [(self.provider, &peer, &own), (self.gateway, &own, &peer)] {
            let flush = format!("ip {kind} address flush dev ppp0 scope global");
            node.must(ProgramSpec::line(&flush)).await?;
            let add = format!("ip {kind} address add {own} peer {peer} dev ppp0 {nodad}");
            node.must(ProgramSpec::line(&add)).await?;
        }
        Ok(())
    }

    fn end(family: Family, last: u8) -> String {
        match family {
            Family::Ipv4 => format!("198.18.11.{last}"),
            Family::Ipv6 => format!("fd00:18:11::{last}"),
        }
    }
}

/// Passes packets from one end of a link to the other.
fn carry(
    node: &Node,
    mut from: tokio::sync::mpsc::UnboundedReceiver<Vec<u8>>,
    to: tokio::sync::mpsc::UnboundedSender<Vec<u8>>,
) -> Result<(), LabError> {
    node.start_task(move || async move {
        while let Some(packet) = from.recv().await {
            if to.send(packet).is_err() {
                return;
            }
        }
    })
}

async fn give(node: &Node, interface: &str, address: IpAddr, prefix: u8) -> Outcome {
    let address = InterfaceAddress { address, prefix };
    Ok(node.add_address(interface, address).await?)
}

/// Waits until the link is used with an address, and up.
pub(crate) async fn ppp_is_up(scene: &Scene, family: Family, source: &str) -> Outcome {
    let tables = match family {
        Family::Ipv4 => "ip route show table all dev ppp0",
        Family::Ipv6 => "ip -6 route show table all dev ppp0",
    };
    scene
        .eventually(&format!("ppp0 is used as {source}"), || async {
            let routes = scene.in_gateway(tables).await?;
            let mut ours = routes
                .lines()
                .filter(|route| route.starts_with("default table 30"));
            Ok(ours.any(|route| route.contains(&format!("src {source} "))))
        })
        .await?;
    scene
        .until(&format!("ppp0 is up as {source}"), |status| {
            status.uplinks.iter().any(|uplink| {
                let found = match family {
                    Family::Ipv4 => &uplink.ipv4,
                    Family::Ipv6 => &uplink.ipv6,
                };
                uplink.interface == "ppp0"
                    && found.state == State::Up
                    && found.source.as_deref() == Some(source)
            })
        })
        .await?;
    Ok(())
}

async fn up_as(scene: &Scene, family: Family, lease: Lease) -> Outcome {
    up(scene, 1, family, lease).await
}

/// Waits until an uplink is up with what a lease gives, and the kernel has its route.
async fn up(scene: &Scene, number: u8, family: Family, lease: Lease) -> Outcome {
    let (source, gateway) = (lease.address.to_string(), lease.router.to_string());
    let what = format!("wan{number} is up as {source} via {gateway}");
    scene
        .until(&what, |status| {
            of(status, number, family).is_some_and(|found| {
                found.state == State::Up
                    && found.source.as_ref() == Some(&source)
                    && found.gateway.as_ref() == Some(&gateway)
            })
        })
        .await?;
    let table = format!("ip route show table {}", 300 + u16::from(number));
    let route = format!("via {gateway} dev wan{number} ");
    scene
        .eventually(&what, || async {
            let routes = scene.in_gateway(&table).await?;
            Ok(routes.contains(&route) && routes.contains(&format!("src {source} ")))
        })
        .await
}

/// Waits until the uplink 1 is up with an address of a prefix, and returns the address.
async fn up_within(
    scene: &Scene,
    family: Family,
    prefix: &str,
) -> Result<IpAddr, Box<dyn std::error::Error>> {
    let network = prefix.trim_end_matches(':');
    let has = |source: &Option<String>| {
        source
            .as_ref()
            .is_some_and(|source| source.starts_with(&format!("{network}:")))
    };
    let status = scene
        .until(&format!("wan1 is up within {prefix}"), |status| {
            of(status, 1, family)
                .is_some_and(|found| found.state == State::Up && has(&found.source))
        })
        .await?;
    let found = of(&status, 1, family).ok_or("no wan1")?;
    Ok(found.source.as_deref().ok_or("no source")?.parse()?)
}

/// Waits until no entry of users is left that has an address, and finds all others that were there before.
async fn only_those_are_gone(
    scene: &Scene,
    family: Family,
    before: BTreeMap<String, String>,
    address: IpAddr,
) -> Outcome {
    let list = match family {
        Family::Ipv4 => "conntrack -L -f ipv4",
        Family::Ipv6 => "conntrack -L -f ipv6",
    };
    let words = [format!("src={address} "), format!("dst={address} ")];
    let of_address = |text: &str| words.iter().any(|word| text.contains(word));
    // What was probed before the address was gone ends by itself.
    let is_probe = |entry: &&str| {
        let mark = entry
            .split_whitespace()
            .find_map(|word| word.strip_prefix("mark="));
        mark.and_then(|mark| mark.parse::<u32>().ok())
            .is_some_and(|mark| mark & 1 << 31 != 0)
    };
    scene
        .eventually(&format!("no entry of {address} is left"), || async {
            let entries = scene.in_gateway(list).await?;
            let mut users = entries.lines().filter(|entry| !is_probe(entry));
            Ok(!users.any(of_address))
        })
        .await?;
    let left = scene.tracked(family).await?;
    let others: Vec<&String> = before
        .keys()
        .filter(|flow| !of_address(&format!("{flow} ")))
        .collect();
    assert!(!others.is_empty() && others.len() < before.len());
    for flow in others {
        assert_eq!(left.get(flow), before.get(flow), "{flow}");
    }
    Ok(())
}
