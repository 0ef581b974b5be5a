//! What changes is noticed, and our own changes are not.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Instant;

use failover::family::Family;
use failover::kernel::nftables::Nft;
use failover::kernel::routing::NetlinkRouting;
use failover::kernel::watch::{self, Change, Watch};
use failover::kernel::{Firewall, RoutingTables};
use failover::wanted::routing::{
    Action, NextHop, Origin, Route, RoutingChange, Rule, Selector, TableId, To,
};
use libtest_mimic::Trial;
use rtnetlink::LinkUnspec;
use tokio::sync::mpsc::Receiver;

use super::namespace::{PATIENCE, feed, index, ip, run, trial, uplinks};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("watching: links are told, by their own message", links),
        trial(
            "watching: addresses and others' default routes are told",
            addresses_and_routes,
        ),
        trial(
            "watching: our rules and routes are told when others take them, not when we do",
            own_and_others,
        ),
        trial(
            "watching: a flushed ruleset is told, others' tables are not",
            firewall,
        ),
        trial(
            "watching: large tables of ours are not told, what others do to them is",
            large_tables,
        ),
        trial("watching: what was lost is told", lost),
    ]
}

async fn next(changes: &mut Receiver<Change>) -> Change {
    tokio::time::timeout(PATIENCE, changes.recv())
        .await
        .expect("a change should have been noticed")
        .unwrap()
}

/// Everything up to a change that is made for the purpose.
async fn until_mark(changes: &mut Receiver<Change>, name: &str) -> Vec<Change> {
    run(&format!("ip link add {name} type veth peer name {name}p"));
    let mut seen = Vec::new();
    loop {
        match next(changes).await {
            Change::Link { name: found, .. } if found.as_str() == name => return seen,
            Change::Link { name: found, .. } if found.as_str() == format!("{name}p") => {}
            other => seen.push(other),
        }
    }
}

/// A watch that has told every link that was there when it began.
async fn started(own_port: u32) -> Receiver<Change> {
    let mut missing: BTreeSet<_> = ip("link show")
        .iter()
        .map(|link| link["ifname"].as_str().unwrap().to_owned())
        .collect();
    let mut changes = watch::start(own_port).unwrap().changes;
    while !missing.is_empty() {
        if let Change::Link { name, .. } = next(&mut changes).await {
            missing.remove(name.as_str());
        }
    }
    until_mark(&mut changes, "mark0").await;
    changes
}

/// Name, and whether it is enabled and has a carrier.
fn seen_link(change: &Change) -> Option<(String, Option<(bool, bool)>)> {
    match change {
        Change::Link { name, link } => Some((
            name.to_string(),
            link.as_ref().map(|link| (link.enabled, link.carrier)),
        )),
        _ => None,
    }
}

async fn links() {
    uplinks();
    let mut changes = started(0).await;

    // Loss of carrier: how long from the order until it is told.
    let (connection, handle, _) = rtnetlink::new_connection().unwrap();
    tokio::spawn(connection);
    let peer = index("isp1").0;
    let mut latencies = Vec::new();
    for _ in 0..10 {
        let begin = Instant::now();
        let order = LinkUnspec::new_with_index(peer).down().build();
        handle.link().set(order).execute().await.unwrap();
        loop {
            let change = next(&mut changes).await;
            if seen_link(&change) == Some(("wan1".to_owned(), Some((true, false)))) {
                break;
            }
        }
        latencies.push(begin.elapsed());
        let order = LinkUnspec::new_with_index(peer).up().build();
        handle.link().set(order).execute().await.unwrap();
        while seen_link(&next(&mut changes).await) != Some(("wan1".to_owned(), Some((true, true))))
        {
        }
    }
    latencies.sort();
    println!(
        "measured: loss of carrier told after {:?} (median), {:?} (longest)",
        latencies[5], latencies[9]
    );
    until_mark(&mut changes, "mark2").await;

    // A new name is told as both; a bridge's port that leaves it is not gone.
    run("ip link set wan2 down; ip link set wan2 name wan9");
    let seen = until_mark(&mut changes, "mark3").await;
    let seen: Vec<_> = seen.iter().filter_map(seen_link).collect();
    assert!(seen.contains(&("wan2".to_owned(), None)), "{seen:?}");
    assert!(
        seen.contains(&("wan9".to_owned(), Some((false, false)))),
        "{seen:?}"
    );

    run("ip link add br0 type bridge; ip link set wan1 master br0; ip link set wan1 nomaster");
    let seen = until_mark(&mut changes, "mark4").await;
    let gone: Vec<_> = seen
        .iter()
        .filter(|change| matches!(change, Change::Link { link: None, .. }))
        .collect();
    assert!(gone.is_empty(), "{gone:?}");

    run("ip link delete wan1");
    let seen = until_mark(&mut changes, "mark5").await;
    assert!(
        seen.iter().any(
            |change| matches!(change, Change::Link { name, link: None } if name.as_str() == "wan1")
        ),
        "{seen:?}"
    );
}

async fn addresses_and_routes() {
    uplinks();
    let mut changes = started(0).await;
    for (number, (command, wanted)) in [
        ("ip address add 198.18.41.2/24 dev wan1", Change::Addresses),
        (
            "ip address del 198.18.41.2/24 dev wan1",
            Change::AddressGone,
        ),
        (
            "ip address add fd00:41::2/64 dev wan1 nodad",
            Change::Addresses,
        ),
        ("ip route add default via 198.18.11.1", Change::Routes),
        ("ip route del default", Change::Routes),
        (
            "ip -6 route add default via fe80::1 dev wan1",
            Change::Routes,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        run(command);
        // An IPv6 address is told by a worker of the kernel's, maybe after the mark.
        while next(&mut changes).await != wanted {}
        until_mark(&mut changes, &format!("mark{}", number + 1)).await;
    }
    // Others' routes to somewhere are none of our business.
    run("ip route add 192.0.2.0/24 via 198.18.11.1; ip route del 192.0.2.0/24");
    run("ip rule add pref 5000 lookup 77; ip rule del pref 5000");
    assert_eq!(until_mark(&mut changes, "mark8").await, []);
}

async fn own_and_others() {
    uplinks();
    let mut routing = NetlinkRouting::open().unwrap();
    let mut changes = started(routing.port()).await;
    let wan1 = index("wan1");
    let ours = |family, gateway: &str| {
        [
            RoutingChange::AddRule(Rule {
                priority: 1000,
                family,
                origin: Origin::Any,
                selector: Selector::ALL,
                action: Action::Lookup(TableId(301)),
            }),
            RoutingChange::ReplaceRoute(Route {
                table: TableId(301),
                family,
                to: To::Hops {
                    hops: vec![NextHop {
                        interface: wan1,
                        gateway: Some(gateway.parse().unwrap()),
                        onlink: false,
                        weight: 1,
                    }],
                    source: None,
                },
            }),
        ]
    };
    let [rule4, route4] = ours(Family::Ipv4, "198.18.11.1");
    let [rule6, route6] = ours(Family::Ipv6, "fd00:11::1");
    let all = [&rule4, &route4, &rule6, &route6];
    for change in all {
        routing.change(change).await.unwrap();
    }
    assert_eq!(until_mark(&mut changes, "mark1").await, []);

    for (number, (command, wanted)) in [
        ("ip rule del pref 1000", Change::Rules),
        ("ip -6 rule del pref 1000", Change::Rules),
        ("ip route flush table 301", Change::Routes),
        ("ip -6 route flush table 301", Change::Routes),
    ]
    .into_iter()
    .enumerate()
    {
        run(command);
        let seen = until_mark(&mut changes, &format!("other{number}")).await;
        assert_eq!(seen, [wanted], "`{command}`");
    }
    for change in all {
        routing.change(change).await.unwrap();
    }
    assert_eq!(until_mark(&mut changes, "mark2").await, []);
    // Replaced by someone else's.
    run("ip route replace default via 198.18.12.1 table 301");
    assert_eq!(until_mark(&mut changes, "mark3").await, [Change::Routes]);
}

async fn firewall() {
    let mut changes = started(0).await;
    let mut nft = Nft::find().unwrap();
    nft.replace("table inet failover { chain c { }; }")
        .await
        .unwrap();
    assert_eq!(next(&mut changes).await, Change::Firewall);
    assert!(nft.intact().await.unwrap());
    until_mark(&mut changes, "mark1").await;

    run(
        "nft add table inet other; nft add table ip failover; nft add chain inet other c;
         nft delete table inet other; nft delete table ip failover",
    );
    // By another socket than links: whatever was told would have come before this.
    run("nft add rule inet failover c accept");
    let mut seen = until_mark(&mut changes, "mark2").await;
    if seen.is_empty() {
        seen.push(next(&mut changes).await);
    }
    assert_eq!(seen, [Change::Firewall]);
    assert!(!nft.intact().await.unwrap());

    nft.replace("table inet failover { chain c { }; }")
        .await
        .unwrap();
    assert_eq!(next(&mut changes).await, Change::Firewall);
    assert!(nft.intact().await.unwrap());
    run("nft flush ruleset");
    assert_eq!(next(&mut changes).await, Change::Firewall);
    assert!(!nft.intact().await.unwrap());
}

async fn large_tables() {
    let elements: Vec<String> = (0..20_000_u32)
        .map(|n| Ipv4Addr::from(0xc612_0000 + 2 * n).to_string())
        .collect();
    let table = format!(
        "table inet failover {{
  set addresses4_0 {{
    type ipv4_addr
    flags interval
    elements = {{ {} }}
  }}
  chain c {{
    ip daddr @addresses4_0 accept
  }}
}}
",
        elements.join(", ")
    );
    let Watch {
        mut changes,
        table: listener,
        ..
    } = watch::start(0).unwrap();
    let mut nft = Nft::find().unwrap();
    nft.spare(listener);
    until_mark(&mut changes, "mark1").await;
    let begin = Instant::now();
    nft.replace(&table).await.unwrap();
    println!("measured: 20000 addresses: replace() {:?}", begin.elapsed());
    assert!(nft.intact().await.unwrap());
    assert_eq!(until_mark(&mut changes, "mark2").await, []);
    // What is small is told, and the set is not written anew.
    let begin = Instant::now();
    nft.replace(&table.replace("@addresses4_0 accept", "@addresses4_0 drop"))
        .await
        .unwrap();
    println!(
        "measured: a chain beside them: replace() {:?}",
        begin.elapsed()
    );
    assert_eq!(next(&mut changes).await, Change::Firewall);
    let begin = Instant::now();
    assert!(nft.intact().await.unwrap());
    println!("measured: 20000 addresses: intact() {:?}", begin.elapsed());
    until_mark(&mut changes, "mark3").await;
    run("nft delete element inet failover addresses4_0 '{ 198.18.0.2 }'");
    assert_eq!(next(&mut changes).await, Change::Firewall);
    assert!(!nft.intact().await.unwrap());
}

async fn lost() {
    uplinks();
    let mut changes = started(0).await;
    // Nobody reads here while `ip` runs: the watcher's tasks wait for this thread.
    let addresses: String = (0..12_000)
        .map(|n| {
            let (high, low) = (n / 250, n % 250);
            format!("address add 198.19.{high}.{low}/32 dev wan1\n")
        })
        .collect();
    feed("ip -batch -", &addresses);
    let mut seen = Vec::new();
    while !seen.contains(&Change::Lost) {
        seen.push(next(&mut changes).await);
    }
    // And after that it goes on.
    run("ip link set wan2 down");
    loop {
        if let Change::Link {
            name,
            link: Some(link),
        } = next(&mut changes).await
            && name.as_str() == "wan2"
            && !link.enabled
        {
            return;
        }
    }
}
