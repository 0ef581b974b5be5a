//! What people see who look into the maps with bpftool: names, not numbers.

use failover::family::Family;
use failover_common::maps;
use failover_tests::Pinning as _;
use failover_tests::daemon::State;
use failover_tests::{Lab, ProgramSpec, Protocol};
use serde_json::Value;

use crate::Outcome;
use crate::case::Case;
use crate::scene::{Scene, TWO, of};

pub(crate) type Entries = Vec<(Value, Value)>;

/// Flows, uplinks and selections are printed with the names of fields and states, and tell of a
/// failover.
pub(crate) async fn tells_of_a_failover(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder(), TWO).await?;
    let flows = scene.converse(family, &[(Protocol::Tcp, 20)]).await?;
    let name = match family {
        Family::Ipv4 => "Ipv4",
        Family::Ipv6 => "Ipv6",
    };
    let part = name.to_lowercase();

    let all = dump(scene, maps::FLOWS).await?;
    let mine: Vec<_> = all.iter().filter(|(key, _)| key["protocol"] == 6).collect();
    assert_eq!(mine.len(), 20, "{all:?}");
    for (key, flow) in &mine {
        assert_eq!(key["family"], name);
        assert_eq!(key["outside_port"], 7007);
        assert_eq!(flow["reason"], "Hash");
        assert_eq!(flow["phase"], "Established");
        assert_eq!(flow["confirmed"], true);
    }
    let on = |id: u64| mine.iter().filter(|(_, flow)| flow["uplink"] == id).count();
    assert_eq!((on(1), on(2)), (flows.on(1), flows.on(2)));

    let uplinks = dump(scene, maps::UPLINKS).await?;
    let before = entry(&uplinks, &Value::from(2), &part)?;
    assert_eq!(before["state"], "Up");
    assert_eq!(before["translates"], true);

    scene.uplink(2)?.black_hole().await?;
    scene.until_state(2, family, State::Down).await?;
    scene
        .until("its flows are forgotten", |status| {
            of(status, 2, family).is_some_and(|found| found.share == 0.0)
        })
        .await?;
    let uplinks = dump(scene, maps::UPLINKS).await?;
    let after = entry(&uplinks, &Value::from(2), &part)?;
    assert_eq!(after["state"], "Down");
    assert_eq!(
        after["generation"].as_u64(),
        before["generation"].as_u64().map(|before| before + 1)
    );
    let selections = dump(scene, maps::SELECTION).await?;
    let (_, selection) = selections
        .iter()
        .find(|(key, _)| key["family"] == name)
        .ok_or("no selection")?;
    assert_eq!(selection["affinity"], "Flow");
    let slots = selection["slots"].as_array().ok_or("no slots")?;
    assert_eq!(slots.len(), 1021);
    assert!(slots.iter().all(|slot| *slot == 1), "{slots:?}");
    Ok(())
}

fn entry<'e>(
    entries: &'e Entries,
    key: &Value,
    part: &str,
) -> Result<&'e Value, Box<dyn std::error::Error>> {
    let found = entries.iter().find(|(found, _)| found == key);
    let (_, value) = found.ok_or("no such entry")?;
    Ok(&value[part])
}

/// What bpftool prints of a map, as scripts read it.
pub(crate) async fn dump(scene: &Scene, map: &str) -> Result<Entries, Box<dyn std::error::Error>> {
    let command = ProgramSpec::new("bpftool")
        .arguments(["--json", "map", "dump", "pinned"])
        .arguments([scene.lab.pins().map(map)]);
    let printed = scene.lab.gateway().node().must(command).await?;
    let entries: Vec<Value> = serde_json::from_str(&printed)?;
    Ok(entries
        .into_iter()
        .map(|entry| {
            let part = |name: &str| {
                let part = entry.get("formatted").and_then(|entry| entry.get(name));
                part.cloned().unwrap_or_default()
            };
            (part("key"), part("value"))
        })
        .collect())
}
