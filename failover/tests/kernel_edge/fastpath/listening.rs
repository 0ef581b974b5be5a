//! What ends and what changes is told.

use std::time::{Duration, Instant};

use failover::fastpath::edge::Surroundings;
use failover::fastpath::facts::{News, Port};
use failover::fastpath::judging::Lifetimes;
use failover::flows::Protocol;
use libtest_mimic::Trial;

use super::connections::UDP;
use super::{kernel, news_until};
use crate::namespace::{feed, index, run, trial, uplinks};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "fast path: the ends of entries that have lasted are told, also of older ones than the listener",
            ends,
        ),
        trial(
            "fast path: a flood of short flows that end is not even read",
            short_flows,
        ),
        trial(
            "fast path: more ends than can be kept are told as lost",
            lost,
        ),
        trial(
            "fast path: interfaces, routes, rules and addresses that change are told",
            changes,
        ),
        trial(
            "fast path: whether ends are told, and how long flows live, is what the settings say",
            settings,
        ),
    ]
}

fn ended(protocol: Protocol, source: &str, destination: &str, port: u16) -> News {
    News::Ended {
        protocol,
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        source_port: port,
        destination_port: 9,
    }
}

const FAMILIES: [(&str, &str); 2] = [("198.18.0.10", "203.0.113.9"), ("fd00::10", "fd00:77::9")];

async fn ends() {
    let mut kernel = kernel();
    let insert = |port: u16, status: &str| {
        for (user, server) in FAMILIES {
            for (protocol, state) in [("tcp", "--state ESTABLISHED"), ("udp", "")] {
                run(&format!(
                    "conntrack -I -p {protocol} -s {user} -d {server} --sport {port} --dport 9 \
                     --timeout 600 --status {status} {state} 2>&1"
                ));
            }
        }
    };
    insert(1, "ASSURED,SEEN_REPLY");
    assert_eq!(kernel.descriptors().len(), 3);
    kernel.listen().unwrap();
    kernel.listen().unwrap();
    assert_eq!(kernel.descriptors().len(), 4);
    insert(2, "SEEN_REPLY");
    insert(3, "ASSURED,SEEN_REPLY");
    // One after the other, so that the last one is told last.
    for port in 1..=3 {
        for (protocol, family) in [
            ("tcp", "ipv4"),
            ("tcp", "ipv6"),
            ("udp", "ipv4"),
            ("udp", "ipv6"),
        ] {
            run(&format!(
                "conntrack -D -f {family} -p {protocol} --sport {port} 2>&1"
            ));
        }
    }
    let last = ended(UDP, FAMILIES[1].0, FAMILIES[1].1, 3);
    let news = news_until(&mut kernel, |news| news.contains(&last));
    let mut wanted = Vec::new();
    for port in [1, 3] {
        for protocol in [Protocol::TCP, UDP] {
            wanted.extend(FAMILIES.map(|(user, server)| ended(protocol, user, server, port)));
        }
    }
    assert_eq!(news, wanted);
    // Nobody listens any more.
    kernel.stop_listening();
    assert_eq!(kernel.descriptors().len(), 3);
    insert(4, "ASSURED,SEEN_REPLY");
    run("conntrack -F 2>&1");
    assert_eq!(kernel.news(), []);
}

fn insert_many(count: u16, status: &str) {
    let mut entries = String::new();
    for port in 1..=count {
        for outside in 1..=4 {
            entries.push_str(&format!(
                "-A -p udp -s 198.18.0.10 -d 203.0.113.{outside} --sport {port} --dport 9 \
                 --timeout 600 {status}\n"
            ));
        }
    }
    feed("conntrack -R - 2>&1", &entries);
}

async fn short_flows() {
    let mut kernel = kernel();
    kernel.listen().unwrap();
    insert_many(5000, "");
    run(
        "conntrack -I -p udp -s 198.18.0.10 -d 203.0.113.9 --sport 1 --dport 9 --timeout 600 \
         --status ASSURED 2>&1",
    );
    let begun = Instant::now();
    run("conntrack -F 2>&1");
    println!(
        "measured: 20000 short flows deleted in {:?}",
        begun.elapsed()
    );
    let last = ended(UDP, "198.18.0.10", "203.0.113.9", 1);
    let news = news_until(&mut kernel, |news| news.contains(&last));
    assert_eq!(news, [last]);
}

async fn lost() {
    let mut kernel = kernel();
    kernel.listen().unwrap();
    insert_many(20_000, "--status ASSURED");
    run("conntrack -F 2>&1");
    let news = news_until(&mut kernel, |news| news.contains(&News::LostEnds));
    assert!(matches!(news[0], News::Ended { .. }), "{:?}", news[0]);
}

async fn changes() {
    uplinks();
    let mut kernel = kernel();
    let wan1 = index("wan1");
    run("ip link set isp1 down");
    let down = |news: &[News]| {
        news.iter().any(|news| {
            matches!(news, News::Port { interface, port: Some(Port { is_up: false, mac: Some(_), mtu: 1500, .. }) } if *interface == wan1)
        })
    };
    let news = news_until(&mut kernel, |news| {
        down(news) && news.contains(&News::Routes)
    });
    assert!(!news.contains(&News::Lost));
    run("ip link set isp1 up; ip link set wan1 mtu 1400");
    news_until(&mut kernel, |news| {
        news.iter().any(|news| {
            matches!(news, News::Port { interface, port: Some(Port { is_up: true, mtu: 1400, .. }) } if *interface == wan1)
        })
    });
    let wan2 = index("wan2");
    run("ip link delete wan2");
    let gone = News::Port {
        interface: wan2,
        port: None,
    };
    news_until(&mut kernel, |news| news.contains(&gone));
    kernel.news();
    for change in [
        "ip route add 203.0.113.0/24 via 198.18.11.1",
        "ip route add fd00:77::/64 via fd00:11::1",
        "ip rule add pref 100 fwmark 7 table 100",
        "ip -6 rule add pref 100 fwmark 7 table 100",
        "ip address delete 198.18.11.2/24 dev wan1",
        "ip nexthop add id 7 via fd00:11::1 dev wan1",
        "ip nexthop replace id 7 via fd00:11::9 dev wan1",
    ] {
        run(change);
        let news = news_until(&mut kernel, |news| news.contains(&News::Routes));
        let routes = news.iter().filter(|news| **news == News::Routes).count();
        assert_eq!(routes, 1, "{change}: {news:?}");
    }
    // Many become one.
    let mut many = String::new();
    for number in 0..500 {
        many.push_str(&format!(
            "route add 203.0.113.{}/32 dev ppp1 metric {number}\n",
            number % 250
        ));
    }
    feed("ip -batch -", &many);
    let news = kernel.news();
    let routes = news.iter().filter(|news| **news == News::Routes);
    assert_eq!(routes.count(), 1, "{news:?}");
}

async fn settings() {
    let set = |setting: &str| {
        run(&format!("sysctl -qw net.netfilter.nf_conntrack_{setting}"));
    };
    set("tcp_timeout_established=1234");
    set("tcp_timeout_max_retrans=222");
    set("tcp_timeout_unacknowledged=111");
    set("udp_timeout_stream=77");
    let mut kernel = kernel();
    let expected = Lifetimes {
        tcp: Duration::from_secs(1234),
        tcp_unacknowledged: Duration::from_secs(222),
        udp: Duration::from_secs(77),
    };
    assert_eq!(kernel.lifetimes(), expected);
    set("events=1");
    assert_eq!(kernel.tells_since_ns(), Some(0));
    set("events=0");
    assert_eq!(kernel.tells_since_ns(), None);
    // What was made before stays as it is.
    for setting in ["events=2", "events=1"] {
        set(setting);
        let since_ns = kernel.tells_since_ns();
        assert!(
            since_ns.is_some_and(|since_ns| since_ns > 0),
            "{setting}: {since_ns:?}"
        );
    }
}
