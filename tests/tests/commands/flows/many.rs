//! Tens of thousands of flows: all are listed, and nobody who does not read holds up anybody.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use failover::family::Family;
use failover_tests::addressing::servers;
use failover_tests::daemon::Mode;
use failover_tests::{Daemon, Lab, ProgramSpec, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UdpSocket, UnixStream};

use super::{good, list, start};
use crate::{TestResult, one_line};

/// How many flows there are.
const COUNT: u16 = 50_000;
/// How long it may take until all their packets came through.
const LIMIT: Duration = Duration::from_secs(60);
/// How long an answer may take on a busy machine. The daemon waits longer than that for a client.
const SOON: Duration = Duration::from_secs(4);
/// How often is tried what a busy machine may spoil.
const TRIES: usize = 5;
/// How many may list at once.
const LISTINGS: usize = 4;

type Error = Box<dyn std::error::Error>;

/// One packet to each of so many ports of a server, each the first of a flow; sent again until
/// connection tracking knows them all. Returns from where they come.
async fn send_all(lab: &Lab, server: std::net::IpAddr) -> Result<SocketAddr, Error> {
    let client = lab.client(1)?.node();
    let gateway = lab.gateway().node();
    let socket = client
        .run(move || async move {
            let socket = UdpSocket::bind("0.0.0.0:0").await?;
            // Only to learn the own address: nobody listens at that port.
            socket.connect(SocketAddr::new(server, 1)).await?;
            let local = socket.local_addr()?;
            let socket = UdpSocket::bind(local.ip().to_string() + ":0").await?;
            Ok::<_, std::io::Error>(socket)
        })
        .await??;
    let local = socket.local_addr()?;
    let socket = std::sync::Arc::new(socket);
    eventually("connection tracking knows all flows", LIMIT, || async {
        let socket = std::sync::Arc::clone(&socket);
        client
            .run(move || async move {
                for port in 1..=COUNT {
                    // A refusal that comes back for an earlier packet is of no interest.
                    socket
                        .send_to(b"x", SocketAddr::new(server, port))
                        .await
                        .ok();
                }
            })
            .await?;
        let listed = gateway.must(ProgramSpec::line("conntrack -C")).await?;
        let count: usize = listed.trim().parse().unwrap_or(0);
        Ok((count >= usize::from(COUNT)).then_some(()))
    })
    .await?;
    Ok(local)
}

pub(super) async fn all_listed(mode: Mode) -> TestResult {
    let lab = Lab::builder().capture(false).build().await?;
    let gateway = lab.gateway().node();
    // Flows that nobody answers stay until all are there.
    for key in ["udp_timeout", "udp_timeout_stream"] {
        let key = format!("net/netfilter/nf_conntrack_{key}");
        gateway.set_sysctl(&key, "600").await?;
    }
    let daemon = start(&lab, mode).await?;
    let server = *servers(Family::Ipv4).first().ok_or("no server")?;
    let local = send_all(&lab, server).await?;

    let listed = list(&daemon, "").await?;
    let ports: Vec<u16> = listed
        .iter()
        .filter(|entry| entry.protocol == "udp" && entry.inside_port == Some(local.port()))
        .filter_map(|entry| entry.outside_port)
        .collect();
    let different: BTreeSet<u16> = ports.iter().copied().collect();
    assert_eq!(different, (1..=COUNT).collect(), "all are listed");
    assert_eq!(ports.len(), different.len(), "none is listed twice");
    let mut sum = 0;
    for uplink in ["one", "two"] {
        sum += list(&daemon, &format!("--uplink {uplink}")).await?.len();
    }
    assert_eq!(sum, listed.len());

    closed_pipe(&lab, &daemon).await?;
    nobody_waits(&daemon).await?;
    daemon.terminate().await?;
    Ok(())
}

/// Who reads the beginning only sees no failure.
async fn closed_pipe(lab: &Lab, daemon: &Daemon) -> TestResult {
    let failover = daemon.failover();
    for options in ["", "--json"] {
        let line = format!(
            "{{ {} flows {options} --control {} || echo failed >&2; }} | head --lines 2",
            failover.binary().display(),
            failover.control().display()
        );
        let spec = ProgramSpec::new("sh").arguments(["-c", &line]);
        let head = good(lab.gateway().node().output(spec).await?)?;
        assert_eq!(head.lines().count(), 2, "{head}");
    }
    Ok(())
}

/// Clients that ask and never read delay nobody, and cannot become too many.
async fn nobody_waits(daemon: &Daemon) -> TestResult {
    for _ in 0..TRIES {
        let begin = Instant::now();
        let mut silent = Vec::new();
        while silent.len() < LISTINGS {
            silent.push(ask_and_be_silent(daemon).await?);
        }
        daemon.status().await?;
        let refused = daemon.failover().command("flows").await?;
        // On a machine that is so busy the daemon has lost its patience with some of them.
        if begin.elapsed() < SOON {
            one_line(&refused, 1, &["4 listings are under way"])?;
            return room_again(daemon, silent).await;
        }
    }
    Err("the machine is too busy to see who waits for whom".into())
}

/// A client whose listing has begun, and who reads no further.
async fn ask_and_be_silent(daemon: &Daemon) -> Result<UnixStream, Error> {
    let begin = Instant::now();
    loop {
        let mut stream = UnixStream::connect(daemon.failover().control()).await?;
        stream.write_all(b"{\"flows\":{\"uplink\":null}}\n").await?;
        let mut said = [0; 8];
        stream.read_exact(&mut said).await?;
        if &said == b"{\"flows_" {
            return Ok(stream);
        }
        // Those who hung up a moment ago may still count.
        if begin.elapsed() > SOON {
            return Err("no room for a listing".into());
        }
    }
}

/// Who hangs up makes room at once, and not when the daemon's patience ends.
async fn room_again(daemon: &Daemon, silent: Vec<UnixStream>) -> TestResult {
    drop(silent);
    let begin = Instant::now();
    loop {
        let asked = begin.elapsed();
        assert!(asked < SOON, "no room for another listing");
        let output = daemon.failover().command("flows --json").await?;
        if output.status.success() {
            return Ok(());
        }
    }
}
