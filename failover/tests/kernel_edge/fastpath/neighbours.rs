//! Neighbours are read, told and asked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::{Child, Command};
use std::time::Instant;

use failover::fastpath::edge::Surroundings;
use failover::fastpath::facts::{Neighbour, News};
use failover::network::MacAddress;
use libtest_mimic::Trial;

use super::{kernel, news_until};
use crate::namespace::{PATIENCE, index, ip, run, trial, uplinks};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "fast path: neighbours are read with what their state says",
            read,
        ),
        trial(
            "fast path: a neighbour that changes is told, a state that changes nothing is not",
            told,
        ),
        trial(
            "fast path: a stale neighbour that is used is asked, and what others wrote stays",
            used,
        ),
    ]
}

const A: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const B: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

const fn known(mac: MacAddress, is_stale: bool) -> Neighbour {
    Neighbour {
        mac: Some(mac),
        is_stale,
    }
}

const GONE: Neighbour = Neighbour {
    mac: None,
    is_stale: false,
};

async fn read() {
    uplinks();
    for (neighbour, mac, state) in [
        ("198.18.11.71", "lladdr 02:00:00:00:00:01", "stale"),
        ("198.18.11.72", "lladdr 02:00:00:00:00:02", "permanent"),
        ("198.18.11.73", "lladdr 02:00:00:00:00:01", "noarp"),
        ("198.18.11.74", "lladdr 02:00:00:00:00:01", "reachable"),
        ("fd00:11::71", "lladdr 02:00:00:00:00:01", "stale"),
        ("fd00:11::72", "lladdr 02:00:00:00:00:02", "permanent"),
        ("198.18.11.75", "", "failed"),
        ("fd00:11::75", "", "failed"),
        ("198.18.11.76", "", "incomplete"),
    ] {
        run(&format!(
            "ip neighbour add {neighbour} dev wan1 {mac} nud {state}"
        ));
    }
    let mut found = kernel().neighbours().unwrap();
    let wan1 = index("wan1");
    // Beside what the kernel finds by itself.
    found.retain(|(interface, address), _| *interface == wan1 && !address.is_multicast());
    let wanted: BTreeMap<_, _> = [
        ("198.18.11.71", known(A, true)),
        ("198.18.11.72", known(B, false)),
        ("198.18.11.73", known(A, false)),
        ("198.18.11.74", known(A, false)),
        ("fd00:11::71", known(A, true)),
        ("fd00:11::72", known(B, false)),
    ]
    .map(|(text, neighbour)| ((wan1, address(text)), neighbour))
    .into();
    assert_eq!(found, wanted);
}

async fn told() {
    uplinks();
    let mut kernel = kernel();
    for neighbour in ["198.18.11.77", "fd00:11::77"] {
        for change in [
            "replace IT dev wan1 lladdr 02:00:00:00:00:01 nud reachable",
            "replace IT dev wan1 lladdr 02:00:00:00:00:01 nud delay",
            "replace IT dev wan1 lladdr 02:00:00:00:00:01 nud stale",
            "replace IT dev wan1 lladdr 02:00:00:00:00:02 nud stale",
            "change IT dev wan1 nud failed",
            "replace IT dev wan1 lladdr 02:00:00:00:00:02 nud permanent",
            "del IT dev wan1",
        ] {
            run(&format!("ip neighbour {}", change.replace("IT", neighbour)));
        }
    }
    // What a bridge learns is none of it.
    run("ip link add br0 type bridge; ip link set isp2 master br0
         bridge fdb add 02:00:00:00:00:09 dev isp2 master static
         ip neighbour add 198.18.11.78 dev wan1 lladdr 02:00:00:00:00:01 nud permanent");
    let last = address("198.18.11.78");
    let is_last = |news: &News| matches!(news, News::Neighbour { address, .. } if *address == last);
    let news = news_until(&mut kernel, |news| news.iter().any(is_last));
    let wan1 = index("wan1");
    for text in ["198.18.11.77", "fd00:11::77"] {
        let of_it: Vec<_> = news
            .iter()
            .filter_map(|news| match news {
                News::Neighbour {
                    interface,
                    address: found,
                    neighbour,
                } if *interface == wan1 && *found == address(text) => Some(*neighbour),
                _ => None,
            })
            .collect();
        // In the end it fails for good, and is deleted.
        let wanted = [
            known(A, false),
            known(A, true),
            known(B, true),
            GONE,
            known(B, false),
            GONE,
        ];
        assert_eq!(of_it, wanted, "{text}");
    }
    assert!(!news.contains(&News::Lost));
}

/// A network namespace that ends with the test.
struct Elsewhere(Child);

impl Elsewhere {
    /// With an interface of ours.
    fn with(interface: &str) -> Self {
        let child = Command::new("unshare")
            .args(["-n", "sleep", "60"])
            .spawn()
            .unwrap();
        let elsewhere = Self(child);
        let deadline = Instant::now() + PATIENCE;
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let its = format!("/proc/{}/ns/net", elsewhere.0.id());
        while std::fs::read_link(&its).unwrap() == own {
            assert!(Instant::now() < deadline);
        }
        run(&format!(
            "ip link set {interface} netns {}",
            elsewhere.0.id()
        ));
        elsewhere
    }

    fn run(&self, line: &str) -> String {
        run(&format!("nsenter -t {} -n sh -ec '{line}'", self.0.id()))
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

async fn used() {
    uplinks();
    let provider = Elsewhere::with("isp1");
    provider.run(
        "ip link set isp1 address 02:00:00:00:00:01 up
         ip address add 198.18.11.1/24 dev isp1
         ip address add fd00:11::1/64 dev isp1 nodad",
    );
    // Questions of IPv6 come from a link-local address.
    run("ip address add fe80::2/64 dev wan1 nodad");
    // From a packet to the question it takes five seconds otherwise.
    run("sysctl -qw net.ipv4.neigh.wan1.delay_first_probe_time=0 \
         net.ipv6.neigh.wan1.delay_first_probe_time=0");
    let wan1 = index("wan1");
    let gateways = [address("198.18.11.1"), address("fd00:11::1")];
    for gateway in gateways {
        run(&format!(
            "ip neighbour add {gateway} dev wan1 lladdr 02:00:00:00:00:01 nud stale"
        ));
    }
    run(
        "ip neighbour add 198.18.11.72 dev wan1 lladdr 02:00:00:00:00:02 nud permanent
         ip neighbour add fd00:11::72 dev wan1 lladdr 02:00:00:00:00:02 nud permanent
         ip neighbour add 198.18.11.73 dev wan1 lladdr 02:00:00:00:00:02 nud stale extern_learn
         ip neighbour add fd00:11::74 dev wan1 lladdr 02:00:00:00:00:02 nud stale extern_learn",
    );
    let others = || {
        let mut others = ip("neighbour show dev wan1");
        others.retain(|neighbour| neighbour["lladdr"] == "02:00:00:00:00:02");
        others
            .iter()
            .map(|other| {
                (
                    other["dst"].clone(),
                    other["state"].clone(),
                    other["extern_learn"].clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    let before = others();
    assert_eq!(before.len(), 4);
    let mut kernel = kernel();
    let all: Vec<_> = [
        "198.18.11.1",
        "fd00:11::1",
        "198.18.11.72",
        "fd00:11::72",
        "198.18.11.73",
        "fd00:11::74",
        // Neither of these is there.
        "198.18.11.99",
        "fd00:11::99",
    ]
    .map(|text| (wan1, address(text)))
    .into();
    kernel.use_neighbours(&all).unwrap();
    kernel
        .use_neighbours(&[(failover::interface::InterfaceIndex(9999), gateways[0])])
        .unwrap();
    news_until(&mut kernel, |news| {
        gateways.iter().all(|gateway| {
            news.contains(&News::Neighbour {
                interface: wan1,
                address: *gateway,
                neighbour: known(A, false),
            })
        })
    });
    // Asked, and answered.
    let deadline = Instant::now() + PATIENCE;
    for gateway in gateways {
        while !run(&format!("ip neighbour show {gateway} dev wan1")).contains("REACHABLE") {
            assert!(Instant::now() < deadline, "{gateway}");
        }
    }
    assert_eq!(others(), before);
    assert_eq!(run("ip neighbour show 198.18.11.99"), "");
}
