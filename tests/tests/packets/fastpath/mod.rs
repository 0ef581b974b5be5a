//! The fast path: packets of established flows that the programs translate and send out themselves,
//! and those that they leave to the stack.
//!
//! What is written into the maps is what the daemon would write (`failover::fastpath::translation`); what
//! comes out is compared with packets that are built from scratch.

mod counts;
mod evicted;
mod flood;
mod line;
mod offers;
mod random;
mod returned;
mod sent;
mod situations;
mod tcp;

use std::net::IpAddr;

use failover_common::lifetime::protocol::{TCP, UDP};
use failover_common::{Family, Flow, Lease, NextHop, Pair, Phase, Totals};
use failover_tests::programs::{Context, Run};

use line::WAYS;
pub(crate) use line::{Line, Way};

use crate::frames::{IPV4, IPV6, Packet, frame};
use crate::gateway::{Failure, Gateway, MASK, Mark, OTHERS, Outcome, mark};
use crate::trial::SystemTest;

pub(crate) fn trials() -> Vec<SystemTest> {
    [
        sent::trials(),
        random::trials(),
        returned::trials(),
        situations::trials(),
        counts::trials(),
        offers::trials(),
        evicted::trials(),
        flood::trials(),
        tcp::trials(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a program returns that has sent a packet out: `TC_ACT_REDIRECT`.
const SENT: i32 = 7;
const PASSED_ON: i32 = -1;

/// The uplink that offloaded flows are on, by its only generation.
const UPLINK: u8 = 1;
const GENERATION: u32 = 1;
/// The longest packet that next hops take.
pub(crate) const MTU: u32 = 1500;

/// The hardware addresses of the provider's router and of the user's host, and where they stand among
/// the next hops.
const ROUTER: [u8; 6] = [0x02, 0, 0, 0, 0xaa, 0x01];
const HOST: [u8; 6] = [0x06, 0x11, 0x22, 0x33, 0x44, 0x55];
const OUT_HOP: u32 = 5;
const BACK_HOP: u32 = 16_383;

/// Whose the directions of flows are in these tests.
const ID: u32 = 0x8000_0007;

/// The protocols that take the fast path.
const PROTOCOLS: [u8; 2] = [TCP, UDP];

/// The program that a flow's packets meet.
const fn program(way: Way) -> &'static str {
    match way {
        Way::Out => "fo_lan_in",
        Way::Back => "fo_wan_in",
    }
}

/// A frame as it leaves by a next hop.
fn leaving(to: [u8; 6], from: [u8; 6], packet: &Packet) -> Vec<u8> {
    let kind = match packet.source {
        IpAddr::V4(_) => IPV4,
        IpAddr::V6(_) => IPV6,
    };
    let mut bytes = frame(to, kind, &packet.bytes());
    bytes.splice(6..12, from);
    bytes
}

/// What the daemon writes of a next hop.
pub(crate) fn next_hop(family: Family, interface: u32, to: [u8; 6], from: [u8; 6]) -> NextHop {
    NextHop::ethernet(interface, MTU, family, to, from)
}

/// A lease that lasts.
pub(crate) const LEASE: Lease = Lease {
    packets_until_ns: u64::MAX,
    offers_until_ns: u64::MAX,
    last_id: ID,
    reserved: 0,
};

/// Packets and bytes of a flow, from users and to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Moved {
    out: (u64, u64),
    back: (u64, u64),
}

impl Gateway<'_> {
    fn wan_mac(&self, uplink: u8) -> Result<[u8; 6], Failure> {
        let index = usize::from(uplink).checked_sub(1);
        let mac = index.and_then(|index| self.wiring.wan_macs.get(index));
        Ok(*mac.ok_or("there is no such uplink")?)
    }

    /// The pair of a flow on the first uplink.
    fn pair_of(&self, line: &Line) -> Result<Pair, Failure> {
        let (users, provider, mut pair) = line.offloaded();
        for (way, key, ingress, next_hop) in [
            (&mut pair.out, users, self.wiring.lan, OUT_HOP),
            (&mut pair.back, provider, self.wan(UPLINK)?, BACK_HOP),
        ] {
            way.key = key.words().0;
            way.id = ID;
            way.ingress = ingress;
            way.next_hop = next_hop;
            way.generation = GENERATION;
            way.uplink = UPLINK;
        }
        Ok(pair)
    }

    /// The flow is established on the first uplink, since now.
    fn establish(&mut self, line: &Line) -> Result<Flow, Failure> {
        let flow = Flow {
            generation: GENERATION,
            uplink: UPLINK,
            phase: Phase::Established,
            confirmed: true,
            out_packets: 1,
            ..Flow::begun(self.now_ns()?)
        };
        self.programs.set_flow(&line.key(), &flow)?;
        Ok(flow)
    }

    /// The flow is established, and on the fast path.
    fn offload(&mut self, line: &Line) -> Outcome {
        self.establish(line)?;
        self.programs.set_lease(&LEASE)?;
        self.open_hops()?;
        let pair = self.pair_of(line)?;
        Ok(self.programs.set_pair(&pair)?)
    }

    /// What became of the flow's packets.
    fn pair(&self, line: &Line) -> Result<Pair, Failure> {
        let (users, provider, _) = line.offloaded();
        Ok(self.programs.pair(&users, &provider)?)
    }

    /// What was counted of the flow, by the stack and by the fast path.
    fn moved(&self, line: &Line) -> Result<Moved, Failure> {
        let (flow, pair) = (self.flow(&line.key())?, self.pair(line)?);
        Ok(Moved {
            out: (
                flow.out_packets + pair.out.packets,
                flow.out_bytes + pair.out.bytes,
            ),
            back: (
                flow.in_packets + pair.back.packets,
                flow.in_bytes + pair.back.bytes,
            ),
        })
    }

    fn open_hops(&mut self) -> Outcome {
        let out = next_hop(
            self.family,
            self.wan(UPLINK)?,
            ROUTER,
            self.wan_mac(UPLINK)?,
        );
        let back = next_hop(self.family, self.wiring.lan, HOST, self.wiring.lan_mac);
        self.programs.set_next_hop(OUT_HOP, &out)?;
        Ok(self.programs.set_next_hop(BACK_HOP, &back)?)
    }

    /// A frame as it comes in, on the interface on which the flow's packets do.
    fn arriving(&self, way: Way, packet: &Packet) -> Result<Vec<u8>, Failure> {
        Ok(packet.frame(match way {
            Way::Out => self.wiring.lan_mac,
            Way::Back => self.wan_mac(UPLINK)?,
        }))
    }

    /// A frame as it leaves.
    fn leaving(&self, way: Way, packet: &Packet) -> Result<Vec<u8>, Failure> {
        Ok(match way {
            Way::Out => leaving(ROUTER, self.wan_mac(UPLINK)?, packet),
            Way::Back => leaving(HOST, self.wiring.lan_mac, packet),
        })
    }

    fn context(&self, way: Way) -> Result<Context, Failure> {
        Ok(Context {
            ifindex: match way {
                Way::Out => self.wiring.lan,
                Way::Back => self.wan(UPLINK)?,
            },
            ..Context::default()
        })
    }

    /// Gives a frame to the program that it meets.
    fn meet(&self, way: Way, frame: &[u8], context: Context) -> Result<Run, Failure> {
        let context = Context {
            mark: OTHERS,
            ..context
        };
        Ok(self.programs.run(program(way), frame, context, 1)?)
    }

    /// A packet comes in, takes the fast path, and leaves as it should.
    fn assert_sent(&self, what: &str, line: &Line, way: Way, packet: &Packet) -> Outcome {
        let what = format!("{what}, {way:?} of {line:?}");
        let run = self.meet(way, &self.arriving(way, packet)?, self.context(way)?)?;
        assert_eq!(run.returned, SENT, "{what}");
        let expected = self.leaving(way, &line.translated(way, packet))?;
        assert_eq!(run.frame, expected, "{what}");
        assert_marked(&what, way, run.mark, Mark::Sure(UPLINK))
    }

    /// A packet comes in and is left to the stack as it is, marked as one that takes the stack's way
    /// anyway; it is counted as one of an offloaded flow.
    fn assert_returned(&self, what: &str, way: Way, frame: &[u8], context: Context) -> Outcome {
        let before = self.programs.totals()?;
        self.assert_passed(what, way, frame, context, Mark::Sure(UPLINK))?;
        let expected = Totals {
            returned: before.returned + 1,
            ..before
        };
        assert_eq!(self.programs.totals()?, expected, "{what}, {way:?}");
        Ok(())
    }

    /// A packet comes in and is left to the stack as it is, with this mark if it is from users.
    fn assert_passed(
        &self,
        what: &str,
        way: Way,
        frame: &[u8],
        context: Context,
        from_users: Mark,
    ) -> Outcome {
        let run = self.meet(way, frame, context)?;
        assert_eq!(run.returned, PASSED_ON, "{what}, {way:?}");
        assert_eq!(run.frame, frame, "{what}, {way:?}: it is not changed");
        assert_marked(what, way, run.mark, from_users)
    }

    /// The same of a packet of the usual kind on the interface of the flow.
    fn assert_packet_passed(&self, what: &str, line: &Line, way: Way, from_users: Mark) -> Outcome {
        let frame = self.arriving(way, &line.packet(way, 100))?;
        self.assert_passed(what, way, &frame, self.context(way)?, from_users)
    }

    /// A packet of the usual kind is left to the stack, though its flow takes the fast path.
    fn assert_packet_returned(&self, what: &str, line: &Line, way: Way) -> Outcome {
        let frame = self.arriving(way, &line.packet(way, 100))?;
        self.assert_returned(what, way, &frame, self.context(way)?)
    }
}

/// Packets of users carry their uplink; those of providers carry nothing of ours.
fn assert_marked(what: &str, way: Way, found: u32, from_users: Mark) -> Outcome {
    let expected = match way {
        Way::Out => from_users,
        Way::Back => Mark::None,
    };
    assert_eq!(mark(found)?, expected, "{what}, {way:?}");
    assert_eq!(found & !MASK, OTHERS, "{what}: others' bits of the mark");
    Ok(())
}
