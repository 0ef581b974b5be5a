//! What is pinned is used again where it fits, replaced where it does not, and removed where it is of
//! another version; what others have there is theirs.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use failover::dataplane::ebpf::object::EMBEDDED;
use failover::dataplane::ebpf::pins::Pins;
use failover::family::Family;
use failover_common::{LAYOUT_VERSION, Uplink, maps};
use failover_tests::Pinning as _;
use failover_tests::programs::Counter;
use failover_tests::{Answer, AskError, Lab, ProgramSpec, Protocol, Traffic};

use crate::hanging::{listed, places, usual};
use crate::{CONFIG, Hook, SystemTest, TestResult, VERDICT, started};

pub(crate) fn tests(hook: Hook) -> Vec<SystemTest> {
    vec![
        SystemTest::new(format!("{hook}_maps_that_fit_are_used_again"), move || {
            again(hook)
        }),
        SystemTest::new(
            format!("{hook}_another_capacity_makes_the_flow_table_anew"),
            move || capacity(hook),
        ),
        SystemTest::new(
            format!("{hook}_what_is_no_map_of_ours_is_replaced"),
            move || replaced(hook),
        ),
        SystemTest::new(
            format!("{hook}_a_folder_in_the_place_of_a_map_is_named"),
            move || named(hook),
        ),
        SystemTest::new(
            format!("{hook}_another_version_goes_when_this_one_is_in_place"),
            move || version(hook),
        ),
        SystemTest::new(
            format!("{hook}_what_others_pin_beside_ours_stays"),
            move || beside(hook),
        ),
        SystemTest::new(
            format!("{hook}_a_place_that_is_left_is_emptied"),
            move || moved(hook),
        ),
    ]
}

type Failure = Box<dyn std::error::Error>;

/// The kernel's numbers of the maps, by name.
fn map_ids(lab: &Lab) -> Result<Vec<(&'static str, u32)>, Failure> {
    maps::ALL
        .iter()
        .map(|name| {
            let map = MapData::from_pin(lab.pins().map(name))?;
            Ok((*name, map.info()?.id()))
        })
        .collect()
}

/// The generations of both families of all uplinks.
fn generations(lab: &Lab) -> Result<Vec<(u32, u32)>, Failure> {
    const LENGTH: usize = size_of::<Uplink>();
    let map = Map::Array(MapData::from_pin(lab.pins().map(maps::UPLINKS))?);
    let map = Array::<_, [u8; LENGTH]>::try_from(map)?;
    let mut all = Vec::new();
    for id in [1, 2] {
        let bytes = map.get(&id, 0)?;
        let uplink: Uplink = bytemuck::checked::try_pod_read_unaligned(&bytes)
            .map_err(|error| format!("uplink {id} makes no sense: {error}"))?;
        all.push((uplink.ipv4.generation, uplink.ipv6.generation));
    }
    Ok(all)
}

fn patience() -> Duration {
    Duration::from_secs(2)
}

/// By which address the server saw each flow; all must be answered.
fn seen(asked: Vec<Result<Answer, AskError>>) -> Result<Vec<SocketAddr>, AskError> {
    asked
        .into_iter()
        .map(|answer| answer.map(|answer| answer.seen))
        .collect()
}

async fn again(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let mut daemon = hook.start(&lab).await?;
    let failover = daemon.failover().clone();
    let traffic = Traffic::new(Protocol::Udp, Family::Ipv4, 50);
    let flows = lab.client(1)?.open(traffic).await?;
    let before = seen(flows.ask(patience()).await?)?;
    let (ids, known) = (map_ids(&lab)?, generations(&lab)?);
    let entered = daemon
        .status()
        .await?
        .flow_table
        .ok_or("no flow table")?
        .entered;
    assert!(entered >= 50, "{entered}");
    for kill in [true, false] {
        if kill {
            daemon.kill().await?;
        } else {
            daemon.terminate().await?;
        }
        daemon = started(&failover).await?;
        assert_eq!(map_ids(&lab)?, ids);
        assert_eq!(generations(&lab)?, known);
        assert_eq!(seen(flows.ask(patience()).await?)?, before);
        let table = daemon.status().await?.flow_table.ok_or("no flow table")?;
        assert_eq!(table.entered, entered, "no flow was entered again");
        assert!(!daemon.log().contains("made anew"), "{}", daemon.log());
    }
    daemon.terminate().await?;
    Ok(())
}

async fn capacity(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = hook.start(&lab).await?;
    let traffic = Traffic::new(Protocol::Tcp, Family::Ipv6, 50);
    let flows = lab.client(1)?.open(traffic).await?;
    let before = seen(flows.ask(patience()).await?)?;
    let ids = map_ids(&lab)?;
    daemon.terminate().await?;

    let config = format!("{CONFIG}flows: {{capacity: 5000}}\n");
    let daemon = started(&hook.failover(&lab, &config)?).await?;
    let changed: Vec<_> = map_ids(&lab)?
        .into_iter()
        .filter(|one| !ids.contains(one))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(changed, [maps::FLOWS, maps::REMEMBERED, maps::OFFLOAD]);
    let log = daemon.log();
    let said = log.lines().any(|line| {
        ["flows", "made anew", "it has 262144 entries, not 5000"]
            .iter()
            .all(|part| line.contains(part))
    });
    assert!(said, "{log}");
    let table = daemon.status().await?.flow_table.ok_or("no flow table")?;
    assert_eq!(table.capacity, 5000);
    assert_eq!(seen(flows.ask(patience()).await?)?, before);
    daemon.terminate().await?;
    Ok(())
}

/// A map of another type, one of another size, and a program.
async fn replaced(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let daemon = hook.start(&lab).await?;
    let failover = daemon.failover().clone();
    daemon.terminate().await?;
    let ids = map_ids(&lab)?;
    let create = |name: &str, kind: &str| {
        let path = lab.pins().map(name);
        format!(
            "bpftool map create {} type {kind} name other",
            path.display()
        )
    };
    for name in [maps::INTERFACES, maps::UPLINKS, maps::SELECTION] {
        fs::remove_file(lab.pins().map(name))?;
    }
    let key = "key 4 value 4 entries 256";
    for command in [
        create(maps::INTERFACES, &format!("array {key}")),
        create(maps::UPLINKS, &format!("array {key}")),
    ] {
        gateway.must(ProgramSpec::line(&command)).await?;
    }
    Counter::new(EMBEDDED, 1)?.pin(&lab.pins().map(maps::SELECTION))?;

    let daemon = started(&failover).await?;
    assert_eq!(places(gateway).await?, usual(hook));
    let log = daemon.log();
    for name in [maps::INTERFACES, maps::UPLINKS, maps::SELECTION] {
        let said = |line: &str| line.contains("made anew") && line.contains(&format!("/{name} "));
        assert!(log.lines().any(said), "{name}: {log}");
    }
    let same: Vec<_> = map_ids(&lab)?
        .into_iter()
        .filter(|one| ids.contains(one))
        .collect();
    assert_eq!(
        same.len(),
        ids.len() - 3,
        "the others are used again: {same:?}"
    );
    let traffic = Traffic::new(Protocol::Udp, Family::Ipv4, 40);
    for answer in lab.client(1)?.burst(traffic).await? {
        answer?;
    }
    daemon.terminate().await?;

    // In the places of links, too.
    if hook == Hook::Tcx {
        for link in fs::read_dir(lab.pins().links())? {
            let link = link?.path();
            fs::remove_file(&link)?;
            Counter::new(EMBEDDED, 1)?.pin(&link)?;
        }
        let daemon = started(&failover).await?;
        crate::hanging::until(gateway, VERDICT, &usual(hook)).await?;
        assert_eq!(listed(gateway).await?.len(), 4);
        daemon.terminate().await?;
    }
    Ok(())
}

async fn named(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let map = lab.pins().map(maps::FLOWS);
    fs::create_dir_all(&map)?;
    let failover = hook.failover(&lab, CONFIG)?;
    let output = failover.command("run --quiet").await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = ["mode: ebpf", &map.display().to_string(), "irectory"]
        .iter()
        .all(|part| output.stderr.contains(part));
    assert!(said, "{}", output.stderr);
    assert!(map.is_dir() && places(gateway).await?.is_empty());

    let auto = CONFIG.replace("mode: ebpf", "mode: auto");
    let daemon = hook.failover(&lab, &auto)?.run().await?;
    assert_eq!(daemon.status().await?.mode, "classic");
    let log = daemon.log();
    assert!(log.contains(&map.display().to_string()), "{log}");
    daemon.terminate().await?;
    Ok(())
}

/// What a daemon of another version left is what this one leaves, under another number.
async fn version(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let daemon = hook.start(&lab).await?;
    let failover = daemon.failover().clone();
    daemon.terminate().await?;
    let other = lab.pins().root().join(format!("v{}", LAYOUT_VERSION + 7));
    fs::rename(lab.pins().folder(), &other)?;
    let before = listed(gateway).await?;
    let traffic = Traffic::new(Protocol::Udp, Family::Ipv4, 50);
    let flows = lab.client(1)?.open(traffic).await?;
    let asked = seen(flows.ask(patience()).await?)?;

    let daemon = started(&failover).await?;
    assert!(!other.exists());
    assert_eq!(places(gateway).await?, usual(hook));
    let after = listed(gateway).await?;
    assert_eq!(after.len(), 4, "{after:?}");
    assert!(before.iter().all(|one| !after.contains(one)));
    let log = daemon.log();
    let line = |part: &str| log.lines().position(|line| line.contains(part));
    let removed = line("removing what another version left");
    let attached = log
        .lines()
        .enumerate()
        .filter(|(_, line)| line.contains("attached fo_"))
        .map(|(number, _)| number)
        .max();
    assert!(attached.is_some() && attached < removed, "{log}");
    assert_eq!(seen(flows.ask(patience()).await?)?, asked);
    daemon.terminate().await?;
    Ok(())
}

/// Somebody uses the configured folder for other things, too.
async fn beside(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let theirs = lab.pins().root().to_owned();
    fs::create_dir_all(theirs.join("v2x"))?;
    let pins = [theirs.join("map"), theirs.join("v2x").join("map")];
    for pin in &pins {
        let command = format!(
            "bpftool map create {} type hash key 4 value 4 entries 8 name theirs",
            pin.display()
        );
        gateway.must(ProgramSpec::line(&command)).await?;
    }
    let there = || pins.iter().all(|pin| pin.exists());
    let daemon = hook.start(&lab).await?;
    let failover = daemon.failover().clone();
    assert!(there());
    daemon.terminate().await?;
    let output = failover.command("clean").await?;
    assert!(output.status.success(), "{output:?}");
    assert!(there());
    assert!(!lab.pins().folder().exists() && places(gateway).await?.is_empty());
    Ok(())
}

/// The configuration names another folder.
async fn moved(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let daemon = hook.start(&lab).await?;
    daemon.terminate().await?;
    let old = lab.pins().root().to_owned();
    let new = lab.bpffs().join("elsewhere");
    let failover = hook.failover(&lab, CONFIG)?;
    crate::set_bpffs(&failover, &new)?;
    let daemon = started(&failover).await?;
    crate::hanging::until(gateway, VERDICT, &usual(hook)).await?;
    assert_eq!(listed(gateway).await?.len(), 4);
    let (is_old, is_new) = (old.exists(), pinned(&new));
    assert_eq!((is_old, is_new), (false, true));
    daemon.kill().await?;

    // Clean knows it, too.
    let failover = hook.failover(&lab, CONFIG)?;
    let output = failover.command("clean").await?;
    assert!(output.status.success(), "{output:?}");
    assert!(!new.exists() && places(gateway).await?.is_empty());
    Ok(())
}

fn pinned(root: &Path) -> bool {
    Pins::new(root).map(maps::FLOWS).exists()
}
