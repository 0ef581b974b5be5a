//! What eBPF mode goes on without.

use crate::scene::Scene;
use crate::situations::{POSSIBLE, Situation};
use crate::{SystemTest, TestResult, kept};

pub(crate) fn tests() -> Vec<SystemTest> {
    let tests = POSSIBLE.iter().map(|situation| {
        SystemTest::new(format!("{}_ebpf_works", situation.name), || {
            works(situation)
        })
    });
    tests.collect()
}

async fn works(situation: &Situation) -> TestResult {
    let scene = Scene::build(situation).await?;
    let before = scene.kernel().await?;
    let flows = kept::begin(&scene.lab).await?;
    let daemon = scene.start("auto", situation).await?;
    assert_eq!(daemon.status().await?.mode, "ebpf", "{}", daemon.log());
    kept::new_ones(&scene.lab).await?;
    let status = daemon.status().await?;
    let table = status.flow_table.ok_or("no flow table")?;
    assert!(table.live > 200, "the programs see no flows: {table:?}");

    // The next one takes over what this one left, on the same machine.
    daemon.kill().await?;
    let daemon = scene.start("ebpf", situation).await?;
    kept::new_ones(&scene.lab).await?;
    kept::uninterrupted(&flows.finish().await);
    let failover = daemon.failover().clone();
    let log = daemon.terminate().await?;
    let told = |line: &&str| situation.said.iter().all(|part| line.contains(part));
    let (told, rest): (Vec<&str>, Vec<&str>) = log.lines().partition(told);
    if !situation.said.is_empty() {
        assert_eq!(told.len(), 1, "it is told once: {log}");
        assert!(!rest.iter().any(|line| line.contains("WARN")), "{log}");
    } else {
        assert!(!log.contains("WARN"), "{log}");
    }

    let clean = failover.command("clean").await?;
    assert!(clean.status.success(), "{clean:?}");
    assert_eq!(before.difference(&scene.kernel().await?), None);
    scene.expect_no_ebpf().await?;
    Ok(())
}
