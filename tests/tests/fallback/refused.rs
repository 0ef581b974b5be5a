//! Where eBPF mode is not possible: `mode: auto` says why and goes on in classic mode, `mode: ebpf`
//! says the same and ends.

use crate::scene::Scene;
use crate::situations::{IMPOSSIBLE, Situation};
use crate::{SystemTest, TestResult, kept};

pub(crate) fn tests() -> Vec<SystemTest> {
    let mut tests = Vec::new();
    for situation in IMPOSSIBLE {
        tests.push(SystemTest::new(
            format!("{}_auto_goes_on_in_classic_mode", situation.name),
            || goes_on(situation),
        ));
        tests.push(SystemTest::new(
            format!("{}_ebpf_refuses_and_changes_nothing", situation.name),
            || refuses(situation),
        ));
    }
    tests
}

const AUTO: &str = "mode classic, since eBPF does not work here: ";
const EBPF: &str = "failover: `mode: ebpf` is not possible here: ";

/// That a reason names what it should, once.
fn expect_reason(situation: &Situation, reason: &str) {
    for part in situation.said {
        assert!(reason.contains(part), "no {part:?} in {reason:?}");
    }
    for part in reason.split(": ") {
        assert_eq!(reason.matches(part).count(), 1, "{part:?} in {reason:?}");
    }
}

async fn goes_on(situation: &Situation) -> TestResult {
    let scene = Scene::build(situation).await?;
    let before = scene.kernel().await?;
    let flows = kept::begin(&scene.lab).await?;
    let daemon = scene.start("auto", situation).await?;
    assert_eq!(daemon.status().await?.mode, "classic");
    kept::new_ones(&scene.lab).await?;
    kept::uninterrupted(&flows.finish().await);
    scene.expect_no_ebpf().await?;

    let failover = daemon.failover().clone();
    let log = daemon.terminate().await?;
    let worried: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("WARN") || line.contains("ERROR") || line.contains(AUTO))
        .collect();
    let [line] = worried.as_slice() else {
        return Err(format!("expected one line of why, found {worried:#?}").into());
    };
    let (_, reason) = line.split_once(AUTO).ok_or(*line)?;
    expect_reason(situation, reason);
    let events = failover.command("events --json").await?.stdout;
    let noted = events
        .lines()
        .find(|event| event.contains("\"kind\":\"fallback\""));
    expect_reason(situation, noted.ok_or(events.as_str())?);

    let clean = failover.command("clean").await?;
    assert!(clean.status.success(), "{clean:?}");
    assert_eq!(before.difference(&scene.kernel().await?), None);
    Ok(())
}

async fn refuses(situation: &Situation) -> TestResult {
    let scene = Scene::build(situation).await?;
    let before = scene.kernel().await?;
    let failover = scene.failover("ebpf")?;
    let spec = situation.applied(failover.program("run"));
    let output = scene.lab.gateway().node().output(spec).await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let lines: Vec<&str> = output
        .stderr
        .lines()
        .filter(|line| !line.contains(" INFO "))
        .collect();
    let [line] = lines.as_slice() else {
        return Err(format!("expected one line, found {lines:#?}").into());
    };
    let reason = line
        .strip_prefix(EBPF)
        .and_then(|rest| rest.strip_suffix("; `mode: auto` goes on in classic mode then"))
        .ok_or(*line)?;
    expect_reason(situation, reason);
    assert_eq!(before.difference(&scene.kernel().await?), None);
    scene.expect_no_ebpf().await?;
    assert!(!scene.bpffs().exists(), "the folder for pins is there");
    Ok(())
}
