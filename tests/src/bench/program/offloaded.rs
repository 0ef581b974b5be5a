//! What a packet costs that takes the fast path.
//!
//! Its flow is translated to the addresses and ports that it has, so that the kernel can give the
//! program the same packet again and again: only the number of hops that are left changes.

use std::time::Duration;

use aya::programs::SchedClassifier;
use failover::flows::{Protocol, key_of};
use failover_common::lifetime::protocol::UDP;
use failover_common::{Direction, Flow, FlowKey, Lease, NextHop, OffloadKey, Phase, Side};

use super::frames::{SENDER, datagram_of_hops};
use super::trial::{Bench, Case, LAN_IN, PACKETS, PORTS, WAN_IN};
use super::{Meeting, Series};
use crate::programs::{Assembled, Context, ProgramsError};

/// As many as a packet can have, and how many runs they last for.
const HOPS: u8 = 255;
const PACKETS_AT_ONCE: u32 = 250;

const ID: u32 = 1;
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
        self.repeated(&*self.loaded.program(LAN_IN)?, first, 1, 1)?;
        self.put(&key, [lan, wan], wan_mac)?;
        let nothing = Assembled::nothing(&self.bpffs)?;
        cases
            .iter()
            .map(|case| {
                let overhead = self.in_pieces(nothing.program(), case)?;
                let runs = self.in_pieces(&*self.loaded.program(case.program)?, case)?;
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
        let from_users = OffloadKey::from_users(key);
        let from_provider = OffloadKey {
            source: key.outside,
            destination: key.inside,
            source_port: key.outside_port,
            destination_port: key.inside_port,
            side: Side::Provider,
            ..from_users
        };
        let way = |key: &OffloadKey, ingress, next_hop| Direction {
            key: key.words().0,
            id: ID,
            ingress,
            next_hop,
            generation,
            source: bytemuck::cast(key.source),
            destination: bytemuck::cast(key.destination),
            source_port: key.source_port,
            destination_port: key.destination_port,
            uplink: UPLINK,
            ..Direction::default()
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
        self.loaded.set_direction(&way(&from_users, lan, OUT_HOP))?;
        self.loaded
            .set_direction(&way(&from_provider, wan, BACK_HOP))?;
        // Its first packet enters it.
        let missing = || ProgramsError::Missing("flow".to_owned());
        let flow = Flow {
            generation,
            uplink: UPLINK,
            phase: Phase::Established,
            confirmed: true,
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
