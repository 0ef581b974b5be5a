//! The configuration changes while traffic goes on.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use failover::family::Family;
use failover_tests::Pinning as _;
use failover_tests::daemon::{Mode, State, Status};
use failover_tests::programs::has_tcx;
use failover_tests::{Host, Keep, KeptFlow, KeptFlows, KernelState, Lab, Protocol, RpFilter};

use crate::Outcome;
use crate::case::Case;
use crate::scene::{Scene, THREE, TWO};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The first uplink is to get eight of ten new flows.
const WEIGHTED: &str = "
uplinks:
  one: {interface: wan1, weight: 8}
  two: {interface: wan2}
  three: {interface: wan3}
downlinks: [lan0]
";

/// The same with numbers that others may need.
const RENUMBERED: &str = "
tables: {base: 1000}
rule_priority: 2000
";

const TWO_NETWORKS: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2}
downlinks: [lan0, lan1]
";

/// Of each protocol and family, enough to be on every uplink; each is asked often enough to notice a
/// gap of some milliseconds in one of them.
const KEEP: Keep = Keep {
    each: 16,
    every: Duration::from_millis(60),
};

/// An answer that was on its way when its connection was forgotten is for nobody: the router resets
/// it. With no uplink at the address any more, `main` says by which way.
const NO_RESETS: &str = "
table inet nobody {
  chain out {
    type filter hook output priority filter; policy accept;
    ip saddr 198.18.13.2 tcp flags & rst == rst drop
    ip6 saddr fd00:18:13::2 tcp flags & rst == rst drop
  }
}
";

/// Where the ruleset notes who asked the router's own services.
const NOTES: [&str; 3] = [
    "map inet failover asked4",
    "map inet failover asked6",
    "set inet failover asked_ports6",
];

const FLOWS: [(Protocol, usize); 2] = [(Protocol::Udp, 30), (Protocol::Tcp, 30)];

/// Flows of every protocol and family that are asked all the time; those of the uplinks `doomed` may
/// lose answers.
async fn keep(host: &Host, doomed: &[u8]) -> Result<KeptFlows> {
    Ok(host.keep(KEEP, doomed).await?)
}

/// Waits until each flow has been answered since now or has failed, but for those of the uplinks
/// `doomed`. Of these others none lost an answer, and none was ever seen elsewhere. Returns those
/// of the doomed.
async fn undisturbed(scene: &Scene, flows: KeptFlows, doomed: &[u8]) -> Result<Vec<KeptFlow>> {
    let is_doomed = |flow: &KeptFlow| {
        flow.home_uplink()
            .is_some_and(|home| doomed.contains(&home))
    };
    let now = Instant::now();
    scene
        .eventually("flows are asked once more", || async {
            let flows = flows.so_far();
            Ok(flows
                .iter()
                .all(|flow| is_doomed(flow) || flow.lost > 0 || flow.last_answered > now))
        })
        .await?;
    let (doomed, others): (Vec<KeptFlow>, Vec<KeptFlow>) =
        flows.finish().await.into_iter().partition(is_doomed);
    // Where programs hang on clsact, an interface that gets it stops for a moment.
    let may_lose = u64::from(!has_tcx() && scene.mode() == Mode::Ebpf);
    for flow in &others {
        assert!(flow.lost <= may_lose && flow.moves == 0, "{flow:?}");
    }
    assert!(others.len() > 20, "{} flows", others.len());
    Ok(doomed)
}

/// New flows of both families, by the uplinks that they are on.
async fn spread(scene: &Scene) -> Result<[usize; 4]> {
    let mut on = [0; 4];
    for family in Family::ALL {
        let tally = scene.new_flows(Protocol::Udp, family, 200).await?;
        for (uplink, count) in (0..).zip(&mut on) {
            *count += tally.on(uplink);
        }
    }
    Ok(on)
}

fn ids_and_times(status: &Status) -> Vec<(String, u8, String)> {
    let uplinks = status.uplinks.iter();
    uplinks
        .map(|uplink| (uplink.name.clone(), uplink.id, uplink.since.clone()))
        .collect()
}

async fn kernel(scene: &Scene) -> Result<KernelState> {
    let state = KernelState::of(scene.lab.gateway().node()).await?;
    Ok(state.without_idle_clsact())
}

/// New flows follow the new weights; no flow moves, no packet is lost, and no uplink is doubted.
pub(crate) async fn weights(case: &Case) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let flows = keep(scene.client()?, &[]).await?;
    let before = scene.daemon()?.status().await?;

    let said = scene.reload(WEIGHTED).await?;
    assert_eq!(said, "reloaded: one: weight 1 -> 8; nothing else\n");
    let on = spread(scene).await?;
    assert!(on[1] > 270 && on[2] > 10 && on[3] > 10, "{on:?}");

    scene.reload(&format!("{WEIGHTED}{RENUMBERED}")).await?;
    let rules = scene.in_gateway("ip rule").await?;
    assert!(rules.contains("lookup 1001") && !rules.contains("lookup 301"));
    let on = spread(scene).await?;
    assert!(on[1] > 270, "{on:?}");
    assert_eq!(scene.reload(WEIGHTED).await?.lines().count(), 1);
    assert_eq!(scene.reload(WEIGHTED).await?, "nothing differs\n");

    let after = scene.daemon()?.status().await?;
    assert!(after.all(State::Up), "{after}");
    assert_eq!(ids_and_times(&after), ids_and_times(&before));
    undisturbed(scene, flows, &[]).await?;
    scene.expect_no_strays_since(None)
}

/// An uplink that is added is used. When it is removed its flows go elsewhere, those of the others
/// stay, and nothing of it is left in the kernel.
pub(crate) async fn uplinks(case: &Case) -> Outcome {
    let lab = Lab::builder().uplinks(3).rp_filter(RpFilter::Strict);
    let scene = case.prepare(lab).await?;
    scene.lab.gateway().node().nft(NO_RESETS).await?;
    scene.run_daemon(TWO).await?;
    scene.until_all_up().await?;
    let older = keep(scene.client()?, &[]).await?;
    let links = pins(scene)?;
    let before = kernel(scene).await?;

    let said = scene.reload(THREE).await?;
    assert_eq!(said, "reloaded: uplink three added; nothing else\n");
    scene.until_all_up().await?;
    let on = spread(scene).await?;
    assert!(on.iter().skip(1).all(|count| *count > 60), "{on:?}");
    let ids = ids_and_times(&scene.daemon()?.status().await?);
    let flows = keep(scene.client()?, &[3]).await?;
    let mut asked = scene.converse(Family::Ipv4, &FLOWS).await?;
    assert!(asked.on(3) > 5);

    let said = scene.reload(TWO).await?;
    assert_eq!(said, "reloaded: uplink three removed; nothing else\n");
    asked.expect_moved(3, &[1, 2]).await?;
    asked.expect_unmoved(&[1, 2]).await?;
    let on = spread(scene).await?;
    assert_eq!(on[3], 0, "{on:?}");
    let goes_on = |flow: &KeptFlow| {
        let connection = flow.protocol == Protocol::Tcp;
        connection || matches!(flow.uplink(), Some(1 | 2))
    };
    scene
        .eventually("flows of wan3 go on elsewhere", || async {
            Ok(flows.so_far().iter().all(goes_on))
        })
        .await?;
    let gone = undisturbed(scene, flows, &[3]).await?;
    assert!(gone.len() > 5, "there were some on wan3");
    // Clients were told with it, and it lives for a minute.
    let resets = "nft delete table inet failover_resets";
    scene.in_gateway(resets).await?;
    // Packets that were on their way leave an entry for a moment, and who sent them is noted for three
    // minutes as if a service of the router had been asked.
    let left = RefCell::new(None);
    let as_before = scene.eventually("nothing of the uplink is left in the kernel", || async {
        for noted in NOTES {
            let flush = format!("nft flush {noted}");
            scene.in_gateway(&flush).await?;
        }
        let after = KernelState::of(scene.lab.gateway().node()).await?;
        let after = after.without_idle_clsact();
        left.replace(before.difference(&after));
        Ok(left.borrow().is_none())
    });
    let as_before = as_before.await;
    assert_eq!(left.take(), None);
    as_before?;
    assert_eq!(pins(scene)?, links);

    scene.reload(THREE).await?;
    scene.until_all_up().await?;
    let again = ids_and_times(&scene.daemon()?.status().await?);
    let id = |of: &[(String, u8, String)]| -> Vec<u8> { of.iter().map(|found| found.1).collect() };
    assert_eq!(id(&again), id(&ids), "it has its id again");
    undisturbed(scene, older, &[]).await?;
    scene.expect_no_strays_since(None)
}

/// What is pinned, in eBPF mode.
fn pins(scene: &Scene) -> Result<usize> {
    let folder = scene.lab.pins().folder();
    if !folder.exists() {
        return Ok(0);
    }
    let mut count = 0;
    let mut folders = vec![folder];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            count += 1;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(count)
}

/// A downlink is added and removed again: flows from there and from elsewhere stay.
pub(crate) async fn downlinks(case: &Case) -> Outcome {
    let scene = case.open(Lab::builder().downlinks([1, 1]), TWO).await?;
    let first = keep(scene.client()?, &[]).await?;
    let second = keep(scene.lab.client(2)?, &[]).await?;
    let before = kernel(scene).await?;

    let said = scene.reload(TWO_NETWORKS).await?;
    assert_eq!(said, "reloaded: downlink lan1 added; nothing else\n");
    let with = kernel(scene).await?;
    let added = before.difference(&with).unwrap_or_default();
    assert!(added.contains("lan1"), "{added}");
    let third = keep(scene.lab.client(2)?, &[]).await?;

    let said = scene.reload(TWO).await?;
    assert_eq!(said, "reloaded: downlink lan1 removed; nothing else\n");
    let after = kernel(scene).await?;
    assert_eq!(before.difference(&after), None);
    let fourth = keep(scene.lab.client(2)?, &[]).await?;
    for flows in [first, second, third, fourth] {
        undisturbed(scene, flows, &[]).await?;
    }
    scene.expect_no_strays_since(None)
}

/// An uplink dies and is found out although the configuration changes meanwhile; dead, it is taken
/// out and comes again.
pub(crate) async fn amid_a_failure(case: &Case) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let flows = keep(scene.client()?, &[2]).await?;
    scene.uplink(2)?.black_hole().await?;
    scene.reload(WEIGHTED).await?;
    scene.reload(THREE).await?;
    for family in Family::ALL {
        scene.until_state(2, family, State::Down).await?;
    }
    scene.reload(WEIGHTED).await?;
    let status = scene.daemon()?.status().await?;
    assert!(status.is("two", State::Down), "{status}");
    let on = spread(scene).await?;
    assert_eq!(on[2], 0, "{on:?}");
    assert!(on[1] > on[3], "{on:?}");

    let without = THREE.replace("  two: {interface: wan2}\n", "");
    scene.reload(&without).await?;
    assert!(scene.daemon()?.status().await?.uplink("two").is_none());
    scene.reload(THREE).await?;
    let on = spread(scene).await?;
    assert_eq!(on[2], 0, "it has not answered yet: {on:?}");
    scene.uplink(2)?.heal().await?;
    scene.until_all_up().await?;
    let on = spread(scene).await?;
    assert!(on[2] > 60, "{on:?}");
    undisturbed(scene, flows, &[2]).await?;
    scene.expect_no_strays_since(None)
}
