//! The gateway's own traffic follows the user's rules.

use std::io::{Error, ErrorKind};
use std::net::IpAddr;

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::traffic::{AskError, Asked, Host};
use failover_tests::{Lab, Node, Program, ProgramSpec, Protocol, Traffic, addressing};
use tokio::net::UdpSocket;

use crate::Outcome;
use crate::case::Case;
use crate::own_traffic::HOST;
use crate::scene::{LIMIT, PATIENT, Scene, THREE, answered_flows};

/// UDP to some servers by the first, all other UDP by the second; TCP by the third and else not at
/// all; the rest by all. Some servers are in a set of more prefixes than are asked one by one.
const RULES: &str = "
sets:
  some: [203.0.113.11, 203.0.113.13, 'fd00:203::11', 'fd00:203::13', 192.0.2.1, 192.0.2.3, 192.0.2.5,
         192.0.2.7, 192.0.2.9, 192.0.2.11, 192.0.2.13, 192.0.2.15, 'fd00:2::1', 'fd00:2::3',
         'fd00:2::5', 'fd00:2::7', 'fd00:2::9', 'fd00:2::11', 'fd00:2::13', 'fd00:2::15']
rules:
  - {name: users, match: {interface: lan0}, via: [three]}
  - {name: some, match: {destination: some, protocol: udp}, via: [one]}
  - {name: udp, match: {protocol: udp, ports: [53, 7000-7999]}, via: [two]}
  - {name: tcp, match: {protocol: tcp, ports: [80, 443, 7007]}, via: [three], otherwise: drop}
";

/// Questions of a resolver go by the second uplink while it works.
const RESOLVER: &str = "
rules:
  - {name: questions, match: {protocol: [udp, tcp], ports: [53]}, via: [two]}
";

/// Which of the servers are in the set.
const SOME: [u8; 2] = [11, 13];
const FLOWS: usize = 60;
/// What dnsmasq says of a name.
const NAME: &str = "host.example";
const ANSWER: [u8; 4] = [192, 0, 2, 77];

pub(crate) async fn of_a_router(case: &Case, family: Family) -> Outcome {
    let config = format!("{THREE}{RULES}");
    let scene = case.open(Lab::builder().uplinks(3), &config).await?;
    follows(scene, family).await?;
    // Users' packets go by the first rule.
    let tally = scene.new_flows(Protocol::Udp, family, FLOWS).await?;
    assert_eq!(tally.on(3), FLOWS, "{tally}");
    Ok(())
}

pub(crate) async fn of_a_host(case: &Case, family: Family) -> Outcome {
    let rules: String = RULES
        .lines()
        .filter(|line| !line.contains("lan0"))
        .map(|line| format!("{line}\n"))
        .collect();
    let lab = Lab::builder().uplinks(3).host_only();
    let scene = case.open(lab, &format!("{HOST}{rules}")).await?;
    follows(scene, family).await
}

async fn follows(scene: &Scene, family: Family) -> Outcome {
    let host = scene.lab.gateway();
    by_set(host, family, 1, &[2]).await?;
    all_by(host, Traffic::new(Protocol::Tcp, family, FLOWS), 3).await?;
    let others = answered_flows(host, Traffic::new(Protocol::Icmp, family, FLOWS)).await?;
    assert_eq!(others.answered(), FLOWS, "{others}");

    scene.uplink(3)?.black_hole().await?;
    scene.until_state(3, family, State::Down).await?;
    // It is told at once, and not left to wait.
    let refused = host
        .burst(Traffic::new(Protocol::Tcp, family, FLOWS).within(PATIENT))
        .await?;
    for asked in &refused {
        assert!(is_forbidden(asked), "{asked:?}");
    }
    by_set(host, family, 1, &[2]).await?;
    // Who binds himself to an uplink is left alone.
    let address = scene
        .uplink(2)?
        .gateway_address(family)
        .ok_or("no address")?;
    let bound = Traffic::new(Protocol::Tcp, family, FLOWS).from_address(address);
    all_by(host, bound, 2).await?;

    scene.uplink(2)?.black_hole().await?;
    scene.until_state(2, family, State::Down).await?;
    by_set(host, family, 1, &[1]).await?;
    scene.uplink(1)?.black_hole().await?;
    scene.uplink(2)?.heal().await?;
    scene.until_state(2, family, State::Up).await?;
    scene.until_state(1, family, State::Down).await?;
    by_set(host, family, 2, &[2]).await?;

    for uplink in [1, 3] {
        scene.uplink(uplink)?.heal().await?;
        scene.until_state(uplink, family, State::Up).await?;
    }
    by_set(host, family, 1, &[2]).await?;
    all_by(host, Traffic::new(Protocol::Tcp, family, FLOWS), 3).await
}

fn is_forbidden(asked: &Asked) -> bool {
    match asked {
        Err(AskError::Unreachable(_)) => true,
        Err(AskError::Other(said)) => said.starts_with("Permission denied"),
        _ => false,
    }
}

/// UDP to servers of the set goes by one uplink, and to all others by one of the others.
async fn by_set(host: &Host, family: Family, some: u8, others: &[u8]) -> Outcome {
    let asked = host
        .burst(Traffic::new(Protocol::Udp, family, FLOWS))
        .await?;
    let servers = addressing::servers(family);
    for (asked, server) in asked.iter().zip(servers.iter().cycle()) {
        let uplink = asked.as_ref().ok().and_then(|answer| answer.uplink());
        let right = match uplink {
            Some(uplink) if is_some(*server) => uplink == some,
            Some(uplink) => others.contains(&uplink),
            None => false,
        };
        assert!(right, "{server}: {asked:?}");
    }
    Ok(())
}

/// Whether a server is in the set: the lab's IPv6 addresses have the decimal digits of the others.
fn is_some(server: IpAddr) -> bool {
    let text = server.to_string();
    SOME.iter()
        .any(|last| text.ends_with(&format!(".{last}")) || text.ends_with(&format!(":{last}")))
}

async fn all_by(host: &Host, traffic: Traffic, uplink: u8) -> Outcome {
    let tally = answered_flows(host, traffic).await?;
    assert_eq!(tally.on(uplink), FLOWS, "{traffic}: {tally}");
    Ok(())
}

/// Users ask a resolver on the router, which asks one in the internet.
pub(crate) async fn resolver(case: &Case, family: Family) -> Outcome {
    let config = format!("{THREE}{RESOLVER}");
    let scene = case.open(Lab::builder().uplinks(3), &config).await?;
    let server = addressing::servers(family)
        .first()
        .copied()
        .ok_or("no server")?;
    let above = dnsmasq(scene, scene.lab.internet().node(), server, None).await?;
    let router: IpAddr = match family {
        Family::Ipv4 => "198.18.0.1".parse()?,
        Family::Ipv6 => "fd00:18::1".parse()?,
    };
    let _resolver = dnsmasq(scene, scene.lab.gateway().node(), router, Some(server)).await?;

    let client = scene.client()?.node();
    asks(client, router, 1).await?;
    let first = askers(scene, &above, 0).await?;
    assert!(is_all(&first, 2), "{}", above.stderr());

    scene.uplink(2)?.black_hole().await?;
    scene.until_state(2, family, State::Down).await?;
    asks(client, router, 2).await?;
    let others = askers(scene, &above, first.len()).await?;
    assert!(!others.contains(&2), "{}", above.stderr());

    scene.uplink(2)?.heal().await?;
    scene.until_state(2, family, State::Up).await?;
    let before = first.len() + others.len();
    asks(client, router, 3).await?;
    let last = askers(scene, &above, before).await?;
    assert!(is_all(&last, 2), "{}", above.stderr());
    Ok(())
}

fn is_all(uplinks: &[u8], expected: u8) -> bool {
    uplinks.iter().all(|uplink| *uplink == expected)
}

/// A name server that knows the answers itself, or asks another.
async fn dnsmasq(
    scene: &Scene,
    node: &Node,
    at: IpAddr,
    other: Option<IpAddr>,
) -> Result<Program, Box<dyn std::error::Error>> {
    let knows = match other {
        Some(other) => format!("--server={other}"),
        None => format!("--address=/{NAME}/{}", IpAddr::from(ANSWER)),
    };
    let spec = ProgramSpec::new("dnsmasq").arguments([
        "--no-daemon".to_owned(),
        "--log-facility=-".to_owned(),
        "--conf-file=/dev/null".to_owned(),
        "--no-resolv".to_owned(),
        "--no-hosts".to_owned(),
        "--cache-size=0".to_owned(),
        "--log-queries=extra".to_owned(),
        "--bind-interfaces".to_owned(),
        format!("--listen-address={at}"),
        knows,
    ]);
    let program = node.start(spec).await?;
    scene
        .eventually("dnsmasq serves", || async {
            Ok(program.stderr().contains("started"))
        })
        .await?;
    Ok(program)
}

/// A user asks for a name, again until there is an answer, as resolvers do.
async fn asks(client: &Node, router: IpAddr, number: u16) -> Outcome {
    let answer = client
        .run(move || async move {
            let any = addressing::any(Family::of(router));
            let socket = UdpSocket::bind((any, 0)).await?;
            socket.connect((router, 53)).await?;
            let mut answer = [0; 512];
            for _ in 0..10 {
                socket.send(&question(number)).await?;
                if let Ok(received) =
                    tokio::time::timeout(LIMIT / 10, socket.recv(&mut answer)).await
                {
                    let length = received?;
                    return Ok(answer.get(..length).unwrap_or_default().to_vec());
                }
            }
            Err(Error::from(ErrorKind::TimedOut))
        })
        .await??;
    assert!(answer.ends_with(&ANSWER), "{answer:?}");
    Ok(())
}

/// A question for the address of a name (RFC 1035, section 4.1).
fn question(number: u16) -> Vec<u8> {
    let mut question = number.to_be_bytes().to_vec();
    question.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in NAME.split('.') {
        question.push(u8::try_from(label.len()).unwrap_or_default());
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    question
}

/// By which uplinks questions came, in their order, behind the first `known`; one at least.
async fn askers(
    scene: &Scene,
    server: &Program,
    known: usize,
) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let askers = || -> Vec<u8> {
        server
            .stderr()
            .lines()
            .filter(|line| line.contains("query[A]"))
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
            .filter_map(|address| scene.lab.uplink_of(address))
            .collect()
    };
    // The answer may be here before the server's log is.
    scene
        .eventually("the server says who asked", || async {
            Ok(askers().len() > known)
        })
        .await?;
    Ok(askers().split_off(known))
}
