//! Nothing depends on the programs' maps: whatever happens to them, flows stay where they are.

use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData, MapError};
use failover::family::Family;
use failover_common::{Flow, Interface, Selection, SelectionKey, Uplink, maps};
use failover_tests::Pinning as _;
use failover_tests::programs::{empty, flow_map};
use failover_tests::{Lab, Protocol, chance::Chance};

use crate::Outcome;
use crate::case::Case;
use crate::conversations::Conversations;
use crate::scene::{Scene, THREE};

const FLOWS: [(Protocol, usize); 3] = [
    (Protocol::Udp, 60),
    (Protocol::Tcp, 60),
    (Protocol::Icmp, 30),
];

/// Hashes choose other uplinks by these weights.
const OTHER_WEIGHTS: &str = "
uplinks:
  one: {interface: wan1}
  two: {interface: wan2, weight: 9}
  three: {interface: wan3, weight: 2}
downlinks: [lan0]
";

/// Entries are deleted at random, then whole maps, while all flows are asked again and again.
pub(crate) async fn is_not_needed(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let flows = scene.converse(family, &FLOWS).await?;
    let mut chance = Chance::from_seed(Chance::any_seed());
    let mut deleted = 0;
    for _ in 0..5 {
        let (asked, some) = tokio::join!(
            flows.expect_unmoved(&[1, 2, 3]),
            delete_at_random(scene, &mut chance)
        );
        asked?;
        deleted += some?;
    }
    assert!(deleted > 100, "{deleted} entries were deleted");
    flows.expect_unmoved(&[1, 2, 3]).await?;

    for map in [
        maps::FLOWS,
        maps::SELECTION,
        maps::UPLINKS,
        maps::INTERFACES,
    ] {
        let count = delete_all(scene, map)?;
        assert!(count > 0, "{map} was empty");
        flows.expect_unmoved(&[1, 2, 3]).await?;
    }
    // New ones are steered by the base layer, and stay.
    let newcomers = scene.converse(family, &FLOWS).await?;
    newcomers.expect_unmoved(&[1, 2, 3]).await?;
    // What was deleted is put in place again.
    scene
        .eventually("the maps are filled again", || async {
            Ok(count(scene, maps::UPLINKS) == 3 && count(scene, maps::SELECTION) == 2)
        })
        .await?;
    flows.expect_unmoved(&[1, 2, 3]).await?;
    newcomers.expect_unmoved(&[1, 2, 3]).await
}

/// The flow table is lost while no daemon runs, and the next daemon would choose otherwise.
pub(crate) async fn is_lost_with_the_daemon(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let flows = scene.converse(family, &FLOWS).await?;
    scene.kill_daemon().await?;
    flows.expect_unmoved(&[1, 2, 3]).await?;
    delete_all(scene, maps::FLOWS)?;
    scene.run_daemon(OTHER_WEIGHTS).await?;
    scene.until_all_up().await?;
    delete_all(scene, maps::FLOWS)?;
    flows.expect_unmoved(&[1, 2, 3]).await?;
    // Their answers have put it right.
    flows.expect_unmoved(&[1, 2, 3]).await?;
    expect_no_moves_in_the_table(scene, &flows).await
}

/// Each flow that was asked is in the table, on the uplink where it is.
async fn expect_no_moves_in_the_table(scene: &Scene, flows: &Conversations) -> Outcome {
    let table = flow_map(&scene.lab.pins())?;
    let status = scene.daemon()?.status().await?;
    for uplink in 1..=3 {
        let interface = format!("wan{uplink}");
        let found = status
            .uplinks
            .iter()
            .find(|known| known.interface == interface);
        let id = found.ok_or("not in the status")?.id;
        let mut there = 0;
        for entry in table.iter() {
            let (_, flow) = entry?;
            let flow: Flow = bytemuck::checked::try_pod_read_unaligned(&flow)
                .map_err(|error| error.to_string())?;
            there += usize::from(flow.uplink == id && flow.confirmed);
        }
        assert!(
            there >= flows.on(uplink),
            "{there} flows of {interface} in the table, {} were asked",
            flows.on(uplink)
        );
    }
    Ok(())
}

/// Deletes every other entry, more or less, and gives packets a chance in between.
async fn delete_at_random(
    scene: &Scene,
    chance: &mut Chance,
) -> Result<usize, Box<dyn std::error::Error>> {
    let mut table = flow_map(&scene.lab.pins())?;
    let keys: Vec<_> = table.keys().collect::<Result<_, _>>()?;
    let mut deleted = 0;
    for key in keys {
        if chance.one_of(&[true, false]) == Some(true) && table.remove(&key).is_ok() {
            deleted += 1;
        }
        if deleted % 16 == 0 {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
    }
    Ok(deleted)
}

/// Deletes all entries of a map; returns how many there were.
fn delete_all(scene: &Scene, map: &str) -> Result<usize, MapError> {
    const KEY: usize = size_of::<u32>();
    match map {
        maps::FLOWS => empty(flow_map(&scene.lab.pins())?),
        maps::UPLINKS => forget_uplinks(scene),
        maps::INTERFACES => empty(hash::<KEY, { size_of::<Interface>() }>(scene, map)?),
        _ => empty(hash::<
            { size_of::<SelectionKey>() },
            { size_of::<Selection>() },
        >(scene, map)?),
    }
}

fn count(scene: &Scene, map: &str) -> usize {
    let keys = match map {
        maps::UPLINKS => known_uplinks(scene).map(|known| known.len()),
        _ => hash::<{ size_of::<SelectionKey>() }, { size_of::<Selection>() }>(scene, map)
            .map(|map| map.keys().count()),
    };
    keys.unwrap_or(0)
}

const UPLINK: usize = size_of::<Uplink>();

fn uplinks(scene: &Scene) -> Result<Array<MapData, [u8; UPLINK]>, MapError> {
    let path = scene.lab.pins().map(maps::UPLINKS);
    Array::try_from(Map::Array(MapData::from_pin(path)?))
}

/// The ids of the uplinks that the programs know.
fn known_uplinks(scene: &Scene) -> Result<Vec<u32>, MapError> {
    let array = uplinks(scene)?;
    let mut known = Vec::new();
    for id in 1..=maps::UPLINK_CAPACITY {
        if array.get(&id, 0)? != [0; UPLINK] {
            known.push(id);
        }
    }
    Ok(known)
}

/// Forgets all uplinks; returns how many there were.
fn forget_uplinks(scene: &Scene) -> Result<usize, MapError> {
    let known = known_uplinks(scene)?;
    let mut array = uplinks(scene)?;
    for id in &known {
        array.set(*id, [0; UPLINK], 0)?;
    }
    Ok(known.len())
}

fn hash<const KEY: usize, const VALUE: usize>(
    scene: &Scene,
    map: &str,
) -> Result<HashMap<MapData, [u8; KEY], [u8; VALUE]>, MapError> {
    HashMap::try_from(Map::HashMap(MapData::from_pin(scene.lab.pins().map(map))?))
}
