//! Health and use of an uplink per address family.

use std::time::Instant;

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Lab, Protocol};

use crate::Outcome;
use crate::case::Case;
use crate::scene::{THREE, of};
use crate::silence::only_survivors;

const FLOWS: [(Protocol, usize); 3] = [
    (Protocol::Udp, 60),
    (Protocol::Tcp, 60),
    (Protocol::Icmp, 30),
];

/// The family that the uplink has is used; of the other it is absent, not down.
pub(crate) async fn lacks_one(case: &Case, family: Family) -> Outcome {
    let missing = other(family);
    let lab = Lab::builder().uplinks(3).uplink_without(2, missing);
    let scene = case.open(lab, THREE).await?;
    let status = scene.daemon()?.status().await?;
    let found = of(&status, 2, missing).ok_or("wan2 is not in the status")?;
    assert_eq!((found.state, found.share), (State::Absent, 0.0));
    assert!(status.is("two", State::Up), "{status}");

    for protocol in Protocol::ALL {
        let tally = scene.new_flows(protocol, missing, 200).await?;
        assert_eq!(tally.on(2), 0, "{protocol} {missing}: {tally}");
        assert!(tally.on(1) > 50 && tally.on(3) > 50, "{tally}");
        let tally = scene.new_flows(protocol, family, 200).await?;
        assert!(tally.on(2) > 30, "{protocol} {family}: {tally}");
    }
    let seen = scene.uplink(2)?.capture()?.flows()?;
    assert!(
        seen.iter()
            .all(|flow| Family::of(flow.key.source.ip()) == family),
        "{missing} came to wan2's provider"
    );
    Ok(())
}

/// One family dies alone, and the other goes on by the same uplink.
pub(crate) async fn dies_alone(case: &Case, family: Family) -> Outcome {
    let scene = case.open(Lab::builder().uplinks(3), THREE).await?;
    let well = other(family);
    let mut flows = scene.converse(family, &FLOWS).await?;
    let others = scene.converse(well, &FLOWS).await?;
    let protocol = match family {
        Family::Ipv4 => "ipv4",
        Family::Ipv6 => "ipv6",
    };
    // Neighbours are found all the same.
    let swallow = format!(
        "table inet one_family {{
            chain swallow {{
                type filter hook prerouting priority raw; policy accept;
                icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} accept
                meta nfproto {protocol} drop
            }}
        }}"
    );
    scene.uplink(2)?.provider().nft(swallow).await?;
    scene.until_state(2, family, State::Down).await?;
    let detected = Instant::now();
    flows.expect_unmoved(&[1, 3]).await?;
    others.expect_unmoved(&[1, 2, 3]).await?;
    flows.expect_moved(2, &[1, 3]).await?;
    only_survivors(scene, family, detected).await?;
    let tally = scene.new_flows(Protocol::Udp, well, 300).await?;
    assert!((55..=145).contains(&tally.on(2)), "{tally}");
    let status = scene.daemon()?.status().await?;
    assert!(status.is("two", State::Up), "{status}");
    assert_eq!(
        of(&status, 2, well).map(|found| found.state),
        Some(State::Up)
    );

    scene
        .uplink(2)?
        .provider()
        .nft("delete table inet one_family")
        .await?;
    scene.until_state(2, family, State::Up).await?;
    flows.expect_unmoved(&[1, 3]).await?;
    others.expect_unmoved(&[1, 2, 3]).await?;
    scene.expect_no_strays_since(None)
}

const fn other(family: Family) -> Family {
    match family {
        Family::Ipv4 => Family::Ipv6,
        Family::Ipv6 => Family::Ipv4,
    }
}
