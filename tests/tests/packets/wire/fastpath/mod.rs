//! The fast path over real interfaces: packets are really sent out, also those whose checksum is not
//! computed yet and those that stand for many.
//!
//! Behind the provider's router is a TUN: for that the kernel cuts and sums up what it had left to
//! hardware so far, so that what comes out of it shows whether the programs did their part.

mod connection;
mod scattered;

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Affinity, Family, Flow, FlowKey, NextHop, Phase};
use failover_tests::tun::Tun;
use failover_tests::{Layout, Node, ProgramSpec, patient, within};
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;

use super::{Attached, PATIENCE};
use crate::fastpath::{LEASE, Line, MTU, Way, next_hop};
use crate::frames::Packet;
use crate::gateway::{BOTH, ends};
use crate::trial::{SystemTest, TestResult};

pub(crate) fn trials() -> Vec<SystemTest> {
    vec![
        SystemTest::new("datagrams_really_take_the_fast_path", datagrams),
        SystemTest::new(
            "a_connection_really_takes_the_fast_path",
            connection::connection,
        ),
        SystemTest::new("segments_really_take_the_fast_path", connection::segments),
        SystemTest::new(
            "scattered_packets_really_take_the_fast_path",
            scattered::scattered,
        ),
        SystemTest::new("odd_frames_of_an_offloaded_flow_arrive", frames),
        SystemTest::new("packets_from_a_tunnel_take_no_fast_path", tunnelled),
    ]
}

const ID: u32 = 9;
const OUT_HOP: u32 = 1;
const BACK_HOP: u32 = 2;

/// A host that is behind the first provider's TUN.
fn remote(family: Family) -> SocketAddr {
    let address: IpAddr = match family {
        Family::Ipv4 => [203, 0, 113, 77].into(),
        Family::Ipv6 => [0xfd00, 0x203, 0, 0, 0, 0, 0, 0x77].into(),
    };
    SocketAddr::new(address, 7007)
}

/// A flow between the client and a host, whose source is translated.
fn line(family: Family, protocol: u8, port: u16, own_port: u16, outside: SocketAddr) -> Line {
    let own: IpAddr = match family {
        Family::Ipv4 => [198, 18, 11, 2].into(),
        Family::Ipv6 => [0xfd00, 0x18, 0x11, 0, 0, 0, 0, 2].into(),
    };
    Line {
        protocol,
        inside: SocketAddr::new(ends(family).inside, port),
        outside,
        own: SocketAddr::new(own, own_port),
        far: outside,
    }
}

/// A gateway, and a TUN at its first provider.
async fn with_tun() -> Result<(Attached, Tun), Box<dyn Error>> {
    let mut attached = Attached::new().await?;
    for family in BOTH {
        attached.programs.select(family, Affinity::Flow, &[1])?;
    }
    let lab = attached.stand.lab();
    let provider = lab.uplink(1)?.provider();
    let tun = provider.add_tun("tun7").await?;
    for line in [
        "ip -4 route add 203.0.113.77/32 dev tun7",
        "ip -6 route add fd00:203::77/128 dev tun7",
    ] {
        provider.must(ProgramSpec::line(line)).await?;
    }
    let client = lab.client(1)?.node();
    client.set_sysctl("net/ipv6/auto_flowlabels", "0").await?;
    Ok((attached, tun))
}

impl Attached {
    /// Puts a flow of which there is an entry on the fast path.
    async fn offload(&mut self, line: &Line) -> TestResult {
        let key = line.key();
        self.open_hops(key.family, MTU).await?;
        let wiring = self.stand.wiring();
        let (lan, wan) = (wiring.lan, *wiring.wans.first().ok_or("no uplink")?);
        let (users, provider, mut pair) = line.offloaded();
        for (way, key, ingress, hop) in [
            (&mut pair.out, users, lan, OUT_HOP),
            (&mut pair.back, provider, wan, BACK_HOP),
        ] {
            way.key = key.words().0;
            way.id = ID;
            way.ingress = ingress;
            way.next_hop = hop;
            way.generation = 1;
            way.uplink = 1;
        }
        let programs = &mut self.programs;
        programs.set_pair(&pair)?;
        programs.set_lease(&LEASE)?;
        let flow = Flow {
            phase: Phase::Established,
            confirmed: true,
            ..self.flow(&key).await?
        };
        Ok(self.programs.set_flow(&key, &flow)?)
    }

    /// The first provider's router and the client are known, and take packets of this length.
    async fn open_hops(&mut self, family: Family, mtu: u32) -> TestResult {
        let lab = self.stand.lab();
        let client = lab.client(1)?.node().hardware_address("eth0").await?;
        let router = lab.uplink(1)?.provider().hardware_address("access").await?;
        let wiring = self.stand.wiring();
        let wan = *wiring.wans.first().ok_or("no uplink")?;
        let wan_mac = *wiring.wan_macs.first().ok_or("no uplink")?;
        let out = next_hop(family, wan, router, wan_mac);
        let back = next_hop(family, wiring.lan, client, wiring.lan_mac);
        for (index, hop) in [(OUT_HOP, out), (BACK_HOP, back)] {
            self.programs.set_next_hop(index, &NextHop { mtu, ..hop })?;
        }
        Ok(())
    }

    /// What the programs have counted so far of packets that took the fast path, or could not.
    fn counted(&self) -> Result<(u64, u64), Box<dyn Error>> {
        let fast = self.programs.counters(1)?.fast;
        Ok((fast, self.programs.totals()?.returned))
    }

    /// And since then.
    fn fast_since(&self, before: (u64, u64)) -> Result<(u64, u64), Box<dyn Error>> {
        let after = self.counted()?;
        Ok((after.0 - before.0, after.1 - before.1))
    }

    /// What moved of a flow in both directions, in packets and bytes, by the stack and the fast path.
    async fn moved(&self, line: &Line) -> Result<[(u64, u64); 2], Box<dyn Error>> {
        let (users, provider, _) = line.offloaded();
        let (flow, pair) = (
            self.flow(&line.key()).await?,
            self.programs.pair(&users, &provider)?,
        );
        let (out, back) = (pair.out, pair.back);
        Ok([
            (flow.out_packets + out.packets, flow.out_bytes + out.bytes),
            (flow.in_packets + back.packets, flow.in_bytes + back.bytes),
        ])
    }
}

/// The next packet of its protocol and family for the other end of a flow.
async fn next(tun: &mut Tun, line: &Line) -> Result<Vec<u8>, Box<dyn Error>> {
    let (version, at, header) = match line.far {
        SocketAddr::V4(_) => (4, 9, 20),
        SocketAddr::V6(_) => (6, 6, 40),
    };
    let port = line.far.port().to_be_bytes();
    within("a packet arrives", PATIENCE, async {
        while let Some(packet) = tun.sent.recv().await {
            if packet.first().is_some_and(|byte| byte >> 4 == version)
                && packet.get(at) == Some(&line.protocol)
                && packet.get(header + 2..header + 4) == Some(&port)
            {
                return Ok(packet);
            }
        }
        Err("the TUN is gone".into())
    })
    .await?
}

/// The packet that must have come out: with the label that the sender gave it, and as whole.
fn expected(line: &Line, sent: &Packet, found: &[u8]) -> Vec<u8> {
    let byte = |at: usize| found.get(at).copied().unwrap_or_default();
    let mut packet = line.translated(Way::Out, sent);
    packet.label = match packet.source {
        IpAddr::V4(_) => u16::from_be_bytes([byte(4), byte(5)]),
        IpAddr::V6(_) => u16::from_be_bytes([byte(2), byte(3)]),
    };
    packet.whole = byte(6) & 0x40 != 0;
    // The provider's router is one more hop.
    packet.hops -= 1;
    packet.bytes()
}

/// A socket of the client's address and port, which was another's before. A process that another test has
/// just begun holds a copy of that one until it runs its own program.
async fn socket_of(from: SocketAddr) -> io::Result<UdpSocket> {
    let begun = Instant::now();
    loop {
        match UdpSocket::bind(from).await {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse
                    && begun.elapsed() < patient(PATIENCE) =>
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            done => return done,
        }
    }
}

/// Sends from the client's socket, in segments of this length if that is not 0.
async fn send(
    client: &Node,
    from: SocketAddr,
    to: SocketAddr,
    payload: Vec<u8>,
    segment: i32,
) -> TestResult {
    client
        .run(move || async move {
            let socket = socket_of(from).await?;
            socket.connect(to).await?;
            if segment != 0 {
                setsockopt(&socket, sockopt::UdpGsoSegment, &segment)?;
            }
            socket.send(&payload).await
        })
        .await??;
    Ok(())
}

async fn datagrams() -> TestResult {
    let (mut attached, mut tun) = with_tun().await?;
    for family in BOTH {
        let line = line(family, UDP, 40_001, 61_001, remote(family));
        let (from, to) = (line.inside, line.outside);
        // The stack's: the programs learn of the flow.
        let client = attached.stand.lab().client(1)?.node();
        send(client, from, to, b"first".to_vec(), 0).await?;
        next(&mut tun, &line).await?;
        attached.offload(&line).await?;
        let before = attached.counted()?;
        let sure = attached.seen("sure").await?;
        let client = attached.stand.lab().client(1)?.node();
        // Checksums that are not computed yet, and segments that are not cut yet.
        for (segments, segment) in [(1, 0), (1, 0), (3, 500), (4, 333)] {
            let each = if segment == 0 { 101 } else { segment };
            let each = usize::try_from(each)?;
            let payload: Vec<u8> = (0..=250).cycle().take(segments * each).collect();
            send(client, from, to, payload.clone(), segment).await?;
            for part in payload.chunks(each) {
                let found = next(&mut tun, &line).await?;
                let sent = line.carrying(Way::Out, part);
                assert_eq!(found, expected(&line, &sent, &found), "segments of {each}");
            }
        }
        assert_eq!(attached.fast_since(before)?, (9, 0), "{family:?}");
        assert_eq!(attached.seen("sure").await?, sure, "the stack saw none");
        back(&attached, &line, &tun).await?;
    }
    Ok(())
}

/// An answer comes to the client's socket, which looks whether its checksum is right.
async fn back(attached: &Attached, line: &Line, tun: &Tun) -> TestResult {
    let client = attached.stand.lab().client(1)?.node();
    let (from, to) = (line.inside, line.outside);
    let (bound, is_bound) = oneshot::channel();
    let hear = client.run(move || async move {
        let socket = socket_of(from).await?;
        socket.connect(to).await?;
        // The test has failed already if nobody waits.
        bound.send(()).ok();
        let mut heard = vec![0; 2000];
        let length = socket.recv(&mut heard).await?;
        heard.truncate(length);
        Ok::<_, io::Error>(heard)
    });
    let answer = line.packet(Way::Back, 777);
    let deliver = async {
        is_bound.await?;
        tun.deliver.send(answer.bytes())?;
        Ok::<_, Box<dyn Error>>(())
    };
    let before = attached.counted()?;
    let (heard, delivered) = tokio::join!(within("an answer comes", PATIENCE, hear), deliver);
    delivered?;
    let heard = heard???;
    assert_eq!(Some(&heard[..]), answer.message.bytes.get(8..));
    assert_eq!(attached.fast_since(before)?, (1, 0));
    let [_, (packets, _)] = attached.moved(line).await?;
    assert_eq!(packets, 1);
    Ok(())
}

/// A tag with nothing but a priority, and one of a VLAN.
const TAGS: [(u16, bool); 2] = [(0xa000, true), (0x0007, false)];

/// Frames of a packet socket, and tagged ones.
async fn frames() -> TestResult {
    let (mut attached, mut tun) = with_tun().await?;
    for family in BOTH {
        for protocol in [UDP, TCP] {
            let line = line(family, protocol, 40_002, 61_002, remote(family));
            let mac = attached.stand.wiring().lan_mac;
            let mut packet = line.packet(Way::Out, 300);
            let frame = packet.frame(mac);
            let client = attached.stand.lab().client(1)?.node();
            let first = vec![frame.clone()];
            client.send_frames("eth0", Layout::Linear, first).await?;
            next(&mut tun, &line).await?;
            attached.offload(&line).await?;
            let client = attached.stand.lab().client(1)?.node();
            let before = attached.counted()?;
            let again = vec![frame.clone()];
            client.send_frames("eth0", Layout::Linear, again).await?;
            let found = next(&mut tun, &line).await?;
            assert_eq!(found, expected(&line, &packet, &found));
            assert_eq!(attached.fast_since(before)?, (1, 0));
            for (tag, seen) in TAGS {
                let before = attached.counted()?;
                let mut tagged = frame.clone();
                let bytes = [&[0x81, 0][..], &tag.to_be_bytes()].concat();
                tagged.splice(12..12, bytes);
                // What follows it comes out later.
                packet.label = packet.label.wrapping_add(1);
                let frames = vec![tagged, packet.frame(mac)];
                client.send_frames("eth0", Layout::Linear, frames).await?;
                if seen {
                    // By the stack, which has no translation for it here.
                    next(&mut tun, &line).await?;
                }
                let found = next(&mut tun, &line).await?;
                assert_eq!(found, expected(&line, &packet, &found), "tag {tag:#x}");
                let since = attached.fast_since(before)?;
                assert_eq!(since, (1, u64::from(seen)), "tag {tag:#x}");
            }
            forget(&mut attached, &line.key())?;
        }
    }
    Ok(())
}

fn forget(attached: &mut Attached, key: &FlowKey) -> TestResult {
    Ok(attached.programs.remove_flow(key)?)
}

/// There is no header of Ethernet to be written.
async fn tunnelled() -> TestResult {
    let (mut attached, tun) = super::tunnel::with_downlink().await?;
    for family in BOTH {
        let ends = super::tunnel::tunnelled(family);
        let outside = SocketAddr::new(ends.outside, 9);
        let line = Line {
            inside: SocketAddr::new(ends.inside, 40_003),
            ..line(family, UDP, 40_003, 61_003, outside)
        };
        let packet = line.packet(Way::Out, 30);
        tun.deliver.send(packet.bytes())?;
        attached.flow(&line.key()).await?;
        attached.offload(&line).await?;
        let (users, provider, _) = line.offloaded();
        let mut pair = attached.programs.pair(&users, &provider)?;
        pair.out.ingress = attached.gateway().interface_index("tun0").await?;
        attached.programs.set_pair(&pair)?;
        let before = attached.counted()?;
        let sure = attached.seen("sure").await?;
        tun.deliver.send(packet.bytes())?;
        let twice = |flow: &Flow| flow.out_packets == 2;
        attached
            .flow_that("has a second packet", &line.key(), twice)
            .await?;
        failover_tests::eventually("the stack sees it", PATIENCE, || async {
            let seen = attached.seen("sure").await;
            let seen = seen.map_err(|error| failover_tests::LabError::Layout {
                reason: error.to_string(),
            })?;
            Ok((seen == sure + 1).then_some(()))
        })
        .await?;
        assert_eq!(attached.fast_since(before)?.0, 0, "{family:?}");
    }
    Ok(())
}
