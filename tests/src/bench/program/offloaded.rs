//! What a packet costs that takes the fast path.
//!
//! Its flow is translated to the addresses and ports that it has, so that the kernel can give the
//! program the same packet again and again: only the number of hops that are left changes.

use std::time::Duration;

use aya::programs::SchedClassifier;
use failover::flows::{Protocol, key_of};
use failover_common::lifetime::protocol::UDP;
use failover_common::{
    Direction, Flow, FlowKey, Lease, Moved, NextHop, OffloadKey, Offloaded, Pair, Phase, Side,
};

use super::frames::{SENDER, datagram_of_hops};
use super::trial::{Bench, Case, LAN_IN, PACKETS, PORTS, WAN_IN};
use super::{Meeting, Series};
use crate::programs::{Assembled, Context, ProgramsError};

/// As many as a packet can have, and how many runs they last for.
const HOPS: u8 = 255;
const PACKETS_AT_ONCE: u32 = 250;

/// Where the flow is on the fast path.
const PLACE: Offloaded = Offloaded { slot: 0, id: 1 };
const UPLINK: u8 = 1;
const MTU: u32 = 1500;
/// The indexes of the next hops from users and to them.
const OUT_HOP: u32 = 0;
const BACK_HOP: u32 = 1;

impl Bench<'_> {
    /// Packets of a flow on the fast path, from users and to them.
    pub(super) fn offloaded(&mut self) -> Result<Vec<Series>, ProgramsError> {
        let (inside, outside) = (self.hosts.inside, self.hosts.outside);
        let key = key_of(Protocol(UDP), (inside, PORTS.0), (outside, PORTS.1));
        let (lan, wan) = (self.wiring.lan, self.wan()?);
        let wan_mac = self.wiring.wan_macs.first().copied().unwrap_or_default();
        let case = |program, mac, from, to, ports, ifindex| -> Result<Case, ProgramsError> {
            Ok(Case {
                program,
                meeting: Meeting::Sent,
                frame: datagram_of_hops(HOPS, mac, from, to, ports)?,
                context: Context {
                    ifindex,
                    ..Context::default()
                },
            })
        };
        let answers = (PORTS.1, PORTS.0);
        let cases = [
            case(LAN_IN, self.wiring.lan_mac, inside, outside, PORTS, lan)?,
            case(WAN_IN, wan_mac, outside, inside, answers, wan)?,
        ];
        let [first, _] = &cases;
        self.repeated(self.loaded.program(LAN_IN)?, first, 1, 1)?;
        self.put(&key, [lan, wan], wan_mac)?;
        let nothing = Assembled::nothing(&self.bpffs)?;
        cases
            .iter()
            .map(|case| {
                let overhead = self.in_pieces(nothing.program(), case)?;
                let runs = self.in_pieces(self.loaded.program(case.program)?, case)?;
                Ok(self.entry(case, runs, &overhead))
            })
            .collect()
    }

    /// Writes what the daemon would.
    fn put(
        &mut self,
        key: &FlowKey,
        [lan, wan]: [u32; 2],
        wan_mac: [u8; 6],
    ) -> Result<(), ProgramsError> {
        let family = key.family;
        let generation = self.loaded.uplink(UPLINK)?.family(family).generation;
        let way =
            |ingress, next_hop, source: [u8; 16], destination: [u8; 16], ports: (u16, u16)| {
                Direction {
                    id: PLACE.id,
                    ingress,
                    next_hop,
                    generation,
                    source: bytemuck::cast(source),
                    destination: bytemuck::cast(destination),
                    source_port: ports.0,
                    destination_port: ports.1,
                    uplink: UPLINK,
                    ..Direction::default()
                }
            };
        let (inside, outside) = (key.inside_port, key.outside_port);
        let pair = Pair {
            out: way(lan, OUT_HOP, key.inside, key.outside, (inside, outside)),
            back: way(wan, BACK_HOP, key.outside, key.inside, (outside, inside)),
            moved: Moved::default(),
        };
        // So that a packet looks as before: for us again, and from the same sender.
        let hop = |interface, mac| NextHop::ethernet(interface, MTU, family, mac, SENDER);
        let now_ns = u64::MAX;
        self.loaded.set_lease(&Lease {
            packets_until_ns: now_ns,
            offers_until_ns: now_ns,
            ..Lease::default()
        })?;
        self.loaded
            .set_next_hop(OUT_HOP, &hop(wan, self.wiring.lan_mac))?;
        self.loaded.set_next_hop(BACK_HOP, &hop(lan, wan_mac))?;
        self.loaded.set_pair(PLACE.slot, &pair)?;
        let from_provider = OffloadKey {
            source: key.outside,
            destination: key.inside,
            source_port: outside,
            destination_port: inside,
            side: Side::Provider,
            ..OffloadKey::from_users(key)
        };
        self.loaded.lead(&from_provider, PLACE)?;
        self.loaded.lead(&OffloadKey::from_users(key), PLACE)?;
        // Its first packet enters it.
        let missing = || ProgramsError::Missing("flow".to_owned());
        let flow = Flow {
            generation,
            uplink: UPLINK,
            phase: Phase::Established,
            confirmed: true,
            offloaded: PLACE,
            ..self.loaded.flow(key)?.ok_or_else(missing)?
        };
        self.loaded.set_flow(key, &flow)
    }

    /// As many packets as elsewhere, as long as their hops last.
    fn in_pieces(
        &self,
        program: &SchedClassifier,
        case: &Case,
    ) -> Result<Vec<Duration>, ProgramsError> {
        let pieces = PACKETS / PACKETS_AT_ONCE;
        (0..self.runs)
            .map(|_| {
                let pieces = usize::try_from(pieces).unwrap_or_default();
                let took = self.repeated(program, case, PACKETS_AT_ONCE, pieces)?;
                let count = u32::try_from(took.len()).unwrap_or(u32::MAX).max(1);
                Ok(took.iter().sum::<Duration>() / count)
            })
            .collect()
    }
}
