//! Somebody takes a program off.

use std::path::PathBuf;
use std::time::Duration;

use failover_tests::Pinning as _;
use failover_tests::{Lab, LabError, Node, ProgramSpec, eventually};

use crate::hanging::{places, until, usual};
use crate::{Hook, SystemTest, TestResult, VERDICT};

/// Longer than the time from one look of the daemon to the next, when nothing is heard.
const AUDIT: Duration = Duration::from_secs(40);

pub(crate) fn tests(hook: Hook) -> Vec<SystemTest> {
    let mut tests = Vec::new();
    // It takes half a minute.
    if Hook::all().first() == Some(&hook) {
        tests.push(SystemTest::new(
            "what_is_taken_off_is_seen_without_any_event",
            move || unheard(hook),
        ));
    }
    let means: &[(&str, Means)] = match hook {
        Hook::Tcx => &[
            ("pin_removed", Means::RemovePin),
            ("link_detached", Means::DetachLink),
        ],
        Hook::Clsact => &[
            ("filters_deleted", Means::DeleteFilters),
            ("qdisc_deleted", Means::DeleteQdisc),
        ],
    };
    for &(name, means) in means {
        tests.push(SystemTest::new(
            format!("{hook}_{name}_is_told_and_repaired"),
            move || repaired(hook, means),
        ));
    }
    tests
}

/// How a program is taken off.
#[derive(Clone, Copy)]
enum Means {
    RemovePin,
    DetachLink,
    DeleteFilters,
    DeleteQdisc,
}

impl Means {
    /// Takes off what hangs at the ingress of `lan0`, and perhaps more.
    async fn take_off(self, lab: &Lab) -> Result<(), Box<dyn std::error::Error>> {
        let gateway = lab.gateway().node();
        let command = match self {
            Self::RemovePin => return Ok(std::fs::remove_file(pin(lab).await?)?),
            Self::DetachLink => format!("bpftool link detach pinned {}", pin(lab).await?.display()),
            Self::DeleteFilters => "tc filter del dev lan0 ingress".to_owned(),
            Self::DeleteQdisc => "tc qdisc del dev lan0 clsact".to_owned(),
        };
        gateway.must(ProgramSpec::line(&command)).await?;
        Ok(())
    }
}

async fn pin(lab: &Lab) -> Result<PathBuf, LabError> {
    let index = lab.gateway().node().interface_index("lan0").await?;
    let links = lab.pins().links();
    Ok(links.join(format!("{index}-lan_in")))
}

/// Anything that the kernel tells about interfaces has the daemon look.
pub(crate) async fn stir(node: &Node) -> Result<(), LabError> {
    for command in ["ip link add stir type bridge", "ip link del stir"] {
        node.must(ProgramSpec::line(command)).await?;
    }
    Ok(())
}

async fn repaired(hook: Hook, means: Means) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let daemon = hook.start(&lab).await?;
    means.take_off(&lab).await?;
    // The kernel takes it off a moment after the pin is gone.
    eventually("it is off", VERDICT, || async {
        Ok((places(gateway).await? != usual(hook)).then_some(()))
    })
    .await?;
    stir(gateway).await?;
    until(gateway, VERDICT, &usual(hook)).await?;
    let log = daemon.log();
    let told = "place=lan0 ingress";
    let told = log.lines().any(|line| {
        line.contains("WARN") && line.contains("took our program off") && line.contains(told)
    });
    assert!(told, "{log}");
    let status = daemon.status().await?;
    assert_eq!(status.problem, None);
    let failover = daemon.failover().clone();
    daemon.terminate().await?;
    let events = failover.command("events --json").await?.stdout;
    let noted = events
        .lines()
        .any(|event| event.contains("\"repaired\"") && event.contains("off lan0 ingress"));
    assert!(noted, "{events}");
    assert!(failover.command("clean").await?.status.success());
    assert!(places(gateway).await?.is_empty());
    let qdiscs = gateway.must(ProgramSpec::line("tc qdisc show")).await?;
    assert!(!qdiscs.contains("clsact"), "{qdiscs}");
    Ok(())
}

async fn unheard(hook: Hook) -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let daemon = hook.start(&lab).await?;
    let means = match hook {
        Hook::Tcx => Means::DetachLink,
        Hook::Clsact => Means::DeleteFilters,
    };
    means.take_off(&lab).await?;
    until(gateway, AUDIT, &usual(hook)).await?;
    daemon.terminate().await?;
    Ok(())
}
