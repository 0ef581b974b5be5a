//! Frames that end before their IP header does: the kernel takes none of them for a test run.

use failover_common::Totals;
use failover_common::lifetime::protocol::UDP;
use failover_tests::Layout;

use super::Attached;
use crate::frames::{ETHERNET, Message, least};
use crate::gateway::{BOTH, ends};
use crate::trial::{SystemTest, TestResult};

pub(crate) fn trials() -> Vec<SystemTest> {
    vec![SystemTest::new(
        "a_frame_that_ends_within_its_ip_header_is_passed_on",
        short,
    )]
}

async fn short() -> TestResult {
    let attached = Attached::new().await?;
    let mac = attached.stand.wiring().lan_mac;
    let client = attached.stand.lab().client(1)?.node();
    let (mut unread, mut entered) = (0, 0);
    for family in BOTH {
        let ends = ends(family);
        let whole = ends.out(Message::udp(7, 53)).frame(mac);
        let mut frames: Vec<Vec<u8>> = (ETHERNET..least(family))
            .filter_map(|length| whole.get(..length))
            .map(<[u8]>::to_vec)
            .collect();
        unread += u64::try_from(frames.len())?;
        entered += 1;
        frames.push(whole.clone());
        client.send_frames("eth0", Layout::Linear, frames).await?;
        let flow = attached.flow(&ends.key(UDP, 7, 53)).await?;
        assert_eq!(flow.out_packets, 1, "only the whole one belongs to a flow");
        let expected = Totals {
            entered,
            unread,
            ..Totals::default()
        };
        assert_eq!(attached.programs.totals()?, expected);
    }
    Ok(())
}
