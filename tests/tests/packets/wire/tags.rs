//! VLAN tags, which the kernel keeps beside the packet.

use failover_common::Totals;
use failover_common::lifetime::protocol::UDP;
use failover_tests::Layout;

use super::Attached;
use crate::frames::{Ends, Message};
use crate::gateway::{BOTH, ends};
use crate::trial::{SystemTest, TestResult};

pub(crate) fn trials() -> Vec<SystemTest> {
    vec![
        SystemTest::new("a_vlan_on_a_trunk_is_left_alone", vlans),
        SystemTest::new("a_vlan_of_a_provider_is_not_counted", provider_vlans),
        SystemTest::new("a_priority_tag_is_no_vlan", priorities),
    ]
}

const DOT1Q: u16 = 0x8100;
const DOT1AD: u16 = 0x88a8;

/// Tags with a VLAN in them: the least id, the largest, one bit in either byte, with priority and
/// drop eligibility; and a priority tag around a VLAN's.
const VLANS: [&[(u16, u16)]; 7] = [
    &[(DOT1Q, 1)],
    &[(DOT1Q, 4095)],
    &[(DOT1Q, 0x0100)],
    &[(DOT1Q, 0xf005)],
    &[(DOT1AD, 7)],
    &[(DOT1AD, 7), (DOT1Q, 9)],
    &[(DOT1Q, 0xe000), (DOT1Q, 5)],
];

/// Puts tags behind the hardware addresses.
fn tagged(frame: &[u8], tags: &[(u16, u16)]) -> Vec<u8> {
    let (addresses, rest) = frame.split_at_checked(12).unwrap_or_default();
    let mut bytes = addresses.to_vec();
    for (protocol, tag) in tags {
        bytes.extend(protocol.to_be_bytes());
        bytes.extend(tag.to_be_bytes());
    }
    bytes.extend(rest);
    bytes
}

async fn vlans() -> TestResult {
    let attached = Attached::new().await?;
    let mac = attached.stand.wiring().lan_mac;
    let client = attached.stand.lab().client(1)?.node();
    let mut keys = Vec::new();
    for ends in BOTH.map(ends) {
        let frame = |port| ends.out(Message::udp(port, 53)).frame(mac);
        let mut frames: Vec<_> = (1..)
            .zip(VLANS)
            .map(|(port, tags)| tagged(&frame(port), tags))
            .collect();
        frames.push(frame(100));
        client.send_frames("eth0", Layout::Linear, frames).await?;
        // The one without a tag came last.
        let key = ends.key(UDP, 100, 53);
        attached.flow(&key).await?;
        keys.push(key);
    }
    assert_eq!(attached.programs.flows()?.len(), keys.len());
    assert_eq!(attached.seen("ask").await?, 2);
    let expected = Totals {
        entered: 2,
        ..Totals::default()
    };
    assert_eq!(attached.programs.totals()?, expected);
    Ok(())
}

async fn provider_vlans() -> TestResult {
    /// More than what neighbours say to each other meanwhile.
    const TIMES: u8 = 20;
    let attached = Attached::new().await?;
    let mac = attached.gateway().hardware_address("wan1").await?;
    let provider = attached.stand.lab().uplink(1)?.provider();
    for (count, ends) in (1..).zip(BOTH.map(ends)) {
        let frame = ends.back(Message::udp(53, 1)).frame(mac);
        let mut frames = Vec::new();
        for tags in VLANS.iter().filter(|tags| tags.len() == 1) {
            frames.extend((0..TIMES).map(|_| tagged(&frame, tags)));
        }
        // This one counts, and goes on to the client, which is where the last trace of it is.
        frames.push(tagged(&frame, &[(DOT1Q, 0)]));
        let before = attached.programs.counters(1)?;
        provider
            .send_frames("access", Layout::Linear, frames)
            .await?;
        attached.flow(&ends.key(UDP, 1, 53)).await?;
        let after = attached.programs.counters(1)?;
        let came = after.wan_in.packets - before.wan_in.packets;
        assert!((1..TIMES.into()).contains(&came), "{came} packets counted");
        assert_eq!(after.lan_out.packets, count);
    }
    Ok(())
}

async fn priorities() -> TestResult {
    let attached = Attached::new().await?;
    let mac = attached.stand.wiring().lan_mac;
    let client = attached.stand.lab().client(1)?.node();
    for ends in BOTH.map(ends) {
        let ends: Ends = ends;
        let tags = [0_u16, 0x1000, 0x2000, 0xe000];
        let frames = (1..).zip(tags).map(|(port, tag)| {
            let frame = ends.out(Message::udp(port, 53)).frame(mac);
            tagged(&frame, &[(DOT1Q, tag)])
        });
        let frames = frames.collect();
        client.send_frames("eth0", Layout::Linear, frames).await?;
        for port in 1..=4 {
            let flow = attached.flow(&ends.key(UDP, port, 53)).await?;
            assert_eq!(flow.out_packets, 1);
        }
    }
    assert_eq!(attached.seen("ask").await?, 8);
    Ok(())
}
