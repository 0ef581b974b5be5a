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
    let earlier = match situation.interrupts {
        true => None,
        false => Some(kept::begin(&scene.lab).await?),
    };
    let daemon = scene.start("auto", situation).await?;
    let flows = match earlier {
        Some(flows) => flows,
        None => kept::begin(&scene.lab).await?,
    };
    assert_eq!(daemon.status().await?.mode, "ebpf", "{}", daemon.log());
    kept::new_ones(&scene.lab).await?;
    let status = daemon.status().await?;
    let table = status.flow_table.ok_or("no flow table")?;
    assert!(table.live > 200, "the programs see no flows: {table:?}");

    // The next one takes over what this one left, on the same machine.
    let first = daemon.kill().await?;
    let daemon = scene.start("ebpf", situation).await?;
    kept::new_ones(&scene.lab).await?;
    kept::uninterrupted(&flows.finish().await);
    let failover = daemon.failover().clone();
    let second = daemon.terminate().await?;
    let is_expected = |line: &&str| {
        !situation.said.is_empty() && situation.said.iter().all(|part| line.contains(part))
    };
    for log in [&first, &second] {
        let (expected, others): (Vec<&str>, Vec<&str>) = log.lines().partition(is_expected);
        assert!(expected.len() <= 1, "{expected:#?}");
        assert!(!others.iter().any(|line| line.contains("WARN")), "{log}");
    }
    assert!(
        situation.said.is_empty() || first.lines().any(|line| is_expected(&line)),
        "{first}"
    );

    let clean = failover.command("clean").await?;
    assert!(clean.status.success(), "{clean:?}");
    assert_eq!(before.difference(&scene.kernel().await?), None);
    scene.expect_no_ebpf().await?;
    Ok(())
}
