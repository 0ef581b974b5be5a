//! What users' traffic tells of an uplink, beside probes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::traffic::Keep;
use failover_tests::{Lab, LabError, Protocol};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Outcome;
use crate::case::Case;
use crate::scene::{Scene, TWO, of};

/// Users who talk to five hosts.
const BUSY: Keep = Keep {
    each: 40,
    every: Duration::from_millis(50),
};

/// Also on a machine so slow that others do without.
const HEEDED: &str = "
uplinks:
  one: {interface: wan1, probe: {passive: auto}}
  two: {interface: wan2}
downlinks: [lan0]
";

/// An uplink that swallows what users send is found out by that, and the reason says so.
pub(crate) async fn unanswered(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder(), HEEDED).await?;
    let client = scene.client()?;
    let busy = client
        .keep_of(&[family], &[Protocol::Tcp], BUSY, &[1])
        .await?;
    scene.uplink(1)?.black_hole().await?;
    scene.until_state(1, family, State::Down).await?;
    let log = scene.daemon()?.log();
    let told = log
        .lines()
        .find(|line| line.contains("uplink changed its state") && line.contains("to=\"down\""))
        .ok_or("nothing was logged")?;
    assert!(told.contains(" hosts unanswered for "), "{told}");
    let events = scene.daemon()?.failover().command("events").await?;
    assert!(
        events.stdout.contains(" hosts unanswered for "),
        "{events:?}"
    );
    let status = scene.daemon()?.status().await?;
    let connections = |number| of(&status, number, family).and_then(|found| found.connections);
    let (one, two) = (connections(1).ok_or("none")?, connections(2).ok_or("none")?);
    assert_eq!(one.opened + two.opened, 40, "{status}");
    assert_eq!(one.accepted + two.accepted, 40, "{status}");
    assert!(one.repeated > 0, "{status}");
    let time = two.handshake_ms.ok_or("none")?;
    assert!((0.0..100.0).contains(&time), "{status}");
    scene.uplink(1)?.heal().await?;
    scene.until_state(1, family, State::Up).await?;
    for flow in busy.finish().await {
        if flow.home_uplink() == Some(2) {
            assert_eq!((flow.lost, flow.moves), (0, 0), "{flow:?}");
        }
    }
    Ok(())
}

/// Hosts that are not there.
fn nowhere(family: Family, host: u8) -> IpAddr {
    match family {
        Family::Ipv4 => [203, 0, 113, 96 + host].into(),
        Family::Ipv6 => [0xfd00, 0x203, 0, 0, 0, 0, 0xdead, host.into()].into(),
    }
}

/// Whoever scans ports, or a whole net in which nobody is, makes no uplink look dead.
pub(crate) async fn scanned(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder(), TWO).await?;
    let nobody = "table inet nobody {
        chain arriving {
            type filter hook prerouting priority raw; policy accept;
            ip daddr 203.0.113.96/27 drop
            ip6 daddr fd00:203::dead:0/112 drop
        }
    }";
    scene.lab.internet().node().nft(nobody.to_owned()).await?;
    let before = scene.daemon()?.status().await?;
    let client = scene.client()?;
    for wave in 0..8 {
        let silent = client
            .node()
            .run(move || async move {
                let mut knocking = JoinSet::new();
                for number in 0..200_u16 {
                    // One host in the first waves, all of them in the others.
                    let host = if wave < 4 { 1 } else { number % 31 };
                    let host = nowhere(family, u8::try_from(host).unwrap_or(1));
                    let server = SocketAddr::new(host, 1 + wave * 200 + number);
                    knocking.spawn_local(async move {
                        timeout(Duration::from_millis(400), TcpStream::connect(server))
                            .await
                            .is_err()
                    });
                }
                let silent = knocking.join_all().await;
                silent.iter().filter(|silent| **silent).count()
            })
            .await?;
        assert_eq!(silent, 200, "nobody answers");
    }
    let after = scene.daemon()?.status().await?;
    assert!(after.all(State::Up), "{after}");
    for (before, after) in before.uplinks.iter().zip(&after.uplinks) {
        assert_eq!(before.since, after.since, "{}", after.name);
    }
    let log = scene.daemon()?.log();
    assert!(!log.contains("to=\"down\""), "{log}");
    Ok(())
}

const UNUSED: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2, new_flows: false}
downlinks: [lan0]
";

/// How often it is looked at.
const WINDOWS: usize = 4;

/// An uplink by which users are answered needs few probes.
pub(crate) async fn spared(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder(), UNUSED).await?;
    let busy = scene
        .client()?
        .keep_of(&[family], &[Protocol::Udp], BUSY, &[])
        .await?;
    let probes = |number: u8| -> Result<u64, LabError> {
        scene.lab.uplink(number)?.capture()?.probe_packets()
    };
    let mut counted = Vec::new();
    // A machine that has no time for users now and then has them answered too late.
    for _ in 0..WINDOWS {
        let (one, two) = (probes(1)?, probes(2)?);
        // Each round asks two targets of each family.
        scene
            .eventually("the other uplink is probed for a while", || async {
                Ok(probes(2)? >= two + 15 * 4)
            })
            .await?;
        let (one, two) = (probes(1)? - one, probes(2)? - two);
        // The other family is not used, and is probed as ever.
        if one <= two * 3 / 4 {
            busy.finish().await;
            return Ok(());
        }
        counted.push((one, two));
    }
    Err(format!("probes by this uplink, and by the other: {counted:?}").into())
}

/// Where no target answers by an uplink, and users are answered by it all the same, its flows go on;
/// new ones go by the other.
pub(crate) async fn contradicted(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder(), TWO).await?;
    let busy = scene
        .client()?
        .keep_of(&[family], &[Protocol::Tcp, Protocol::Udp], BUSY, &[])
        .await?;
    let deaf = "table inet deaf {
        chain arriving {
            type filter hook prerouting priority raw; policy accept;
            ip saddr 198.18.11.0/24 ip daddr 203.0.113.0/29 icmp type echo-request drop
            ip6 saddr fd00:18:11::/64 ip6 daddr fd00:203::0/125 icmpv6 type echo-request drop
        }
    }";
    scene.lab.internet().node().nft(deaf.to_owned()).await?;
    let status = scene.until_state(1, family, State::Degraded).await?;
    let one = of(&status, 1, family).ok_or("not in the status")?;
    assert!(one.reason.contains(" hosts answer users"), "{status}");
    let tally = scene.new_flows(Protocol::Udp, family, 60).await?;
    assert_eq!(tally.on(1), 0, "{tally}");
    scene
        .lab
        .internet()
        .node()
        .nft("delete table inet deaf".to_owned())
        .await?;
    scene.until_state(1, family, State::Up).await?;
    let mut here = 0;
    for flow in busy.finish().await {
        assert_eq!((flow.lost, flow.moves), (0, 0), "{flow:?}");
        here += usize::from(flow.home_uplink() == Some(1));
    }
    assert!(here > 10, "{here} flows were on the uplink in question");
    assert_no_verdict(scene, family).await
}

/// The uplink in question was never down.
async fn assert_no_verdict(scene: &Scene, family: Family) -> Outcome {
    let log = scene.daemon()?.log();
    let down = format!("family={family} from=\"degraded\" to=\"down\"");
    assert!(!log.contains(&down), "{log}");
    let status = scene.daemon()?.status().await?;
    assert!(of(&status, 1, family).is_some_and(|one| one.state == State::Up));
    Ok(())
}
