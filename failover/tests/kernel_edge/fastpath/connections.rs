//! Entries are found as users' packets look, and live on.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use failover::fastpath::edge::Surroundings;
use failover::fastpath::facts::{Connection, Kept, PassingPacket, Upkeep};
use failover::flows::Protocol;
use failover::interface::InterfaceIndex;
use failover::mark::Mark;
use libtest_mimic::Trial;

use super::kernel;
use crate::namespace::{feed, run, trial};

pub(crate) const UDP: Protocol = Protocol(17);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial(
            "fast path: entries are found as users' packets look, translated or inbound",
            found,
        ),
        trial(
            "fast path: a helper and shifted sequence numbers are told",
            helped_and_shifted,
        ),
        trial(
            "fast path: entries live as long as is wanted, and nothing else of them changes",
            kept,
        ),
        trial(
            "fast path: thousands of entries are asked for and kept at once",
            thousands,
        ),
    ]
}

/// A user's flow of a family to port 9.
pub(crate) fn flow(protocol: Protocol, inside: &str, outside: &str, port: u16) -> PassingPacket {
    PassingPacket {
        ingress: InterfaceIndex(1),
        mark: Mark(0),
        source: inside.parse().unwrap(),
        destination: outside.parse().unwrap(),
        protocol,
        source_port: port,
        destination_port: 9,
    }
}

fn upkeep(packet: &PassingPacket, seconds: u64) -> Upkeep {
    Upkeep {
        inside: packet.source,
        outside: packet.destination,
        protocol: packet.protocol,
        inside_port: packet.source_port,
        outside_port: packet.destination_port,
        remaining: Some(Duration::from_secs(seconds)),
        relax: packet.protocol == Protocol::TCP,
    }
}

/// Entries of both families and protocols: a user's that is translated, and a visitor's that was sent on
/// to a user. Each with how the user's packets look.
fn insert() -> Vec<PassingPacket> {
    let mut flows = Vec::new();
    for (user, server, own) in [
        ("198.18.0.10", "203.0.113.9", "198.18.11.2"),
        ("fd00::10", "fd00:77::9", "fd00:11::2"),
    ] {
        for (name, protocol, state) in [
            ("tcp", Protocol::TCP, "--state ESTABLISHED"),
            ("udp", UDP, ""),
        ] {
            let add = |tuple: &str| {
                run(&format!(
                    "conntrack -I -p {name} {tuple} --timeout 600 --status SEEN_REPLY,ASSURED \
                     --mark 0x0100ca6c {state} 2>&1"
                ));
            };
            add(&format!(
                "-s {user} -d {server} --sport 4000 --dport 9 --src-nat {own}"
            ));
            flows.push(flow(protocol, user, server, 4000));
            add(&format!(
                "-s {server} -d {own} --sport 9 --dport 5000 --dst-nat {user}"
            ));
            flows.push(flow(protocol, user, server, 5000));
        }
    }
    flows
}

async fn found() {
    let flows = insert();
    let mut kernel = kernel();
    let mut asked = flows.clone();
    asked.insert(1, flow(UDP, "198.18.0.10", "203.0.113.9", 1));
    let mut found = kernel.connections(&asked).unwrap();
    assert_eq!(found.remove(1), None);
    assert_eq!(found.len(), flows.len());
    for (packet, connection) in flows.iter().zip(found) {
        let Connection {
            flow,
            is_helped,
            is_shifted,
        } = connection.unwrap();
        let outbound = packet.source_port == 4000;
        let inside_out = if outbound { flow.original } else { flow.reply };
        assert_eq!(
            (inside_out.source, inside_out.source_port),
            (packet.source, packet.source_port)
        );
        assert_eq!(
            (inside_out.destination, inside_out.destination_port),
            (packet.destination, 9)
        );
        let own: IpAddr = match packet.source {
            IpAddr::V4(_) => "198.18.11.2".parse().unwrap(),
            IpAddr::V6(_) => "fd00:11::2".parse().unwrap(),
        };
        let outside = if outbound {
            flow.reply.destination
        } else {
            flow.original.destination
        };
        assert_eq!(outside, own);
        assert_eq!(flow.mark, Mark(0x0100_ca6c));
        assert_eq!(flow.protocol, packet.protocol);
        assert_eq!(
            flow.tcp_state,
            (packet.protocol == Protocol::TCP).then_some(3)
        );
        assert!(flow.remaining.unwrap() > Duration::from_secs(500));
        assert!(!is_helped && !is_shifted);
    }
}

/// An FTP client asks a server to connect to it, through a translation that makes the command longer.
async fn helped_and_shifted() {
    run("ip address add 198.18.0.1/32 dev lo; ip address add 198.18.0.200/32 dev lo");
    feed(
        "nft -f -",
        "table ip ftp {
             ct helper ftp { type \"ftp\" protocol tcp; }
             chain first { type filter hook output priority 0; tcp dport 2121 ct helper set \"ftp\"; }
             chain last { type nat hook postrouting priority 100; tcp dport 2121 snat to 198.18.0.200; }
         }",
    );
    let listener = TcpListener::bind("198.18.0.1:2121").unwrap();
    let mut client = TcpStream::connect("198.18.0.1:2121").unwrap();
    let (mut server, _) = listener.accept().unwrap();
    let mut packet = flow(
        Protocol::TCP,
        "198.18.0.1",
        "198.18.0.1",
        client.local_addr().unwrap().port(),
    );
    packet.destination_port = 2121;
    let mut say = |command: &str| {
        client.write_all(command.as_bytes()).unwrap();
        let mut heard = [0; 100];
        let length = server.read(&mut heard).unwrap();
        String::from_utf8_lossy(&heard[..length]).into_owned()
    };
    let mut kernel = kernel();
    let mut told = || {
        let found = kernel.connections(&[packet]).unwrap().remove(0).unwrap();
        (found.is_helped, found.is_shifted)
    };
    assert_eq!(say("USER anonymous\r\n"), "USER anonymous\r\n");
    assert_eq!(told(), (true, false));
    assert_eq!(say("PORT 198,18,0,1,4,1\r\n"), "PORT 198,18,0,200,4,1\r\n");
    assert_eq!(told(), (true, true));
}

/// What `conntrack` lists, without timeouts.
fn listed() -> (Vec<String>, Vec<u64>) {
    let text = run("conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null");
    let mut lines: Vec<_> = text
        .lines()
        .map(|line| {
            let mut words: Vec<_> = line.split_whitespace().collect();
            let timeout: u64 = words.remove(2).parse().unwrap();
            (words.join(" "), timeout)
        })
        .collect();
    lines.sort();
    lines.into_iter().unzip()
}

async fn kept() {
    let flows = insert();
    let (before, _) = listed();
    let mut kernel = kernel();
    let mut wanted: Vec<_> = flows.iter().map(|packet| upkeep(packet, 5000)).collect();
    let missing = [
        flow(UDP, "198.18.0.10", "203.0.113.9", 1),
        flow(Protocol::TCP, "fd00::10", "fd00:77::9", 1),
    ];
    wanted.insert(1, upkeep(&missing[0], 5000));
    wanted.push(upkeep(&missing[1], 5000));
    let mut outcomes = vec![Kept::Done; wanted.len()];
    outcomes[1] = Kept::Gone;
    *outcomes.last_mut().unwrap() = Kept::Gone;
    assert_eq!(kernel.keep(&wanted).unwrap(), outcomes);
    let (after, timeouts) = listed();
    assert_eq!(after, before);
    assert!(
        timeouts
            .iter()
            .all(|timeout| (4000..=5000).contains(timeout)),
        "{timeouts:?}"
    );
    // Shorter, too.
    let wanted: Vec<_> = flows.iter().map(|packet| upkeep(packet, 300)).collect();
    assert_eq!(kernel.keep(&wanted).unwrap(), vec![Kept::Done; flows.len()]);
    let (_, timeouts) = listed();
    assert!(timeouts.iter().all(|timeout| *timeout <= 300));
    // Asked for alone: it is left what it has.
    let alone = |packet| Upkeep {
        remaining: None,
        ..upkeep(packet, 0)
    };
    let wanted: Vec<_> = flows.iter().chain(&missing).map(alone).collect();
    let mut outcomes = vec![Kept::Done; flows.len()];
    outcomes.extend([Kept::Gone; 2]);
    assert_eq!(kernel.keep(&wanted).unwrap(), outcomes);
    let (after, timeouts) = listed();
    assert_eq!(after, before);
    assert!(timeouts.iter().all(|timeout| (200..=300).contains(timeout)));
    // One that ends when it ends.
    let fixed = flow(UDP, "198.18.0.10", "203.0.113.9", 6000);
    run(
        "conntrack -I -p udp -s 198.18.0.10 -d 203.0.113.9 --sport 6000 --dport 9 \
         --timeout 600 --status FIXED_TIMEOUT 2>&1",
    );
    assert_eq!(kernel.keep(&[upkeep(&fixed, 5000)]).unwrap(), [Kept::Gone]);
}

async fn thousands() {
    const FLOWS: u16 = 5000;
    let mut entries = String::new();
    let mut flows = Vec::new();
    for port in 1..=FLOWS {
        let (inside, outside, protocol, state) = match port % 4 {
            0 => ("198.18.0.10", "203.0.113.9", "udp", ""),
            1 => ("fd00::10", "fd00:77::9", "udp", ""),
            2 => ("198.18.0.10", "203.0.113.9", "tcp", "--state ESTABLISHED"),
            _ => ("fd00::10", "fd00:77::9", "tcp", "--state ESTABLISHED"),
        };
        entries.push_str(&format!(
            "-A -p {protocol} -s {inside} -d {outside} --sport {port} --dport 9 --timeout 600 {state}\n"
        ));
        let protocol = if protocol == "tcp" {
            Protocol::TCP
        } else {
            UDP
        };
        flows.push(flow(protocol, inside, outside, port));
    }
    feed("conntrack -R - 2>&1", &entries);
    run("conntrack -D -p udp --sport 5000 2>&1");
    let mut kernel = kernel();
    let begun = Instant::now();
    let found = kernel.connections(&flows).unwrap();
    let asked = begun.elapsed() / u32::from(FLOWS);
    let (last, others) = found.split_last().unwrap();
    assert_eq!(*last, None);
    for (packet, connection) in flows.iter().zip(others) {
        let original = connection.as_ref().unwrap().flow.original;
        assert_eq!(
            (original.source, original.source_port),
            (packet.source, packet.source_port)
        );
    }
    let wanted: Vec<_> = flows.iter().map(|packet| upkeep(packet, 5000)).collect();
    let begun = Instant::now();
    let outcomes = kernel.keep(&wanted).unwrap();
    let kept = begun.elapsed() / u32::from(FLOWS);
    let (last, others) = outcomes.split_last().unwrap();
    assert_eq!(*last, Kept::Gone);
    assert!(others.iter().all(|outcome| *outcome == Kept::Done));
    let (_, timeouts) = listed();
    assert_eq!(timeouts.len(), usize::from(FLOWS) - 1);
    assert!(timeouts.iter().all(|timeout| *timeout > 4000));
    println!("measured: an entry is asked for in {asked:?} and kept alive in {kept:?}");
}
