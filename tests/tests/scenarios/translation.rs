//! Which address flows have when they leave.

use std::net::IpAddr;

use failover::family::Family;
use failover_tests::addressing::InterfaceAddress;
use failover_tests::{Lab, ProgramSpec, Protocol, Tally, Traffic};

use crate::Outcome;
use crate::case::Case;
use crate::scene::{PATIENT, Scene};

const GIVEN_SOURCES: &str = r#"
uplinks:
  one: {interface: wan1}
  two: {interface: wan2, source: 198.18.12.2, source6: "fd00:18:12::2"}
downlinks: [lan0]
"#;

/// The user's own source translation comes first, and ours keeps out of it.
pub(crate) async fn users_own(case: &Case, family: Family) -> Outcome {
    let scene = case.prepare(Lab::builder()).await?;
    let (keyword, own, prefix) = match family {
        Family::Ipv4 => ("ip", "198.18.12.77", 32),
        Family::Ipv6 => ("ip6", "fd00:18:12::77", 128),
    };
    let gateway = scene.lab.gateway().node();
    let address: IpAddr = own.parse()?;
    gateway
        .add_address("wan2", InterfaceAddress { address, prefix })
        .await?;
    let rules = format!(
        "table {keyword} users_own {{
            chain postrouting {{
                type nat hook postrouting priority srcnat; policy accept;
                oifname wan2 {keyword} daddr 203.0.113.11-203.0.113.15 snat to {own}
            }}
        }}"
    );
    let rules = match family {
        Family::Ipv4 => rules,
        Family::Ipv6 => rules.replace("203.0.113.11-203.0.113.15", "fd00:203::11-fd00:203::15"),
    };
    gateway.nft(rules).await?;
    scene.run_daemon(GIVEN_SOURCES).await?;
    scene.until_all_up().await?;
    for protocol in Protocol::ALL {
        let asked = scene
            .client()?
            .burst(Traffic::new(protocol, family, 60).within(PATIENT))
            .await?;
        let tally = Tally::of(&asked);
        assert!(tally.on(1) > 10 && tally.on(2) > 10, "{tally}");
        assert_eq!(tally.unanswered, 0, "{protocol}: {tally}");
        for answer in asked.into_iter().flatten() {
            if answer.uplink() == Some(2) {
                assert_eq!(answer.seen.ip(), address, "{protocol}");
            } else {
                let ours = scene.uplink(1)?.gateway_address(family);
                assert_eq!(Some(answer.seen.ip()), ours, "{protocol}");
            }
        }
    }
    scene.expect_no_strays_since(None)
}

const ONE_UNTRANSLATED: &str = "
uplinks:
  one: {interface: wan1, nat: none}
  two: {interface: wan2}
downlinks: [lan0]
";

const NONE: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2, nat: masquerade}
downlinks: [lan0]
nat: none
";

pub(crate) async fn none_for_one(case: &Case, family: Family) -> Outcome {
    untranslated_on_one(case, family, ONE_UNTRANSLATED).await
}

pub(crate) async fn none_but_for_one(case: &Case, family: Family) -> Outcome {
    untranslated_on_one(case, family, NONE).await
}

const PREFIX: &str = r#"
uplinks:
  one: {interface: wan1, prefixes6: ["fd00:18::/64"]}
  two: {interface: wan2}
downlinks: [lan0]
"#;

/// The network behind has addresses of the first uplink's prefix.
pub(crate) async fn own_prefix(case: &Case, family: Family) -> Outcome {
    untranslated_on_one(case, family, PREFIX).await
}

/// What leaves by uplink 1 has the client's own address, what leaves by uplink 2 has that uplink's.
async fn untranslated_on_one(case: &Case, family: Family, config: &str) -> Outcome {
    let scene = case.open(Lab::builder(), config).await?;
    let client = scene.client()?.address(family).ok_or("no address")?;
    route_back(scene, family).await?;
    for protocol in Protocol::ALL {
        let asked = scene
            .client()?
            .burst(Traffic::new(protocol, family, 60).within(PATIENT))
            .await?;
        let tally = Tally::of(&asked);
        assert_eq!(tally.unanswered, 0, "{protocol}: {tally}");
        assert!(tally.elsewhere > 10 && tally.on(2) > 10, "{tally}");
        let theirs = scene.uplink(2)?.gateway_address(family);
        for answer in asked.into_iter().flatten() {
            let seen = answer.seen.ip();
            assert!(seen == client || Some(seen) == theirs, "{protocol}: {seen}");
        }
    }
    for (number, source) in [
        (1, Some(client)),
        (2, scene.uplink(2)?.gateway_address(family)),
    ] {
        let seen = scene.uplink(number)?.capture()?.flows()?;
        assert!(seen.len() > 30, "{} by wan{number}", seen.len());
        for flow in seen {
            assert_eq!(Some(flow.key.source.ip()), source, "by wan{number}");
        }
    }
    Ok(())
}

/// The internet knows the way to the clients, by provider 1.
pub(crate) async fn route_back(scene: &Scene, family: Family) -> Outcome {
    let clients = match family {
        Family::Ipv4 => "198.18.0.0/24",
        Family::Ipv6 => "fd00:18::/64",
    };
    route_prefix_back(scene, family, clients, 1).await
}

/// The internet knows the way to a prefix behind the gateway, by a provider.
pub(crate) async fn route_prefix_back(
    scene: &Scene,
    family: Family,
    prefix: &str,
    number: u8,
) -> Outcome {
    let uplink = scene.uplink(number)?;
    let gateway = uplink.gateway_address(family).ok_or("no address")?;
    let (option, provider) = match family {
        Family::Ipv4 => ("-4", format!("198.19.{}.2", 10 + number)),
        Family::Ipv6 => ("-6", format!("fd00:19:{}::2", 10 + number)),
    };
    for (node, via) in [
        (scene.lab.internet().node(), provider),
        (uplink.provider(), gateway.to_string()),
    ] {
        let line = format!("ip {option} route add {prefix} via {via}");
        node.must(ProgramSpec::line(&line)).await?;
    }
    Ok(())
}
