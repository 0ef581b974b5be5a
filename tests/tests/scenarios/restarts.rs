//! The daemon ends and begins again amid traffic, and users notice nothing: no packet is lost, no
//! flow moves, and what the router was asked it still answers.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use failover::family::Family;
use failover_tests::Pinning as _;
use failover_tests::chance::Chance;
use failover_tests::restarts::Kills;
use failover_tests::{Lab, Stream, StreamPlan, Streamed, addressing, patient};

use crate::Outcome;
use crate::case::Case;
use crate::scene::{PATIENT, Scene, THREE};

/// Packets per second.
const RATE: u32 = 20_000;
/// How long the stream is watched while nothing happens.
const CALM: Duration = Duration::from_secs(1);
const KILLS: usize = 10;
const PORT: u16 = 8080;

pub(crate) async fn kills(case: &Case) -> Outcome {
    under_load(case, false).await
}

pub(crate) async fn upgrades(case: &Case) -> Outcome {
    under_load(case, true).await
}

async fn under_load(case: &Case, upgrades: bool) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let calm = stream(scene).await?;
    tokio::time::sleep(patient(CALM)).await;
    expect_whole(&calm.finish(&scene.lab).await?, "without a restart");

    let kills = Kills {
        count: KILLS,
        upgrades,
        seed: Chance::any_seed(),
    };
    let stream = stream(scene).await?;
    let daemon = kills.run(&scene.lab, scene.take_daemon()?).await?;
    scene.put_daemon(daemon);
    scene.until_all_up().await?;
    let figures = stream.finish(&scene.lab).await?;
    expect_whole(&figures, &format!("{kills:?}"));
    if upgrades {
        let versions = scene.lab.pins().versions()?;
        assert_eq!(versions, [scene.lab.pins().folder()]);
    }
    Ok(())
}

async fn stream(scene: &Scene) -> Result<Stream, Box<dyn std::error::Error>> {
    let plan = StreamPlan {
        flows: 100,
        families: Family::ALL.to_vec(),
        rate: RATE,
    };
    Ok(Stream::begin(&scene.lab, scene.client()?, &plan).await?)
}

fn expect_whole(figures: &Streamed, what: &str) {
    assert!(figures.is_whole(), "{what}: {figures}");
    // Else it would show nothing.
    assert!(figures.sent > 2000 && figures.answers > 100, "{figures}");
    for uplink in 1..=3 {
        let flows = figures.on.get(&uplink).copied().unwrap_or(0);
        assert!(flows > 25, "{figures}");
    }
}

/// Somebody asks a service of the router that listens on all addresses, and is answered much later.
pub(crate) async fn service(case: &Case) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let at_all = bound(scene.lab.gateway().node(), format!("[::]:{PORT}").parse()?).await?;
    let mut visitors = Vec::new();
    for family in Family::ALL {
        for from in addressing::servers(family) {
            for uplink in scene.lab.uplinks() {
                let at = uplink.gateway_address(family).ok_or("no address")?;
                let visitor = bound(scene.lab.internet().node(), SocketAddr::new(from, 0)).await?;
                visitor.connect((at, PORT))?;
                visitor.send(b"?")?;
                let (_, peer) = at_all.recv_from(&mut [0; 1])?;
                visitors.push((visitor, peer, at));
                // Of one asker only the last question is remembered over IPv6.
                if family == Family::Ipv6 {
                    break;
                }
            }
        }
    }
    scene.kill_daemon().await?;
    scene.run_daemon(THREE).await?;
    scene.until_all_up().await?;
    for (visitor, peer, at) in &visitors {
        at_all.send_to(b"!", peer)?;
        let answered = visitor.recv(&mut [0; 1]);
        assert!(answered.is_ok(), "{peer} asked {at}: {answered:?}");
    }
    Ok(())
}

async fn bound(
    node: &failover_tests::Node,
    at: SocketAddr,
) -> Result<UdpSocket, Box<dyn std::error::Error>> {
    let socket = node
        .run(move || async move { UdpSocket::bind(at) })
        .await??;
    socket.set_read_timeout(Some(patient(PATIENT)))?;
    Ok(socket)
}
