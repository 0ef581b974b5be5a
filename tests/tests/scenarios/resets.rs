//! Who is told at once that his connection is lost, and who must not be.

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, Node, ProgramSpec, Protocol, addressing};

use crate::Outcome;
use crate::case::Case;
use crate::download::{Download, Downloaded, Servers};
use crate::scene::{Scene, THREE, TWO};
use crate::translation;

/// Downloads at the same time.
const DOWNLOADS: usize = 24;

/// Clients that download, and so only listen, try again at once; the others notice nothing.
pub(crate) async fn downloads(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    downloads_without(scene, family, async || {
        scene.uplink(2)?.black_hole().await?;
        scene.until_state(2, family, State::Down).await?;
        Ok(())
    })
    .await
}

/// The second of three uplinks is lost to downloads.
pub(crate) async fn downloads_without(
    scene: &Scene,
    family: Family,
    lose: impl AsyncFnOnce() -> Outcome,
) -> Outcome {
    let servers = Servers::start(&scene.lab, family).await?;
    let client = scene.client()?.node();
    count_resets(client).await?;
    let addresses = addressing::servers(family);
    let mut downloads = Vec::new();
    for address in addresses.iter().cycle().take(DOWNLOADS) {
        downloads.push(Download::start(client, *address).await?);
    }
    begun(scene, &servers, DOWNLOADS).await?;
    let lost = connections_by(scene, family, 2).await?;
    assert!(lost > 0, "no download goes by wan2");

    lose().await?;
    begun(scene, &servers, DOWNLOADS + lost).await?;
    servers.hurry();
    let mut again = 0;
    for download in &downloads {
        let Downloaded { retries, whole } = download.end().await?;
        assert!(whole && retries <= 1, "{retries} retries, whole: {whole}");
        again += retries;
    }
    assert_eq!(again, lost);
    assert_eq!(resets(client).await?, lost);
    scene.expect_no_strays_since(None)
}

/// Nobody is told while there is no uplink to go to; then those whose uplink stays dead.
pub(crate) async fn withheld(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder(), TWO).await?;
    let client = scene.client()?.node();
    count_resets(client).await?;
    let mut flows = scene.converse(family, &[(Protocol::Tcp, 60)]).await?;
    for uplink in scene.lab.uplinks() {
        uplink.black_hole().await?;
    }
    for uplink in 1..=2 {
        scene.until_state(uplink, family, State::Down).await?;
    }
    let lost = flows.on(2);
    assert_eq!(resets(client).await?, 0);
    scene.uplink(1)?.heal().await?;
    scene.until_state(1, family, State::Up).await?;
    flows.expect_moved(2, &[1]).await?;
    flows.expect_unmoved(&[1]).await?;
    assert_eq!(resets(client).await?, lost);
    Ok(())
}

const UNTRANSLATED: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2}
downlinks: [lan0]
nat: none
";

/// A connection that is not translated goes on by another uplink, whatever becomes of its own; nor
/// does a gateway that was rebooted, and knows of no connection, end any.
pub(crate) async fn untranslated(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder(), UNTRANSLATED).await?;
    let client = scene.client()?.node();
    translation::route_back(scene, family).await?;
    count_resets(client).await?;
    let flows = scene
        .client()?
        .open(failover_tests::Traffic::new(Protocol::Tcp, family, 60))
        .await?;
    answered(&flows).await?;
    scene.uplink(2)?.black_hole().await?;
    scene.until_state(2, family, State::Down).await?;
    answered(&flows).await?;

    scene.kill_daemon().await?;
    scene.in_gateway("nft flush ruleset").await?;
    scene.in_gateway("conntrack -F").await?;
    scene.run_daemon(UNTRANSLATED).await?;
    answered(&flows).await?;
    scene.uplink(2)?.heal().await?;
    scene.until_state(2, family, State::Up).await?;
    answered(&flows).await?;
    assert_eq!(resets(client).await?, 0);
    Ok(())
}

async fn answered(flows: &failover_tests::Flows) -> Outcome {
    for asked in flows.ask(crate::scene::PATIENT).await? {
        asked?;
    }
    Ok(())
}

async fn begun(scene: &Scene, servers: &Servers, count: usize) -> Outcome {
    let what = format!("{count} downloads have begun");
    scene
        .eventually(&what, || async { Ok(servers.begun() == count) })
        .await
}

/// How many connections of users go by an uplink.
async fn connections_by(
    scene: &Scene,
    family: Family,
    uplink: u8,
) -> Result<usize, Box<dyn std::error::Error>> {
    let address = scene.uplink(uplink)?.gateway_address(family);
    let address = address.ok_or("no address")?;
    let listing = format!(
        "conntrack -L -f {} -p tcp --reply-dst {address}",
        match family {
            Family::Ipv4 => "ipv4",
            Family::Ipv6 => "ipv6",
        }
    );
    let listed = scene.in_gateway(&listing).await?;
    Ok(listed
        .lines()
        .filter(|line| line.contains("ESTABLISHED"))
        .count())
}

/// Counts the resets that a client is sent.
async fn count_resets(client: &Node) -> Outcome {
    client
        .nft(
            "table inet seen {
                chain input {
                    type filter hook input priority raw; policy accept;
                    tcp flags rst counter
                }
            }",
        )
        .await?;
    Ok(())
}

async fn resets(client: &Node) -> Result<usize, Box<dyn std::error::Error>> {
    let listed = client
        .must(ProgramSpec::line("nft list table inet seen"))
        .await?;
    let words: Vec<&str> = listed.split_whitespace().collect();
    let count = words.windows(2).find_map(|pair| {
        (pair.first() == Some(&"packets"))
            .then(|| pair.get(1))
            .flatten()
    });
    Ok(count.ok_or("no counter")?.parse()?)
}
