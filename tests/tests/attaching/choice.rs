//! Which hook is taken, and where the programs are put.

use failover::family::Family;
use failover_tests::Pinning as _;
use failover_tests::{Failover, Lab, ProgramSpec, Protocol, Tally, Traffic};

use crate::hanging::{places, usual};
use crate::users::Counters;
use crate::{CONFIG, Hook, SystemTest, TestResult};

pub(crate) fn tests(hook: Hook) -> Vec<SystemTest> {
    let mut tests = vec![SystemTest::new(
        format!("{hook}_is_taken_where_it_is_the_best"),
        move || taken(hook),
    )];
    if hook == Hook::Clsact {
        tests.push(SystemTest::new(
            "clsact_shares_the_qdisc_and_the_priority_of_others",
            shared,
        ));
        tests.push(SystemTest::new(
            "clsact_is_not_mistaken_for_the_ingress_qdisc",
            ingress,
        ));
    }
    tests
}

async fn taken(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let daemon = hook.start(&lab).await?;
    assert_eq!(places(gateway).await?, usual(hook));
    let log = daemon.log();
    let named = match hook {
        Hook::Tcx => "hook=TCX",
        Hook::Clsact => "hook=clsact",
    };
    assert!(log.contains(named), "{log}");
    for family in Family::ALL {
        let traffic = Traffic::new(Protocol::Udp, family, 60);
        let tally = Tally::of(&lab.client(1)?.burst(traffic).await?);
        assert_eq!(tally.answered(), 60, "{tally}");
        assert!(tally.on(1) > 10 && tally.on(2) > 10, "{tally}");
    }
    let table = daemon.status().await?.flow_table.ok_or("no flow table")?;
    assert!(table.entered >= 120, "the programs picked: {table:?}");
    daemon.terminate().await?;
    assert_eq!(places(gateway).await?, usual(hook), "over the daemon's end");
    Ok(())
}

/// Filters of the user's have the priorities that ours takes first: one of another kind, which the
/// kernel does not mix, and one of the same kind with the same number.
async fn shared() -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let mut users = Counters::default();
    for command in [
        "tc qdisc add dev lan0 clsact",
        "tc filter add dev lan0 ingress pref 102 protocol all u32 match u32 1 0xffffffff",
    ] {
        gateway.must(ProgramSpec::line(command)).await?;
    }
    users.filter(&lab, "lan0", "ingress", 103).await?;
    let theirs = places(gateway).await?;
    let daemon = Hook::Clsact.start(&lab).await?;
    let both = &theirs | &usual(Hook::Clsact);
    assert_eq!(places(gateway).await?, both);
    let failover = daemon.failover().clone();
    daemon.terminate().await?;
    assert!(failover.command("clean").await?.status.success());
    assert_eq!(places(gateway).await?, theirs);
    Ok(())
}

/// On the older qdisc `ingress`, filters for what goes out are asked about what comes in.
async fn ingress() -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let add = "tc qdisc add dev lan0 handle ffff: ingress";
    gateway.must(ProgramSpec::line(add)).await?;
    let before = failover_tests::KernelState::of(gateway).await?;
    let failover = Hook::Clsact.failover(&lab, CONFIG)?;
    let output = failover.command("run --quiet").await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    for part in [
        "mode: ebpf",
        "lan0",
        "ingress qdisc",
        "tc qdisc del dev lan0 ingress",
    ] {
        assert!(output.stderr.contains(part), "{part}: {}", output.stderr);
    }
    let after = failover_tests::KernelState::of(gateway).await?;
    assert_eq!(before.difference(&after), None, "nothing is left of it");
    assert!(!lab.pins().root().exists());

    let auto = CONFIG.replace("mode: ebpf", "mode: auto");
    let failover: Failover = Hook::Clsact.failover(&lab, &auto)?;
    let daemon = failover.run().await?;
    assert_eq!(daemon.status().await?.mode, "classic");
    assert!(daemon.log().contains("ingress qdisc"), "{}", daemon.log());
    daemon.terminate().await?;
    Ok(())
}
