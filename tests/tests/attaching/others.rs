//! Programs and filters of the user's, before and behind ours, see the packets that they see without
//! us.

use std::collections::BTreeMap;

use failover::family::Family;
use failover_tests::daemon::Status;
use failover_tests::programs::Order;
use failover_tests::{Host, Lab, LabError, Node, ProgramSpec, Protocol, Traffic};

use crate::hanging::{listed, places};
use crate::users::Counters;
use crate::{Hook, SystemTest, TestResult, VERDICT};

pub(crate) fn tests(hook: Hook) -> Vec<SystemTest> {
    vec![SystemTest::new(
        format!("{hook}_others_count_the_same_packets_with_us_as_without_us"),
        move || same(hook),
    )]
}

/// One uplink, so that all traffic goes the same way with us and without us. No probe is sent but
/// the first ones, since they are packets, too.
const CONFIG: &str = r#"
uplinks:
  one: {interface: wan1, id: 1}
downlinks: [lan0]
mode: ebpf
probe:
  targets: [icmp://203.0.113.1, "icmp://fd00:203::1"]
  interval: 60s
"#;

/// The user's own translation, without which nothing would be answered while there is no daemon.
const TRANSLATION: &str = r#"
table inet users {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname "wan1" masquerade
    }
}
"#;

/// Hosts repeat for seconds which multicast groups they have joined, and look for routers.
const SILENCE: &str = r#"
table ip6 silence {
    chain output {
        type filter hook output priority filter; policy accept;
        icmpv6 type {
            mld-listener-report, mld2-listener-report, mld-listener-done, nd-router-solicit
        } drop
    }
}
"#;

/// Where programs of the user's stand.
const SIDES: [(&str, &str); 4] = [
    ("lan0", "ingress"),
    ("lan0", "egress"),
    ("wan1", "ingress"),
    ("wan1", "egress"),
];

/// How many flows of each kind the client opens; each is a packet there and one back.
const FLOWS: u64 = 25;

async fn same(hook: Hook) -> TestResult {
    let lab = Lab::builder().uplinks(1).capture(false).build().await?;
    let gateway = lab.gateway().node();
    gateway.nft(TRANSLATION).await?;
    quiet(&lab).await?;
    let has_tcx = Hook::all().contains(&Hook::Tcx);
    let mut users = Counters::default();
    for interface in ["lan0", "wan1"] {
        let command = format!("tc qdisc add dev {interface} clsact");
        gateway.must(ProgramSpec::line(&command)).await?;
    }
    for (interface, side) in SIDES {
        users.filter(&lab, interface, side, 50).await?;
        users.filter(&lab, interface, side, 300).await?;
        if has_tcx {
            users.tcx(&lab, interface, side, Order::First).await?;
            users.tcx(&lab, interface, side, Order::Last).await?;
        }
    }
    all_see_the_same(&lab, &[&users], "without us").await?;
    let theirs = listed(gateway).await?;

    let daemon = hook.failover(&lab, CONFIG)?.run().await?;
    let verdicts = |status: &Status| {
        let uplink = status.uplink("one");
        uplink.is_some_and(|one| one.ipv4.rtt_ms.is_some() && one.ipv6.rtt_ms.is_some())
    };
    daemon
        .wait_until("the first probes are answered", VERDICT, verdicts)
        .await?;
    assert_eq!(listed(gateway).await?.len(), theirs.len() + 3);
    all_see_the_same(&lab, &[&users], "attached before us").await?;

    // Before and behind ours, which hang by now.
    let mut later = Counters::default();
    for (interface, side) in SIDES {
        later.filter(&lab, interface, side, 10).await?;
        later.filter(&lab, interface, side, 500).await?;
        if has_tcx {
            later.tcx(&lab, interface, side, Order::First).await?;
            later.tcx(&lab, interface, side, Order::Last).await?;
        }
    }
    all_see_the_same(&lab, &[&users, &later], "attached after us").await?;

    let both = listed(gateway).await?;
    let failover = daemon.failover().clone();
    daemon.terminate().await?;
    let cleaned = failover.command("clean").await?;
    assert!(cleaned.status.success(), "{cleaned:?}");
    let left = listed(gateway).await?;
    assert_eq!(left.len(), both.len() - 3, "{:?}", places(gateway).await?);
    for theirs in theirs {
        assert!(left.contains(&theirs), "{theirs:?} is gone");
    }
    all_see_the_same(&lab, &[&users, &later], "without us again").await?;
    Ok(())
}

/// While the client talks, every counter sees every packet, and those at one place the same bytes.
async fn all_see_the_same(lab: &Lab, users: &[&Counters], when: &str) -> TestResult {
    let passed = || -> Result<Vec<_>, Box<dyn std::error::Error>> {
        let each = users.iter().map(|users| users.passed());
        Ok(each.collect::<Result<Vec<_>, _>>()?.concat())
    };
    let before = passed()?;
    traffic(lab.client(1)?).await?;
    let mut by_place = BTreeMap::new();
    for (before, after) in before.iter().zip(passed()?) {
        let packets = after.count.packets - before.count.packets;
        let bytes = after.count.bytes - before.count.bytes;
        assert_eq!(packets, 4 * FLOWS, "{when}: {}", after.name);
        let same = *by_place.entry(after.place).or_insert(bytes);
        assert_eq!(bytes, same, "{when}: {}", after.name);
    }
    assert_eq!(by_place.len(), SIDES.len());
    Ok(())
}

/// Flows of a packet there and one back; TCP has as many as it likes.
async fn traffic(client: &Host) -> TestResult {
    for family in Family::ALL {
        for protocol in [Protocol::Udp, Protocol::Icmp] {
            let asked = client
                .burst(Traffic::new(protocol, family, usize::try_from(FLOWS)?))
                .await?;
            for answer in asked {
                assert_eq!(answer.map(drop), Ok(()), "{protocol} {family}");
            }
        }
    }
    Ok(())
}

/// Only the client talks: neighbours that are known for good are never asked for, and what hosts tell
/// of themselves does not get out.
async fn quiet(lab: &Lab) -> Result<(), LabError> {
    let (gateway, client) = (lab.gateway().node(), lab.client(1)?.node());
    let provider = lab.uplink(1)?.provider();
    for node in [gateway, client, provider] {
        node.nft(SILENCE).await?;
    }
    let links: [(&Node, &str, &Node, &str); 2] = [
        (gateway, "lan0", client, "eth0"),
        (gateway, "wan1", provider, "access"),
    ];
    for (near, near_interface, far, far_interface) in links {
        for (node, interface, other, others) in [
            (near, near_interface, far, far_interface),
            (far, far_interface, near, near_interface),
        ] {
            let mac = other.hardware_address(others).await?;
            let mac = mac.map(|byte| format!("{byte:02x}")).join(":");
            for address in addresses(other, others).await? {
                let command = format!(
                    "ip neigh replace {address} lladdr {mac} dev {interface} nud permanent"
                );
                node.must(ProgramSpec::line(&command)).await?;
            }
        }
    }
    Ok(())
}

/// The addresses of an interface.
async fn addresses(node: &Node, interface: &str) -> Result<Vec<String>, LabError> {
    let command = format!("ip -oneline address show dev {interface}");
    let text = node.must(ProgramSpec::line(&command)).await?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_whitespace().nth(3))
        .filter_map(|address| address.split('/').next())
        .map(str::to_owned)
        .collect())
}
