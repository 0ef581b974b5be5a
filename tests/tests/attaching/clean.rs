//! What was put into the kernel is taken out of it: all of it, and nothing else.

use std::fs;

use failover_common::maps;
use failover_tests::Pinning as _;
use failover_tests::{Daemon, Failover, KernelState, Lab, LabError, ProgramSpec};

use crate::hanging::{downlink, places, until, uplink, usual, wanted};
use crate::{CONFIG, Hook, SystemTest, TestResult, VERDICT};

pub(crate) fn tests(hook: Hook) -> Vec<SystemTest> {
    let mut tests = vec![
        SystemTest::new(
            format!("{hook}_classic_mode_takes_the_programs_off"),
            move || classic(hook),
        ),
        SystemTest::new(
            format!("{hook}_a_downlink_that_is_none_any_more_is_left"),
            move || no_downlink(hook),
        ),
    ];
    for (name, kill) in [("end", false), ("kill", true)] {
        tests.push(SystemTest::new(
            format!("{hook}_clean_after_{name}_leaves_nothing"),
            move || nothing(hook, kill),
        ));
    }
    if hook == Hook::Clsact {
        tests.push(SystemTest::new(
            "clsact_of_the_user_stays_and_ours_with_a_filter_of_theirs",
            theirs,
        ));
    }
    tests
}

async fn end(daemon: Daemon, kill: bool) -> Result<(), LabError> {
    if kill {
        daemon.kill().await.map(drop)
    } else {
        daemon.terminate().await.map(drop)
    }
}

async fn clean(failover: &Failover) -> TestResult {
    let output = failover.command("clean").await?;
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("{}: {}", output.status, output.stderr).into())
    }
}

async fn nothing(hook: Hook, kill: bool) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let before = KernelState::of(gateway).await?;
    let daemon = hook.start(&lab).await?;
    assert_eq!(places(gateway).await?, usual(hook));
    let failover = daemon.failover().clone();
    end(daemon, kill).await?;
    assert_eq!(places(gateway).await?, usual(hook));
    assert!(lab.pins().map(maps::FLOWS).exists());

    for _ in 0..2 {
        clean(&failover).await?;
        assert!(places(gateway).await?.is_empty());
        let after = KernelState::of(gateway).await?;
        assert_eq!(before.difference(&after), None);
        let pinned: Vec<_> = fs::read_dir(lab.bpffs())?.collect();
        assert!(pinned.is_empty(), "{pinned:?}");
    }
    Ok(())
}

/// Ours, theirs, and one that we made and that they use by now.
async fn theirs() -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let add = "tc qdisc add dev wan1 clsact";
    gateway.must(ProgramSpec::line(add)).await?;
    let daemon = Hook::Clsact.start(&lab).await?;
    let failover = daemon.failover().clone();
    let filter = "tc filter add dev wan2 egress pref 7 protocol all u32 match u32 0 0";
    gateway.must(ProgramSpec::line(filter)).await?;
    daemon.terminate().await?;
    clean(&failover).await?;
    let mut made = Vec::new();
    for interface in ["lan0", "wan1", "wan2"] {
        let command = format!("tc qdisc show dev {interface}");
        let text = gateway.must(ProgramSpec::line(&command)).await?;
        made.push((interface, text.contains("clsact")));
    }
    assert_eq!(made, [("lan0", false), ("wan1", true), ("wan2", true)]);
    let filters = "tc filter show dev wan2 egress";
    let filters = gateway.must(ProgramSpec::line(filters)).await?;
    assert!(filters.contains("pref 7"), "{filters}");
    Ok(())
}

async fn classic(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let daemon = hook.start(&lab).await?;
    assert_eq!(places(gateway).await?, usual(hook));
    daemon.terminate().await?;
    let classic = CONFIG.replace("mode: ebpf", "mode: classic");
    let daemon = hook.failover(&lab, &classic)?.run().await?;
    assert_eq!(daemon.status().await?.mode, "classic");
    assert!(places(gateway).await?.is_empty());
    assert!(!lab.pins().root().exists());
    daemon.terminate().await?;

    // And on again.
    let daemon = hook.start(&lab).await?;
    assert_eq!(places(gateway).await?, usual(hook));
    daemon.terminate().await?;

    // Empty qdiscs stay until then, since to remove one costs packets.
    let failover = hook.failover(&lab, &classic)?;
    failover.run().await?.terminate().await?;
    clean(&failover).await?;
    let qdiscs = gateway.must(ProgramSpec::line("tc qdisc show")).await?;
    assert!(!qdiscs.contains("clsact"), "{qdiscs}");
    Ok(())
}

/// While no daemon ran, the configuration changed.
async fn no_downlink(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let one = CONFIG.replace("  two: {interface: wan2, id: 2}\n", "");
    let two = one.replace("[lan0]", "[lan0, wan2]");
    let lan = [downlink("lan0").to_vec(), vec![uplink("wan1")]].concat();
    let both = [lan.clone(), downlink("wan2").to_vec()].concat();
    // A downlink, then none of ours, a downlink again, and an uplink.
    for (config, programs) in [
        (two.as_str(), wanted(hook, &both)),
        (&one, wanted(hook, &lan)),
        (&two, wanted(hook, &both)),
        (CONFIG, usual(hook)),
    ] {
        let daemon = crate::started(&hook.failover(&lab, config)?).await?;
        until(gateway, VERDICT, &programs).await?;
        daemon.terminate().await?;
    }
    Ok(())
}
