//! Random rules and random packets, before and after an uplink fails. With the smaller set of rules the
//! daemon is asked before each packet where it will go, and the packet must go there.

use failover_tests::daemon::Mode;
use failover_tests::rules::{Agreement, Size};

use super::{SystemTest, TestResult};

/// As people have them.
const SOME: Size = Size {
    rules: 300,
    prefixes: 4_000,
    sets: 20,
};
pub(crate) fn tests() -> impl Iterator<Item = SystemTest> {
    let some = Mode::ALL.into_iter().map(|mode| {
        SystemTest::new(
            format!(
                "{mode}/10000 packets leave as 300 rules and explain say, also after a failover"
            ),
            move || agree(mode, SOME, 1, 200, true),
        )
    });
    // One after the other: each loads both processors for some seconds.
    let most = SystemTest::new(
        "both/10000 packets leave as 1000 rules with 50000 prefixes say",
        || async {
            for mode in Mode::ALL {
                agree(mode, Size::MOST, 2, 500, false).await?;
            }
            Ok(())
        },
    );
    some.chain([most])
}

async fn agree(mode: Mode, size: Size, seed: u64, deciding: usize, explained: bool) -> TestResult {
    let mut agreement = Agreement::begin(size, mode, seed, None).await?;
    if explained {
        agreement = agreement.explained();
    }
    let rules = agreement.rules();
    let mut packets = Agreement::packets(&rules, seed);
    let before = agreement.compare(&mut packets, 7_000).await?;
    let told = |what: &str, log: String| format!("{what}\n--- log\n{log}");
    assert!(
        before.wrong.is_empty(),
        "{}",
        told(&before.to_string(), agreement.daemon().log())
    );
    assert!(before.rules >= deciding, "{before}");
    assert!(before.dropped == 0, "all uplinks are up: {before}");
    let own_before = agreement.compare_own(2_000, seed).await?;
    assert!(
        own_before.wrong.is_empty(),
        "the router's own: {}",
        told(&own_before.to_string(), agreement.daemon().log())
    );
    agreement.fail(1).await?;
    let after = agreement.compare(&mut packets, 3_000).await?;
    assert!(
        after.wrong.is_empty(),
        "{}",
        told(&after.to_string(), agreement.daemon().log())
    );
    assert!(after.dropped >= 20, "{after}");
    let own_after = agreement.compare_own(1_000, seed + 1).await?;
    assert!(
        own_after.wrong.is_empty(),
        "the router's own: {}",
        told(&own_after.to_string(), agreement.daemon().log())
    );
    for own in [&own_before, &own_after] {
        assert!(own.rules >= deciding / 8, "{own}");
    }
    assert!(own_after.dropped > 0, "{own_after}");
    agreement.end().await?;
    Ok(())
}
