//! From eBPF mode to classic mode and back, over the death of daemons, with flows that are open.

use crate::scene::Scene;
use crate::situations::{NO_BPF, Situation};
use crate::{SystemTest, TestResult, kept};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![SystemTest::new(
        "flows_stay_from_ebpf_to_classic_and_back",
        there_and_back,
    )]
}

async fn there_and_back() -> TestResult {
    let whole = Situation {
        refused: &[],
        ..NO_BPF
    };
    let scene = Scene::build(&whole).await?;
    let daemon = scene.start("auto", &whole).await?;
    assert_eq!(daemon.status().await?.mode, "ebpf");
    let first = kept::begin(&scene.lab).await?;
    daemon.kill().await?;
    assert!(scene.pinned().exists());

    let daemon = scene.start("auto", &NO_BPF).await?;
    assert_eq!(daemon.status().await?.mode, "classic");
    scene.expect_no_ebpf().await?;
    let second = kept::begin(&scene.lab).await?;
    kept::new_ones(&scene.lab).await?;
    daemon.kill().await?;

    let daemon = scene.start("auto", &whole).await?;
    assert_eq!(daemon.status().await?.mode, "ebpf");
    kept::new_ones(&scene.lab).await?;
    for flows in [first, second] {
        let flows = flows.finish().await;
        for uplink in [1, 2] {
            let on = flows.iter().any(|flow| flow.home_uplink() == Some(uplink));
            assert!(on, "no flow on uplink {uplink}");
        }
        kept::uninterrupted(&flows);
    }
    let table = daemon.status().await?.flow_table.ok_or("no flow table")?;
    assert!(table.live > 200, "the programs see no flows: {table:?}");
    daemon.terminate().await?;
    Ok(())
}
