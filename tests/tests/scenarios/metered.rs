//! What probes cost, where every byte is paid for.

use failover::family::Family;
use failover_tests::addressing::{SERVER_PORT, servers};
use failover_tests::daemon::UplinkStatus;
use failover_tests::{Lab, LabError, ProgramSpec, Uplink, eventually};

use crate::Outcome;
use crate::case::Case;
use crate::scene::{LIMIT, Scene};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The one is metered: it is asked every two seconds. The other has this budget.
fn configuration(budget: &str) -> String {
    let mut targets = vec![
        "icmp://203.0.113.1".to_owned(),
        "'icmp://fd00:203::1'".to_owned(),
    ];
    for family in Family::ALL {
        let server = servers(family).into_iter().next();
        targets.extend(server.map(|server| {
            let place = std::net::SocketAddr::new(server, SERVER_PORT);
            format!("'tcp://{place}'")
        }));
    }
    format!(
        "
uplinks:
  one: {{interface: wan1, metered: true}}
  two: {{interface: wan2, probe: {{budget: {budget}}}}}
downlinks: [lan0]
probe: {{targets: [{}], interval: 200ms, max_hold: 0s}}
",
        targets.join(", ")
    )
}

/// What probes take is what their provider carries, to the byte, and over a crash of the daemon. A
/// budget that is used up is told, and makes them rare.
pub(crate) async fn counted(case: &Case) -> Outcome {
    let scene = case.prepare(Lab::builder()).await?;
    for uplink in scene.lab.uplinks() {
        let table = "table inet lab_bytes {
            counter carried { }
            chain forward {
                type filter hook forward priority filter; policy accept;
                counter name carried
            }
        }";
        uplink.provider().nft(table.to_owned()).await?;
    }
    scene.run_daemon(&configuration("none")).await?;
    scene.until_all_up().await?;

    let first = as_the_provider_sees_it(scene, 3_000).await?;
    scene.kill_daemon().await?;
    scene.run_daemon(&configuration("none")).await?;
    let second = as_the_provider_sees_it(scene, first + 2_000).await?;
    assert!(second > first);

    let budget = |uplink: &UplinkStatus| uplink.probe_budget_bytes;
    let status = scene
        .until("the other one took more", |status| {
            let two = status.uplink("two").and_then(|two| two.probe_bytes_today);
            two.is_some_and(|bytes| bytes >= 10_000)
        })
        .await?;
    assert_eq!(status.uplink("two").and_then(budget), None);
    let said = scene.reload(&configuration("10kB")).await?;
    assert_eq!(
        said,
        "reloaded: two: probe.budget none -> 10kB; nothing else\n"
    );
    let status = scene.daemon()?.status().await?;
    assert_eq!(status.uplink("one").and_then(budget), Some(10_000_000));
    assert_eq!(status.uplink("two").and_then(budget), Some(10_000));
    let daemon = scene.daemon()?;
    let failover = daemon.failover();
    scene
        .eventually("it is told", || async {
            let told = failover.command("events").await?.stdout;
            Ok(told.contains("budget used up  probes took "))
        })
        .await?;
    let table = failover.command("status").await?.stdout;
    assert!(table.contains("Probes of one took "), "{table}");
    assert!(
        table.contains(" of 10 kB today; asked rarely until midnight UTC."),
        "{table}"
    );
    // It was asked five times in a second, for 600 bytes and more each time.
    let (one, two) = (scene.uplink(1)?, scene.uplink(2)?);
    let (before, then) = (carried(two).await?, carried(one).await?);
    scene
        .eventually("the other one is asked three times more", || async {
            Ok(carried(one).await? >= then + 1_800)
        })
        .await?;
    let after = carried(two).await?;
    assert!(after - before < 2_000, "{} bytes", after - before);
    Ok(())
}

/// Waits until probes of the first uplink took so much, at a moment at which none is on its way, and
/// returns how much it is by then.
async fn as_the_provider_sees_it(scene: &Scene, least: u64) -> Result<u64> {
    let daemon = scene.daemon()?;
    let uplink = scene.uplink(1)?;
    let counted = eventually("no probe is on its way", LIMIT, || async {
        let before = carried(uplink).await?;
        let status = daemon.status().await?;
        let after = carried(uplink).await?;
        let told = status.uplink("one").and_then(|one| one.probe_bytes_today);
        Ok::<_, LabError>((before == after && after >= least).then_some((told, after)))
    });
    let (told, carried) = counted.await?;
    assert_eq!(told, Some(carried));
    Ok(carried)
}

/// What the provider carried, in bytes.
async fn carried(uplink: &Uplink) -> std::result::Result<u64, LabError> {
    let line = "nft list counter inet lab_bytes carried";
    let listed = uplink.provider().must(ProgramSpec::line(line)).await?;
    let bytes = listed
        .split_whitespace()
        .skip_while(|word| *word != "bytes");
    Ok(bytes
        .skip(1)
        .find_map(|word| word.parse().ok())
        .unwrap_or(0))
}
