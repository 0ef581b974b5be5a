//! A connection whose packets bypassed connection tracking goes on when they return to it.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use failover::fastpath::edge::Surroundings;
use failover::fastpath::facts::{Kept, Upkeep};
use failover::flows::Protocol;
use libtest_mimic::Trial;

use super::kernel;
use crate::namespace::{PATIENCE, feed, run, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial(
        "fast path: connections that were relaxed go on behind a firewall that drops invalid packets",
        returned,
    )]
}

/// More than any window, in both directions.
const PAST: usize = 32 << 20;

/// Packets that connection tracking does not know are dropped; those of ports in `past` are not shown to
/// it.
const FIREWALL: &str = "
table inet firewall {
    set past { type inet_service; }
    counter dropped {}
    chain early {
        type filter hook output priority raw
        tcp dport @past notrack
        tcp sport @past notrack
    }
    chain late {
        type filter hook output priority 0
        ct state invalid counter name dropped drop
    }
}
";

/// Both ends of a connection.
struct Connected {
    client: TcpStream,
    server: TcpStream,
}

impl Connected {
    fn new(address: &str) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let listener = TcpListener::bind((address, 0)).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        for end in [&client, &server] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
            end.set_write_timeout(Some(PATIENCE)).unwrap();
        }
        Self { client, server }
    }

    fn port(&self) -> u16 {
        self.server.local_addr().unwrap().port()
    }

    /// Sends so many bytes in both directions, one after the other.
    fn talk(&self, bytes: usize) {
        let ends = (&self.client, &self.server);
        for (mut from, mut to) in [ends, (ends.1, ends.0)] {
            thread::scope(|scope| {
                scope.spawn(move || from.write_all(&vec![7; bytes]).unwrap());
                let mut left = bytes;
                let mut buffer = vec![0; 1 << 20];
                while left > 0 {
                    let most = left.min(buffer.len());
                    let length = to.read(&mut buffer[..most]).unwrap();
                    assert!(length > 0);
                    left -= length;
                }
            });
        }
    }

    fn upkeep(&self) -> Upkeep {
        let (inside, outside) = (
            self.client.local_addr().unwrap(),
            self.server.local_addr().unwrap(),
        );
        Upkeep {
            inside: inside.ip(),
            outside: outside.ip(),
            protocol: Protocol::TCP,
            inside_port: inside.port(),
            outside_port: outside.port(),
            remaining: Some(Duration::from_secs(1000)),
            relax: true,
        }
    }
}

fn dropped() -> bool {
    !run("nft list counter inet firewall dropped").contains("packets 0 ")
}

async fn returned() {
    run("ip address add 198.18.0.1/32 dev lo; ip address add fd00::1/128 dev lo nodad");
    feed("nft -f -", FIREWALL);
    let mut kernel = kernel();
    for address in ["198.18.0.1", "fd00::1"] {
        let relaxed = Connected::new(address);
        let mut strict = Connected::new(address);
        relaxed.talk(1000);
        strict.talk(1000);
        let mut wanted = vec![relaxed.upkeep(), strict.upkeep()];
        wanted[1].relax = false;
        assert_eq!(kernel.keep(&wanted).unwrap(), [Kept::Done; 2]);
        let ports = format!("{{ {}, {} }}", relaxed.port(), strict.port());
        run(&format!("nft 'add element inet firewall past {ports}'"));
        relaxed.talk(PAST);
        strict.talk(PAST);
        run(&format!("nft 'delete element inet firewall past {ports}'"));
        relaxed.talk(1000);
        assert!(!dropped(), "{address}");
        // Without it packets are dropped.
        strict.client.write_all(&[7; 1000]).unwrap();
        let deadline = std::time::Instant::now() + PATIENCE;
        while !dropped() {
            assert!(std::time::Instant::now() < deadline, "{address}");
        }
        run("nft reset counter inet firewall dropped");
        // The state is as it was, so that the end of a connection is seen.
        let flow = format!("-p tcp --orig-port-dst {}", relaxed.port());
        let listed = run(&format!("conntrack -L {flow} 2>/dev/null"));
        assert!(listed.contains(" ESTABLISHED "), "{listed}");
        // Its sender does not give up, and would count on.
        drop(strict);
        run("nft flush ruleset");
        feed("nft -f -", FIREWALL);
    }
}
