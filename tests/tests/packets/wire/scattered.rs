//! Packets of which only the Ethernet header lies in the linear part, as many drivers leave them.

use failover_common::lifetime::protocol::TCP;
use failover_common::{FlowKey, Phase, Reason};
use failover_tests::programs::{Assembled, Direction, attach};
use failover_tests::{Layout, ProgramSpec};

use super::Attached;
use crate::frames::Extension::{Destination, HopByHop, Routing};
use crate::frames::{Ends, Message, Packet};
use crate::gateway::{BOTH, ends};
use crate::kinds::kinds;
use crate::trial::{SystemTest, TestResult};

pub(crate) fn trials() -> Vec<SystemTest> {
    vec![SystemTest::new(
        "packets_that_are_scattered_in_memory_are_steered",
        scattered,
    )]
}

/// The kernel scatters nothing that is shorter than a page.
const LENGTH: usize = 5000;
const MTU: usize = 6000;

/// A packet that was made longer at its end.
fn long(mut packet: Packet) -> Packet {
    let message: &mut Message = &mut packet.message;
    message.bytes.resize(LENGTH, 0);
    packet
}

async fn scattered() -> TestResult {
    let mut attached = Attached::new().await?;
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
    ] {
        let line = format!("ip link set {interface} mtu {MTU}");
        node.must(ProgramSpec::line(&line)).await?;
    }
    // What may take the fast path is put into one piece first.
    attached
        .programs
        .set_lease(&failover_common::Lease::default())?;
    // Behind the programs, one that says how much of each packet is linear.
    let bpffs = lab.bpffs();
    let mut witness = attached
        .gateway()
        .run(move || async move {
            let mut witness = Assembled::marking_linear_bytes(&bpffs)?;
            attach(witness.program_mut(), "lan0", Direction::Ingress).map_err(|source| {
                failover_tests::programs::ProgramsError::Program {
                    name: "witness".to_owned(),
                    source,
                }
            })?;
            Ok::<_, failover_tests::programs::ProgramsError>(witness)
        })
        .await??;
    let mut sent = 0;
    for family in BOTH {
        attached
            .programs
            .select(family, failover_common::Affinity::Flow, &[1])?;
        let ends = ends(family);
        let lan_mac = attached.stand.wiring().lan_mac;
        for kind in kinds(family, ends) {
            let packet = Packet {
                options: 2,
                extensions: vec![HopByHop(0), Routing(1), Destination(0)],
                ..long(ends.out(kind.ask))
            };
            let frames = vec![packet.frame(lan_mac)];
            let length = u64::try_from(packet.frame(lan_mac).len())?;
            client
                .send_frames("eth0", Layout::Scattered, frames)
                .await?;
            sent += 1;
            let flow = attached.flow(&kind.key).await?;
            assert_eq!(
                (flow.uplink, flow.reason),
                (1, Reason::Hash),
                "{}",
                kind.name
            );
            assert_eq!(
                (flow.out_packets, flow.out_bytes),
                (1, length),
                "{}",
                kind.name
            );
        }
        let found = attached.seen("scattered").await?;
        assert_eq!(
            found, sent,
            "packets with nothing but 14 bytes in the linear part"
        );
        assert_eq!(attached.seen("ask").await?, sent, "marked packets");
        confirm(&attached, &provider, ends).await?;
    }
    // It was there to the end.
    witness.program_mut().info()?;
    Ok(())
}

/// An answer that is scattered, too, on its way from the provider to the client.
async fn confirm(attached: &Attached, provider: &failover_tests::Node, ends: Ends) -> TestResult {
    let wan_mac = attached.gateway().hardware_address("wan1").await?;
    let key: FlowKey = ends.key(TCP, 40_001, 443);
    let answer = long(ends.back(Message::tcp(443, 40_001, crate::frames::ACK)));
    let frames = vec![answer.frame(wan_mac)];
    provider
        .send_frames("access", Layout::Scattered, frames)
        .await?;
    let flow = attached
        .flow_that("is confirmed", &key, |flow| flow.confirmed)
        .await?;
    assert_eq!((flow.uplink, flow.phase), (1, Phase::Established));
    assert_eq!(flow.in_packets, 1);
    Ok(())
}
