//! Users' flows that go on all the time.

use std::time::Duration;

use failover::family::Family;
use failover_tests::{Keep, KeptFlow, KeptFlows, Lab, LabError, Protocol, Tally, Traffic};

/// What users had before: everything leaves by `main`, translated.
const OWN_TRANSLATION: &str = "table inet users_own {
    chain postrouting {
        type nat hook postrouting priority srcnat; policy accept;
        oifname \"wan*\" masquerade
    }
}";

/// Begins flows of every protocol and family from the first client.
pub(crate) async fn begin(lab: &Lab) -> Result<KeptFlows, LabError> {
    lab.client(1)?.keep(KEEP, &[]).await
}

const KEEP: Keep = Keep {
    each: 6,
    every: Duration::from_millis(20),
};

/// Lets flows through the gateway while no daemon runs.
pub(crate) async fn let_through(lab: &Lab) -> Result<(), LabError> {
    lab.gateway().node().nft(OWN_TRANSLATION).await
}

/// That each flow was answered whenever it asked, by the same uplink.
pub(crate) fn uninterrupted(flows: &[KeptFlow]) {
    assert!(!flows.is_empty());
    let hurt: Vec<&KeptFlow> = flows
        .iter()
        .filter(|flow| flow.lost > 0 || flow.moves > 0 || flow.ended.is_some() || flow.answered < 5)
        .collect();
    assert!(
        hurt.is_empty(),
        "{} of {}: {hurt:#?}",
        hurt.len(),
        flows.len()
    );
}

/// That new flows of every protocol and family are answered, by both uplinks.
pub(crate) async fn new_ones(lab: &Lab) -> Result<(), LabError> {
    for family in Family::ALL {
        for protocol in Protocol::ALL {
            let traffic = Traffic::new(protocol, family, 40).within(Duration::from_secs(5));
            let tally = Tally::of(&lab.client(1)?.burst(traffic).await?);
            assert!(
                tally.on(1) + tally.on(2) == 40 && tally.on(1) > 3 && tally.on(2) > 3,
                "{traffic}: {tally}"
            );
        }
    }
    Ok(())
}
