//! The configurations of `docs/coming-from.md`: each loses an uplink, and has it back.

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, LabBuilder, Protocol};

use crate::Outcome;
use crate::case::Case;

const PAGE: &str = include_str!("../../../docs/coming-from.md");

pub(crate) async fn haip(case: &Case, family: Family) -> Outcome {
    fails_over_and_returns(case, family, Lab::builder(), "ib.haip", 100).await
}

pub(crate) async fn failover_routing(case: &Case, family: Family) -> Outcome {
    let lab = Lab::builder().one_arm();
    fails_over_and_returns(case, family, lab, "FailOver-Routing", 100).await
}

pub(crate) async fn fault_tolerant_router(case: &Case, family: Family) -> Outcome {
    // A third of the weight.
    let share = 33;
    fails_over_and_returns(case, family, Lab::builder(), "fault_tolerant_router", share).await
}

pub(crate) async fn backroute(case: &Case, family: Family) -> Outcome {
    fails_over_and_returns(case, family, Lab::builder(), "Backroute", 100).await
}

/// `share`: what part of new flows, in percent, the first uplink has while both are up.
async fn fails_over_and_returns(
    case: &Case,
    family: Family,
    lab: LabBuilder,
    program: &str,
    share: usize,
) -> Outcome {
    let scene = case.prepare(lab).await?;
    scene.run_daemon(&configuration(program)?).await?;
    for number in [1, 2] {
        scene.until_state(number, family, State::Up).await?;
    }
    let of_first = || async {
        let tally = scene.new_flows(Protocol::Udp, family, 200).await?;
        Ok::<_, Box<dyn std::error::Error>>(tally.on(1) * 100 / 200)
    };
    let near = |found: usize| found.abs_diff(share) < 15;
    let before = of_first().await?;
    assert!(near(before), "{before}% of new flows");
    scene.uplink(1)?.black_hole().await?;
    scene.until_state(1, family, State::Down).await?;
    assert_eq!(of_first().await?, 0);
    scene.uplink(1)?.heal().await?;
    scene.until_state(1, family, State::Up).await?;
    let after = of_first().await?;
    assert!(near(after), "{after}% of new flows");
    Ok(())
}

/// The first configuration below a program's heading.
fn configuration(program: &str) -> Result<String, Box<dyn std::error::Error>> {
    let (_, section) = PAGE
        .split_once(&format!("\n## {program}\n"))
        .ok_or("the page has no such section")?;
    let (_, block) = section.split_once("```yaml\n").ok_or("no configuration")?;
    let (block, _) = block.split_once("```").ok_or("it has no end")?;
    Ok(block.to_owned())
}
