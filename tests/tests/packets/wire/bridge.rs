//! A bridge as a downlink, with users behind each of its ports.

use failover_common::lifetime::protocol::{ICMP, ICMPV6, TCP, UDP};
use failover_common::{Affinity, Family, Reason, Role};
use failover_tests::programs::Stand;
use failover_tests::{Lab, ProgramSpec, Protocol, Tally, Traffic};

use super::{Attached, MASQUERADE, lab_family, usual_hooks};
use crate::gateway::{BOTH, UPLINKS};
use crate::trial::{SystemTest, TestResult};

pub(crate) fn trials() -> Vec<SystemTest> {
    vec![SystemTest::new("users_behind_a_bridge_are_steered", bridge)]
}

/// Flows of each client, protocol and family.
const FLOWS: usize = 10;

async fn bridge() -> TestResult {
    let lab = Lab::builder()
        .uplinks(UPLINKS)
        .downlinks([1, 1])
        .capture(false)
        .build()
        .await?;
    let gateway = lab.gateway().node();
    for line in [
        "ip link add br0 type bridge",
        "ip link set br0 up",
        "ip addr flush dev lan0",
        "ip addr flush dev lan1",
        "ip link set lan0 master br0",
        "ip link set lan1 master br0",
        "ip addr add 198.18.0.1/24 dev br0",
        "ip addr add 198.18.1.1/24 dev br0",
        "ip addr add fd00:18::1/64 dev br0 nodad",
        "ip addr add fd00:18:1::1/64 dev br0 nodad",
    ] {
        gateway.must(ProgramSpec::line(line)).await?;
    }
    gateway.nft(MASQUERADE).await?;
    let mut attached = Attached::on(Stand::over(lab).await?, usual_hooks("br0")).await?;
    attached.know("br0", Role::Downlink, 0).await?;
    for family in BOTH {
        let mut flows = 0;
        attached.programs.select(family, Affinity::Flow, &[1])?;
        for (protocol, number) in [
            (Protocol::Udp, UDP),
            (Protocol::Tcp, TCP),
            (
                Protocol::Icmp,
                match family {
                    Family::Ipv4 => ICMP,
                    Family::Ipv6 => ICMPV6,
                },
            ),
        ] {
            for client in attached.stand.lab().clients() {
                let traffic = Traffic::new(protocol, lab_family(family), FLOWS);
                let answers = client.burst(traffic).await?;
                assert_eq!(Tally::of(&answers).on(1), FLOWS, "{traffic}");
                flows += FLOWS;
            }
            // The end of a connection of the other family may come late, and is entered again.
            let mut keys = attached.programs.flows()?;
            keys.retain(|key| key.family == family);
            assert_eq!(keys.len(), flows, "each flow has its entry: {keys:#?}");
            for key in keys.iter().filter(|key| key.protocol == number) {
                let flow = attached
                    .flow_that("is confirmed", key, |flow| flow.confirmed)
                    .await?;
                assert_eq!((flow.uplink, flow.reason), (1, Reason::Hash));
            }
        }
    }
    Ok(())
}
