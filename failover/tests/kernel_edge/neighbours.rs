//! Hardware addresses of neighbours are read and told, of the interfaces that were asked for.

use std::net::IpAddr;

use failover::kernel::network::NetworkObserver;
use failover::kernel::watch::{self, Change, Watch};
use failover::network::MacAddress;
use libtest_mimic::Trial;

use super::namespace::{PATIENCE, index, run, trial, uplinks};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "neighbours: those of the wanted interfaces are read, in both families",
            read,
        ),
        trial(
            "neighbours: a new hardware address is told once, a new state is not",
            told,
        ),
    ]
}

const A: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const B: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn read() {
    uplinks();
    run("ip neighbour replace 198.18.11.77 dev wan1 lladdr 02:00:00:00:00:01 nud stale");
    run("ip neighbour replace fe80::77 dev wan1 lladdr 02:00:00:00:00:02 nud permanent");
    run("ip neighbour replace 198.18.12.77 dev wan2 lladdr 02:00:00:00:00:01 nud stale");
    let mut observer = NetworkObserver::open().unwrap();
    assert!(observer.view().await.unwrap().neighbours.is_empty());
    observer.follow_neighbours(["wan1".parse().unwrap(), "gone0".parse().unwrap()].into());
    let found = observer.view().await.unwrap().neighbours;
    let wan1 = index("wan1");
    assert_eq!(found.get(&(wan1, address("198.18.11.77"))), Some(&A));
    assert_eq!(found.get(&(wan1, address("fe80::77"))), Some(&B));
    assert!(
        found.keys().all(|(interface, _)| *interface == wan1),
        "{found:?}"
    );
}

async fn told() {
    uplinks();
    let Watch {
        mut changes,
        mut neighbours,
        ..
    } = watch::start(0).unwrap();
    let (wan1, wan2) = (index("wan1"), index("wan2"));
    run("ip neighbour replace 198.18.11.77 dev wan1 lladdr 02:00:00:00:00:01 nud stale");
    assert!(neighbours.follow(&[wan1].into()).unwrap());
    assert!(!neighbours.follow(&[wan1].into()).unwrap());
    for change in [
        "198.18.12.77 dev wan2 lladdr 02:00:00:00:00:02 nud stale",
        "198.18.11.78 dev wan1 lladdr 02:00:00:00:00:01 nud stale",
        "198.18.11.78 dev wan1 lladdr 02:00:00:00:00:01 nud reachable",
        "198.18.11.78 dev wan1 lladdr 02:00:00:00:00:01 nud stale",
        "198.18.11.78 dev wan1 lladdr 02:00:00:00:00:02 nud stale",
    ] {
        run(&format!("ip neighbour replace {change}"));
    }
    neighbours.follow(&[wan1, wan2].into()).unwrap();
    run("ip neighbour replace 198.18.12.79 dev wan2 lladdr 02:00:00:00:00:01 nud stale");
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let change = tokio::time::timeout(PATIENCE, changes.recv()).await;
        let change = change.expect("a change should have been noticed").unwrap();
        if let Change::Neighbour {
            interface,
            address,
            mac,
        } = change
        {
            // The kernel looks for others by itself.
            if address.is_ipv4() {
                seen.push((interface, address, mac));
            }
        }
    }
    let wanted = [
        (wan1, address("198.18.11.78"), A),
        (wan1, address("198.18.11.78"), B),
        (wan2, address("198.18.12.79"), A),
    ];
    assert_eq!(seen, wanted);
}
