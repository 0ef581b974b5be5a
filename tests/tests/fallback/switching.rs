//! From eBPF mode to classic mode and back, over the death of daemons, with flows that are open.

use std::path::{Path, PathBuf};

use failover_tests::{BpfCommand, KernelState, Refusal};
use nix::errno::Errno;

use crate::scene::Scene;
use crate::situations::{NO_BPF, Situation};
use crate::{SystemTest, TestResult, kept};

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("flows_stay_from_ebpf_to_classic_and_back", || {
            there_and_back(WHOLE)
        }),
        SystemTest::new("flows_stay_from_clsact_to_classic_and_to_tcx", || {
            there_and_back(CLSACT)
        }),
        SystemTest::new(
            "a_refused_start_leaves_the_earlier_daemons_programs",
            refused,
        ),
    ]
}

/// Nothing is missing.
const WHOLE: Situation = Situation {
    refused: &[],
    ..NO_BPF
};
/// The same without TCX.
const CLSACT: Situation = Situation {
    refused: &[Refusal::tcx()],
    ..NO_BPF
};
/// Programs cannot be loaded any more.
const NO_PROGRAMS: Situation = Situation {
    refused: &[Refusal::bpf_command(BpfCommand::ProgLoad, Errno::EPERM)],
    ..NO_BPF
};

async fn there_and_back(at_first: Situation) -> TestResult {
    let scene = Scene::build(&at_first).await?;
    let daemon = scene.start("auto", &at_first).await?;
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

    let daemon = scene.start("auto", &WHOLE).await?;
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
    let failover = daemon.failover().clone();
    daemon.terminate().await?;
    let clean = failover.command("clean").await?;
    assert!(clean.status.success(), "{clean:?}");
    let kernel = scene.kernel().await?.to_string();
    assert!(!kernel.contains("clsact"), "{kernel}");
    scene.expect_no_ebpf().await?;
    Ok(())
}

/// All files below a folder.
fn files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(files(&path)?);
        }
        found.push(path);
    }
    found.sort();
    Ok(found)
}

async fn refused() -> TestResult {
    let scene = Scene::build(&WHOLE).await?;
    scene.start("ebpf", &WHOLE).await?.kill().await?;
    let flows = kept::begin(&scene.lab).await?;
    let before: (KernelState, Vec<PathBuf>) = (scene.kernel().await?, files(scene.bpffs())?);
    for situation in [NO_BPF, NO_PROGRAMS] {
        let failover = scene.failover("ebpf")?;
        let spec = situation.applied(failover.program("run"));
        let output = scene.lab.gateway().node().output(spec).await?;
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert_eq!(before.0.difference(&scene.kernel().await?), None);
        assert_eq!(before.1, files(scene.bpffs())?);
        kept::new_ones(&scene.lab).await?;
    }
    kept::uninterrupted(&flows.finish().await);
    Ok(())
}
