//! The daemon ends and begins again: programs are replaced where they hang, and no packet passes
//! while there is none.

use std::time::Duration;

use failover::family::Family;
use failover_tests::Pinning as _;
use failover_tests::chance::Chance;
use failover_tests::restarts::Kills;
use failover_tests::{
    Keep, KeptFlows, Lab, LabError, Node, ProgramSpec, Stream, StreamPlan, eventually,
};

use crate::hanging::{listed, places, until, usual};
use crate::{Hook, SystemTest, TestResult, VERDICT};

pub(crate) fn tests(hook: Hook) -> Vec<SystemTest> {
    vec![
        SystemTest::new(
            format!("{hook}_restarts_leave_no_packet_unmarked"),
            move || unmarked(hook),
        ),
        SystemTest::new(
            format!("{hook}_another_version_takes_over_and_no_flow_moves"),
            move || taken_over(hook),
        ),
        SystemTest::new(
            format!("{hook}_kills_and_starts_lose_no_packet"),
            move || lost(hook),
        ),
    ]
}

/// Counts, before the daemon's own table sees them, packets to the servers that carry a mark of the
/// programs and those that carry none.
const COUNTERS: &str = r#"
table inet users {
    counter marked {}
    counter unmarked {}
    chain before {
        type filter hook prerouting priority -310;
        iifname != "lan0" return
        ip daddr 203.0.113.11-203.0.113.15 goto count
        ip6 daddr fd00:203::11-fd00:203::15 goto count
    }
    chain count {
        meta mark & 0xff000000 == 0 counter name unmarked return
        counter name marked
    }
}
"#;

async fn counted(node: &Node, counter: &str) -> Result<u64, LabError> {
    let command = format!("nft list counter inet users {counter}");
    let text = node.must(ProgramSpec::line(&command)).await?;
    let mut words = text
        .split_whitespace()
        .skip_while(|word| *word != "packets");
    let count = words.nth(1).and_then(|count| count.parse().ok());
    count.ok_or(LabError::Io {
        what: format!("find the count in what nft wrote: {text}"),
        source: std::io::ErrorKind::InvalidData.into(),
    })
}

/// Flows that are there all the time.
const KEEP: Keep = Keep {
    each: 4,
    every: Duration::from_millis(2),
};

/// Packets per second.
const RATE: u32 = 20_000;
const KILLS: usize = 5;

/// As in the table of scenarios, which has it for the hook that the kernel prefers.
async fn lost(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let daemon = hook.start(&lab).await?;
    let plan = StreamPlan {
        flows: 100,
        families: Family::ALL.to_vec(),
        rate: RATE,
    };
    let stream = Stream::begin(&lab, lab.client(1)?, &plan).await?;
    let kills = Kills {
        count: KILLS,
        upgrades: false,
        seed: Chance::any_seed(),
    };
    let daemon = kills.run(&lab, daemon).await?;
    assert_eq!(places(lab.gateway().node()).await?, usual(hook));
    let figures = stream.finish(&lab).await?;
    assert!(figures.is_whole(), "{kills:?}: {figures}");
    assert!(figures.sent > 2000 && figures.answers > 100, "{figures}");
    daemon.terminate().await?;
    Ok(())
}

async fn unmarked(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let mut daemon = hook.start(&lab).await?;
    let failover = daemon.failover().clone();
    gateway.nft(COUNTERS).await?;
    let flows = lab.client(1)?.keep(KEEP, &[]).await?;
    let mut programs = listed(gateway).await?;
    for restart in 0..5 {
        let before = counted(gateway, "marked").await?;
        daemon.kill().await?;
        daemon = crate::started(&failover).await?;
        let replaced = listed(gateway).await?;
        assert_eq!(places(gateway).await?, usual(hook));
        let shared = programs
            .iter()
            .filter(|one| replaced.iter().any(|other| other.program == one.program));
        assert_eq!(shared.count(), 0, "every program was replaced");
        programs = replaced;
        // So that there is traffic after each, too.
        eventually("a thousand packets more", VERDICT, || async {
            Ok((counted(gateway, "marked").await? > before + 1000).then_some(()))
        })
        .await?;
        let missed = counted(gateway, "unmarked").await?;
        assert_eq!(missed, 0, "packets without mark after restart {restart}");
    }
    no_flow_moved(flows).await;
    daemon.terminate().await?;
    Ok(())
}

async fn no_flow_moved(flows: KeptFlows) {
    for flow in flows.finish().await {
        assert_eq!(
            (flow.moves, flow.lost, &flow.ended),
            (0, 0, &None),
            "{flow:?}"
        );
    }
}

/// What is pinned was left by another version, as far as its folder tells. Its programs are at work
/// until the new ones know what to do.
async fn taken_over(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let mut daemon = hook.start(&lab).await?;
    let failover = daemon.failover().clone();
    gateway.nft(COUNTERS).await?;
    let flows = lab.client(1)?.keep(KEEP, &[]).await?;
    let other = lab.pins().root().join("v0");
    for _ in 0..3 {
        daemon.kill().await?;
        std::fs::rename(lab.pins().folder(), &other)?;
        daemon = crate::started(&failover).await?;
        assert!(!other.exists());
        until(gateway, VERDICT, &usual(hook)).await?;
        let before = counted(gateway, "marked").await?;
        eventually("a thousand packets more", VERDICT, || async {
            Ok((counted(gateway, "marked").await? > before + 1000).then_some(()))
        })
        .await?;
    }
    assert_eq!(counted(gateway, "unmarked").await?, 0);
    no_flow_moved(flows).await;
    daemon.terminate().await?;
    Ok(())
}
