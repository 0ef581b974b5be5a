//! New flows are spread by weight.

use std::collections::BTreeSet;

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, Protocol, Tally, Traffic};

use crate::Outcome;
use crate::case::Case;
use crate::scene::{PATIENT, of};

const WEIGHTED: &str = "
uplinks:
  one: {interface: wan1, weight: 3}
  two: {interface: wan2, weight: 2}
  three: {interface: wan3}
downlinks: [lan0]
";

/// How far a share may be from its weight's, in flows of a thousand.
const TOLERANCE: usize = 50;

pub(crate) async fn by_weight(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), WEIGHTED).await?;
    let (mut asked, mut unanswered) = (Vec::new(), BTreeSet::new());
    for protocol in Protocol::ALL {
        let traffic = Traffic::new(protocol, family, 1000).within(PATIENT);
        let answers = scene.client()?.burst(traffic).await?;
        let failed = answers.iter().filter_map(|asked| asked.as_ref().err());
        unanswered.extend(failed.map(|error| format!("{protocol}: {error}")));
        asked.extend(answers);
    }
    assert_eq!(unanswered, BTreeSet::new());
    let tally = Tally::of(&asked);
    assert_eq!((asked.len(), tally.answered()), (3000, 3000), "{tally}");
    for (uplink, weight) in [(1, 3_usize), (2, 2), (3, 1)] {
        let (share, flows) = (weight * 1000 / 6, tally.on(uplink) * 1000 / 3000);
        assert!(share.abs_diff(flows) <= TOLERANCE, "{tally}");
    }
    let status = scene.daemon()?.status().await?;
    for (uplink, weight) in [(1, 3.0), (2, 2.0), (3, 1.0)] {
        let told = of(&status, uplink, family).map(|found| found.share);
        let told = told.ok_or("not in the status")?;
        assert!((told - weight / 6.0).abs() < 0.02, "wan{uplink}: {told}");
    }
    scene.expect_no_strays_since(None)
}

/// Weights count among the uplinks that are left, too.
pub(crate) async fn survivors_by_weight(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), WEIGHTED).await?;
    scene.uplink(2)?.carrier_loss().await?;
    scene.until_state(2, family, State::Down).await?;
    let tally = scene.new_flows(Protocol::Udp, family, 1200).await?;
    assert!((840..=960).contains(&tally.on(1)), "{tally}");
    assert!((240..=360).contains(&tally.on(3)), "{tally}");
    assert_eq!(tally.on(2), 0, "{tally}");
    Ok(())
}
