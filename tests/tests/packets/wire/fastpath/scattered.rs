//! Packets of which only the Ethernet header lies in the linear part: the kernel scatters so what is longer
//! than a page, as the test of the same name shows of those that the stack gets.

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_tests::{LabError, Layout, ProgramSpec, eventually};

use super::super::{Attached, PATIENCE};
use super::{expected, forget, line, next, remote, with_tun};
use crate::fastpath::{Line, Way};
use crate::gateway::BOTH;
use crate::trial::TestResult;

/// The data of such a packet, and what interfaces must take for it.
const LONG: usize = 5000;
const LONG_MTU: u32 = 6000;

pub(super) async fn scattered() -> TestResult {
    let (mut attached, mut tun) = with_tun().await?;
    let lab = attached.stand.lab();
    let (client, provider) = (
        lab.client(1)?.node().clone(),
        lab.uplink(1)?.provider().clone(),
    );
    for (node, interface) in [
        (&client, "eth0"),
        (attached.gateway(), "lan0"),
        (attached.gateway(), "wan1"),
        (&provider, "access"),
        (&provider, "tun7"),
    ] {
        let line = format!("ip link set {interface} mtu {LONG_MTU}");
        node.must(ProgramSpec::line(&line)).await?;
    }
    let lan_mac = attached.stand.wiring().lan_mac;
    let wan_mac = attached.gateway().hardware_address("wan1").await?;
    for family in BOTH {
        for protocol in [UDP, TCP] {
            let line = line(family, protocol, 40_004, 61_004, remote(family));
            let packet = line.packet(Way::Out, LONG);
            let frames = || vec![packet.frame(lan_mac)];
            // Not offloaded yet: the stack's, and the programs learn of the flow.
            client
                .send_frames("eth0", Layout::Scattered, frames())
                .await?;
            next(&mut tun, &line).await?;
            attached.offload(&line).await?;
            attached.open_hops(family, LONG_MTU).await?;
            let before = attached.counted()?;
            client
                .send_frames("eth0", Layout::Scattered, frames())
                .await?;
            let found = next(&mut tun, &line).await?;
            assert_eq!(found, expected(&line, &packet, &found));
            assert_eq!(attached.fast_since(before)?, (1, 0));
            let answer = line.packet(Way::Back, LONG).frame(wan_mac);
            let length = u64::try_from(answer.len())?;
            provider
                .send_frames("access", Layout::Scattered, vec![answer])
                .await?;
            answered(&attached, &line, length).await?;
            // The client, which knows of no connection, may have reset it.
            assert_eq!(attached.fast_since(before)?.0, 2, "and an answer");
            forget(&mut attached, &line.key())?;
        }
    }
    Ok(())
}

/// Waits until an answer of this length was sent to the client.
async fn answered(attached: &Attached, line: &Line, length: u64) -> TestResult {
    let arrived = || async {
        let moved = attached.moved(line).await;
        let [_, back] = moved.map_err(|error| LabError::Layout {
            reason: error.to_string(),
        })?;
        Ok((back == (1, length)).then_some(()))
    };
    Ok(eventually("an answer is sent to the client", PATIENCE, arrived).await?)
}
