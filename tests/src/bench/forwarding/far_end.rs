//! Where measured packets end: a TC program on what the gateway sends to. It counts each packet that
//! goes to the addresses that nobody has (`frames`), and drops it, or sends it back to whom it came
//! from as the other end of a flow would. All else passes: the probes of a daemon are answered.
//!
//! What it costs is the same for all variants, and less than a rule of nftables.

use std::os::fd::AsFd;
use std::path::Path;

use aya::maps::{Array, Map, MapData, MapError};

use super::frames::{NOBODY_IPV4, NOBODY_IPV6};
use super::offsets::{
    DATA, DATA_END, Header, INTERFACE, PROTOCOL, SENDER, TCP, TCP_ACKNOWLEDGED, TCP_FLAGS,
    TCP_LENGTH, TCP_SEQUENCE, UDP_LENGTH,
};
use super::{attached, pinned_map};
use crate::node::Node;
use crate::programs::{Assembled, Assembly, ProgramsError, Width, code};
use crate::sys::bpf::MapKind;

/// The helper `bpf_redirect`, and `TC_ACT_SHOT`.
const REDIRECT: i32 = 23;
const DROP: i32 = 2;

/// In the map: how many packets, and whether they are sent back.
const COUNT: i16 = 0;
const ANSWERS: i16 = 8;
const STATE: usize = 16;

/// Flags of TCP, as they stand in its header.
const SYN: i32 = 0x02;
const SYN_ACK: i32 = 0x12;

/// Registers: the packet's context, its beginning, its end, what the program shares with us.
const CONTEXT: u8 = 6;
const PACKET: u8 = 7;
const END: u8 = 8;
const SHARED: u8 = 9;

/// Places in the program; at its end, the packet passes.
const PASS: (&str, u8) = ("pass", 0);
const SINK: (&str, u8) = ("sink", 0);
const SEND_BACK: (&str, u8) = ("send back", 0);

/// The program on one interface. It is gone with this.
pub(super) struct FarEnd {
    shared: Array<MapData, [u8; STATE]>,
    /// Attached as long as it is here.
    _program: Assembled,
}

impl FarEnd {
    /// Puts it on the packets that come in by an interface of a node.
    pub(super) async fn on(
        node: &Node,
        interface: &str,
        bpffs: &Path,
    ) -> Result<Self, ProgramsError> {
        let size = u32::try_from(STATE).unwrap_or_default();
        let (descriptor, map) = pinned_map(bpffs, MapKind::Array, 4, size, 1)?;
        let shared = Array::try_from(Map::Array(map)).map_err(failed)?;
        let instructions = program(descriptor.as_fd())?;
        let program = Assembled::new(bpffs, &instructions, vec![descriptor])?;
        let program = attached(node, interface, program, "at the far end").await?;
        Ok(Self {
            shared,
            _program: program,
        })
    }

    /// Whether packets are sent back from now on.
    pub(super) fn answer(&mut self, answers: bool) -> Result<(), ProgramsError> {
        let mut state = self.shared.get(&0, 0).map_err(failed)?;
        if let Some(byte) = state.get_mut(usize::from(ANSWERS.unsigned_abs())) {
            *byte = answers.into();
        }
        self.shared.set(0, state, 0).map_err(failed)
    }

    /// How many packets came so far.
    pub(super) fn count(&self) -> Result<u64, ProgramsError> {
        let state = self.shared.get(&0, 0).map_err(failed)?;
        Ok(state
            .first_chunk()
            .map_or(0, |count| u64::from_ne_bytes(*count)))
    }
}

fn failed(source: MapError) -> ProgramsError {
    ProgramsError::Map {
        name: "of the far end".to_owned(),
        source,
    }
}

fn program(
    shared: std::os::fd::BorrowedFd<'_>,
) -> Result<Vec<crate::programs::Instruction>, ProgramsError> {
    let mut all = Assembly::default();
    all.registers(code::MOVE, CONTEXT, 1)
        .load(Width::Word, PACKET, CONTEXT, DATA)
        .load(Width::Word, END, CONTEXT, DATA_END)
        .first_value(SHARED, shared);
    for header in [Header::Ipv4, Header::Ipv6] {
        let next = ("next family", header.number());
        let whole = i32::from(header.payload() + UDP_LENGTH);
        all.registers(code::MOVE, 1, PACKET)
            .value(code::ADD_VALUE, 1, whole)
            .go_if_greater(1, END, PASS)
            .load(Width::Half, 1, PACKET, PROTOCOL)
            .go_if(code::UNLESS, 1, header.protocol(), next)
            .load(Width::Word, 1, PACKET, header.destination());
        match header {
            Header::Ipv4 => {
                let network = i32::from_ne_bytes(NOBODY_IPV4);
                let mask = i32::from_ne_bytes([255, 255, 255, 0]);
                all.value(code::AND_VALUE, 1, mask)
                    .go_if(code::UNLESS, 1, network, PASS);
            }
            Header::Ipv6 => {
                all.go_if(code::UNLESS, 1, i32::from_ne_bytes(NOBODY_IPV6), PASS);
            }
        }
        all.value(code::SET, 1, 1)
            .atomic_add(SHARED, COUNT, 1)
            .load(Width::Word, 1, SHARED, ANSWERS)
            .go_if(code::IF, 1, 0, SINK);
        exchange(&mut all, Width::Word, 0, SENDER);
        exchange(&mut all, Width::Half, 4, SENDER + 4);
        for word in 0..header.address() / 4 {
            let (from, to) = (header.source(), header.destination());
            exchange(&mut all, Width::Word, from + 4 * word, to + 4 * word);
        }
        exchange(
            &mut all,
            Width::Half,
            header.payload(),
            header.payload() + 2,
        );
        answer_tcp(&mut all, header);
        all.go(SEND_BACK).place(next);
    }
    all.go(PASS)
        .place(SINK)
        .value(code::SET, 0, DROP)
        .exit()
        .place(SEND_BACK)
        .load(Width::Word, 1, CONTEXT, INTERFACE)
        .value(code::SET, 2, 0)
        .call(REDIRECT)
        .exit()
        .place(PASS);
    all.finish()
}

/// Exchanges what stands at two places of the packet. Sums over it stay as they are.
fn exchange(all: &mut Assembly, width: Width, one: i16, other: i16) {
    all.load(width, 1, PACKET, one)
        .load(width, 2, PACKET, other)
        .store(width, PACKET, one, 2)
        .store(width, PACKET, other, 1);
}

/// Has a segment of TCP acknowledge what it is the answer to. Its checksum is wrong then; the gateway
/// is told not to look at it, since a network card would have done so.
fn answer_tcp(all: &mut Assembly, header: Header) {
    let number = header.number();
    let (begins, no_tcp) = (("syn", number), ("no tcp", number));
    let at = |offset| header.payload() + offset;
    all.load(Width::Byte, 1, PACKET, header.next())
        .go_if(code::UNLESS, 1, TCP, no_tcp)
        .registers(code::MOVE, 1, PACKET)
        .value(code::ADD_VALUE, 1, i32::from(at(TCP_LENGTH)))
        .go_if_greater(1, END, PASS)
        .load(Width::Byte, 3, PACKET, at(TCP_FLAGS))
        .go_if(code::IF, 3, SYN, begins);
    exchange(all, Width::Word, at(TCP_SEQUENCE), at(TCP_ACKNOWLEDGED));
    all.go(no_tcp)
        .place(begins)
        .load(Width::Word, 1, PACKET, at(TCP_SEQUENCE))
        .load(Width::Word, 2, PACKET, at(TCP_ACKNOWLEDGED))
        .value(code::NETWORK_ORDER, 1, 32)
        .value(code::ADD_VALUE, 1, 1)
        .value(code::NETWORK_ORDER, 1, 32)
        .store(Width::Word, PACKET, at(TCP_SEQUENCE), 2)
        .store(Width::Word, PACKET, at(TCP_ACKNOWLEDGED), 1)
        .value(code::SET, 1, SYN_ACK)
        .store(Width::Byte, PACKET, at(TCP_FLAGS), 1)
        .place(no_tcp);
}
