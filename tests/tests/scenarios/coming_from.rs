//! The configurations of `docs/coming-from.md`: each loses an uplink, and has it back.

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, LabBuilder, Protocol, Traffic};

use crate::Outcome;
use crate::case::Case;
use crate::page::Page;
use crate::scene::answered_flows;

/// New flows of each client and protocol.
const FLOWS: usize = 40;

pub(crate) const PAGE: Page = Page(include_str!("../../../docs/coming-from.md"));

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

pub(crate) async fn mwan3(case: &Case, family: Family) -> Outcome {
    fails_over_and_returns(case, family, Lab::builder(), "mwan3", 60).await
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
    scene.run_daemon(&PAGE.block(program, "yaml", 0)?).await?;
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

/// Clients of a range go by the second line, and by the first one while that is down; the others the
/// other way round.
pub(crate) async fn client_ranges(case: &Case, family: Family) -> Outcome {
    let scene = case.prepare(Lab::builder().one_arm().clients(2)).await?;
    scene
        .run_daemon(&PAGE.block("FailOver-Routing", "yaml", 1)?)
        .await?;
    for number in [1, 2] {
        scene.until_state(number, family, State::Up).await?;
    }
    let go_by = async |first: u8, second: u8| {
        for (client, uplink) in [(1, first), (2, second)] {
            for protocol in Protocol::ALL {
                let host = scene.lab.client(client)?;
                let tally = answered_flows(host, Traffic::new(protocol, family, FLOWS)).await?;
                assert_eq!(
                    tally.on(uplink),
                    FLOWS,
                    "client {client}, {protocol}: {tally}"
                );
            }
        }
        Ok::<_, Box<dyn std::error::Error>>(())
    };
    go_by(1, 2).await?;
    scene.uplink(2)?.black_hole().await?;
    scene.until_state(2, family, State::Down).await?;
    go_by(1, 1).await?;
    scene.uplink(2)?.heal().await?;
    scene.until_state(2, family, State::Up).await?;
    go_by(1, 2).await?;
    scene.uplink(1)?.black_hole().await?;
    scene.until_state(1, family, State::Down).await?;
    go_by(2, 2).await
}
