//! Flows that begin elsewhere than behind a downlink.

use std::net::SocketAddr;

use failover::family::Family;
use failover_tests::addressing::servers;
use failover_tests::daemon::Mode;
use failover_tests::{Lab, Node, Protocol, Traffic};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{Entry, list, name, start, written};
use crate::TestResult;

/// Where the services of these tests listen.
const INSIDE: u16 = 8080;
/// Where the user's rules expect visitors.
const OUTSIDE: u16 = 80;

type Error = Box<dyn std::error::Error>;

/// A service on all addresses of a node, which sends back what it gets.
async fn serve(node: &Node, port: u16) -> TestResult {
    let listener = node
        .run(move || async move { TcpListener::bind(format!("[::]:{port}")).await })
        .await??;
    node.start_task(move || async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let (mut from, mut to) = stream.split();
                // A visitor who is gone needs no answer.
                tokio::io::copy(&mut from, &mut to).await.ok();
            });
        }
    })?;
    Ok(())
}

/// Somebody in the internet, who has asked a service and was answered.
async fn visit(lab: &Lab, family: Family, to: SocketAddr) -> Result<TcpStream, Error> {
    let from = *servers(family).first().ok_or("no server")?;
    let visited = async move {
        let socket = match family {
            Family::Ipv4 => TcpSocket::new_v4()?,
            Family::Ipv6 => TcpSocket::new_v6()?,
        };
        socket.bind(SocketAddr::new(from, 0))?;
        let mut stream = socket.connect(to).await?;
        stream.write_all(b"?").await?;
        stream.read_exact(&mut [0]).await?;
        Ok::<_, std::io::Error>(stream)
    };
    Ok(lab.internet().node().run(move || visited).await??)
}

/// What is said of where a visitor's flow goes and comes from, and why.
fn told(entry: &Entry) -> (String, String, [&str; 4]) {
    let side = |address: &str, port: Option<u16>| format!("{address} {}", port.unwrap_or(0));
    (
        side(&entry.inside, entry.inside_port),
        side(&entry.outside, entry.outside_port),
        [&entry.uplink, &entry.family, &entry.why, &entry.phase],
    )
}

fn side(address: SocketAddr) -> String {
    format!("{} {}", address.ip(), address.port())
}

/// To a client, to which the user's own rules lead.
pub(super) async fn to_a_client(mode: Mode) -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = start(&lab, mode).await?;
    serve(lab.client(1)?.node(), INSIDE).await?;
    let mut visitors = Vec::new();
    for family in Family::ALL {
        let client = lab.client(1)?.address(family).ok_or("no address")?;
        let client = SocketAddr::new(client, INSIDE);
        let ip = match family {
            Family::Ipv4 => "ip",
            Family::Ipv6 => "ip6",
        };
        let forwarding = format!(
            "table {ip} users_own {{
                chain prerouting {{
                    type nat hook prerouting priority dstnat; policy accept;
                    iifname \"wan*\" tcp dport {OUTSIDE} dnat to {client}
                }}
            }}"
        );
        lab.gateway().node().nft(forwarding).await?;
        for uplink in lab.uplinks() {
            let at = uplink.gateway_address(family).ok_or("no address")?;
            let visitor = visit(&lab, family, SocketAddr::new(at, OUTSIDE)).await?;
            visitors.push((family, client, uplink.number(), visitor));
        }
    }
    let listed = list(&daemon, "").await?;
    assert_eq!(listed.len(), visitors.len(), "{listed:#?}");
    for (family, client, uplink, visitor) in &visitors {
        let wanted = (
            side(*client),
            side(visitor.local_addr()?),
            [
                name(Some(*uplink)),
                written(*family),
                "inbound",
                "established",
            ],
        );
        assert!(
            listed.iter().any(|entry| told(entry) == wanted),
            "{wanted:?} in {listed:#?}"
        );
    }
    // Connection, question and answer: the visitor sent more packets than he got.
    for entry in &listed {
        let (back, out) = (entry.in_packets, entry.out_packets);
        assert!(back > out && out >= Some(2), "{entry:?}");
    }
    daemon.terminate().await?;
    Ok(())
}

/// To and from the router itself.
pub(super) async fn of_the_router(mode: Mode) -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = start(&lab, mode).await?;
    serve(lab.gateway().node(), INSIDE).await?;
    let mut wanted = Vec::new();
    let mut visitors = Vec::new();
    let mut own = Vec::new();
    for family in Family::ALL {
        for uplink in lab.uplinks() {
            let at = uplink.gateway_address(family).ok_or("no address")?;
            let at = SocketAddr::new(at, INSIDE);
            let visitor = visit(&lab, family, at).await?;
            wanted.push((at.to_string(), visitor.local_addr()?.to_string(), "inbound"));
            visitors.push(visitor);
        }
        let traffic = Traffic::new(Protocol::Tcp, family, 4);
        let flows = lab.gateway().open(traffic).await?;
        for (index, flow) in flows.each_flow().iter().enumerate() {
            let servers = servers(family);
            let server = servers.get(index % servers.len()).ok_or("no server")?;
            let server = SocketAddr::new(*server, failover_tests::addressing::SERVER_PORT);
            let local = flow.lock().await.local();
            wanted.push((local.to_string(), server.to_string(), "hash"));
        }
        own.push(flows);
    }
    let place = |address: &str, port: Option<u16>| -> Result<String, Error> {
        let address = SocketAddr::new(address.parse()?, port.unwrap_or(0));
        Ok(address.to_string())
    };
    let listed = list(&daemon, "").await?;
    let mut found = Vec::new();
    for entry in &listed {
        found.push((
            place(&entry.inside, entry.inside_port)?,
            place(&entry.outside, entry.outside_port)?,
            entry.why.as_str(),
        ));
    }
    if mode == Mode::Ebpf {
        wanted.clear();
    }
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    daemon.terminate().await?;
    Ok(())
}
