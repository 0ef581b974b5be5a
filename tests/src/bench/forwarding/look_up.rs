//! What the programs that are limits have in common: they find a packet's flow in a table. A key is
//! both addresses, both ports and the protocol. Tables are apart by family, since what is not in it need
//! not be fetched from memory: with very many flows that is most of the cost.

use std::os::fd::BorrowedFd;

use super::offsets::{DATA, DATA_END, Header, PROTOCOL, UDP_LENGTH};
use crate::programs::{Assembly, Place, Width, code};

/// The helper `bpf_map_lookup_elem`.
const LOOK_UP: i32 = 1;

/// Registers: the packet's context, its beginning and its end; and the stack's end.
pub(super) const CONTEXT: u8 = 6;
pub(super) const PACKET: u8 = 7;
pub(super) const END: u8 = 8;
pub(super) const STACK: u8 = 10;

/// The end of the program, where the packet passes.
pub(super) const PASS: Place = ("pass", 0);

/// How long addresses are.
pub(super) const IPV4: usize = 4;
pub(super) const IPV6: usize = 16;

/// How long a key is.
pub(super) const fn key_length(address: usize) -> usize {
    2 * address + 8
}

/// Where on the stack the key is.
pub(super) const fn key_at(header: Header) -> i16 {
    -(2 * header.address() + 8)
}

/// The beginning of a program.
pub(super) fn begin(all: &mut Assembly) {
    all.registers(code::MOVE, CONTEXT, 1)
        .load(Width::Word, PACKET, CONTEXT, DATA)
        .load(Width::Word, END, CONTEXT, DATA_END);
}

/// Goes on elsewhere if a packet is of the other family, and passes it if it is not whole.
pub(super) fn require(all: &mut Assembly, header: Header, otherwise: Place) {
    all.registers(code::MOVE, 1, PACKET)
        .value(code::ADD_VALUE, 1, i32::from(header.payload() + UDP_LENGTH))
        .go_if_greater(1, END, PASS)
        .load(Width::Half, 1, PACKET, PROTOCOL)
        .go_if(code::UNLESS, 1, header.protocol(), otherwise);
}

/// Looks a packet's flow up: register 0 is the address of its value, or 0. The key stays on the stack.
pub(super) fn look_up(all: &mut Assembly, header: Header, flows: BorrowedFd<'_>) {
    let (addresses, bottom) = (2 * header.address(), key_at(header));
    // Both addresses stand in the packet as they do in the key.
    for at in (0..addresses).step_by(4) {
        all.load(Width::Word, 1, PACKET, header.source() + at)
            .store(Width::Word, STACK, bottom + at, 1);
    }
    all.load(Width::Word, 1, PACKET, header.payload())
        .store(Width::Word, STACK, bottom + addresses, 1)
        .load(Width::Byte, 1, PACKET, header.next())
        .store(Width::Word, STACK, bottom + addresses + 4, 1)
        .map(1, flows)
        .registers(code::MOVE, 2, STACK)
        .value(code::ADD_VALUE, 2, bottom.into())
        .call(LOOK_UP);
}
