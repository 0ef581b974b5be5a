//! Instructions of BPF, and sequences of them with jumps to places that have names.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::ProgramsError;
use super::assembled::failed;

/// An instruction (`struct bpf_insn`, include/uapi/linux/bpf.h; the codes are those of RFC 9669).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Instruction {
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    value: i32,
}

impl Instruction {
    pub(super) const fn new(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Self {
        Self {
            code,
            to,
            from,
            offset,
            value,
        }
    }

    pub(super) fn encode(self) -> u64 {
        let [offset_low, offset_high] = self.offset.to_ne_bytes();
        let [a, b, c, d] = self.value.to_ne_bytes();
        let registers = self.from << 4 | self.to;
        u64::from_ne_bytes([self.code, registers, offset_low, offset_high, a, b, c, d])
    }
}

/// Opcodes, by what they do to their registers.
pub(crate) mod code {
    /// `to = value`.
    pub(crate) const SET: u8 = 0xb7;
    /// `to = from`.
    pub(crate) const MOVE: u8 = 0xbf;
    /// `to += value`.
    pub(crate) const ADD_VALUE: u8 = 0x07;
    /// `to += from`.
    pub(crate) const ADD: u8 = 0x0f;
    /// `to -= from`.
    pub(crate) const SUBTRACT: u8 = 0x1f;
    /// `to |= from`.
    pub(crate) const OR: u8 = 0x4f;
    /// `to &= value`.
    pub(crate) const AND_VALUE: u8 = 0x57;
    /// `to %= value`.
    pub(crate) const MODULO_VALUE: u8 = 0x97;
    /// `to ^= value`.
    pub(crate) const XOR_VALUE: u8 = 0xa7;
    /// `to >>= value`.
    pub(crate) const SHIFT_RIGHT: u8 = 0x77;
    /// The lower `value` bits of `to` from the host's order into that of the network, or back.
    pub(crate) const NETWORK_ORDER: u8 = 0xdc;
    /// `to = *(u32 *)(from + offset)`.
    pub(crate) const LOAD: u8 = 0x61;
    /// `*(u32 *)(to + offset) = from`.
    pub(crate) const STORE: u8 = 0x63;
    /// `*(u64 *)(to + offset) += from`, whoever else does so.
    pub(crate) const ATOMIC_ADD: u8 = 0xdb;
    /// Go on `offset` instructions later, always.
    pub(crate) const GO: u8 = 0x05;
    /// Likewise if `to > from`.
    pub(crate) const IF_GREATER: u8 = 0x2d;
    /// Likewise if `to <= value`.
    pub(crate) const IF_AT_MOST: u8 = 0xb5;
    /// Likewise if `to == value`.
    pub(crate) const IF: u8 = 0x15;
    /// Likewise if the lower 32 bits of `to` are not `value`.
    pub(crate) const UNLESS: u8 = 0x56;
    /// `to =` a map, by its descriptor in `value`; takes two instructions.
    pub(crate) const MAP: u8 = 0x18;
    pub(crate) const CALL: u8 = 0x85;
    pub(crate) const EXIT: u8 = 0x95;
}

/// That the 64 bits of a [`code::MAP`] are a descriptor (`BPF_PSEUDO_MAP_FD`).
pub(super) const DESCRIPTOR: u8 = 1;
/// That they are one, and meant is the address of the array's first value (`BPF_PSEUDO_MAP_VALUE`).
const VALUE: u8 = 2;

/// How much is loaded or stored at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    Byte,
    Half,
    Word,
}

impl Width {
    /// What is added to the opcode of a word.
    const fn code(self) -> u8 {
        match self {
            Self::Word => 0,
            Self::Half => 0x08,
            Self::Byte => 0x10,
        }
    }
}

/// A place in a sequence: its name, and a number where the same code stands there several times.
pub(crate) type Place = (&'static str, u8);

/// A sequence that is being written.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    instructions: Vec<Instruction>,
    places: Vec<(Place, usize)>,
    jumps: Vec<(Place, usize)>,
}

impl Assembly {
    /// An instruction with a register and a value.
    pub(crate) fn value(&mut self, code: u8, to: u8, value: i32) -> &mut Self {
        self.push(Instruction::new(code, to, 0, 0, value))
    }

    /// An instruction with two registers.
    pub(crate) fn registers(&mut self, code: u8, to: u8, from: u8) -> &mut Self {
        self.push(Instruction::new(code, to, from, 0, 0))
    }

    /// `to = *(from + offset)`.
    pub(crate) fn load(&mut self, width: Width, to: u8, from: u8, offset: i16) -> &mut Self {
        self.push(Instruction::new(
            code::LOAD + width.code(),
            to,
            from,
            offset,
            0,
        ))
    }

    /// `*(to + offset) = from`.
    pub(crate) fn store(&mut self, width: Width, to: u8, offset: i16, from: u8) -> &mut Self {
        self.push(Instruction::new(
            code::STORE + width.code(),
            to,
            from,
            offset,
            0,
        ))
    }

    /// `*(u64 *)(to + offset) += from`.
    pub(crate) fn atomic_add(&mut self, to: u8, offset: i16, from: u8) -> &mut Self {
        self.push(Instruction::new(code::ATOMIC_ADD, to, from, offset, 0))
    }

    /// Goes on at a place, by comparing a register with a value.
    pub(crate) fn go_if(&mut self, code: u8, register: u8, value: i32, place: Place) -> &mut Self {
        self.jumps.push((place, self.instructions.len()));
        self.push(Instruction::new(code, register, 0, 0, value))
    }

    /// Goes on at a place if one register is greater than another.
    pub(crate) fn go_if_greater(&mut self, register: u8, than: u8, place: Place) -> &mut Self {
        self.jumps.push((place, self.instructions.len()));
        self.push(Instruction::new(code::IF_GREATER, register, than, 0, 0))
    }

    /// Goes on at a place.
    pub(crate) fn go(&mut self, place: Place) -> &mut Self {
        self.go_if(code::GO, 0, 0, place)
    }

    /// The next instruction is at this place.
    pub(crate) fn place(&mut self, place: Place) -> &mut Self {
        self.places.push((place, self.instructions.len()));
        self
    }

    /// `to =` a map.
    pub(crate) fn map(&mut self, to: u8, map: BorrowedFd<'_>) -> &mut Self {
        let map = map.as_raw_fd();
        self.push(Instruction::new(code::MAP, to, DESCRIPTOR, 0, map))
            .push(Instruction::new(0, 0, 0, 0, 0))
    }

    /// `to =` the address of the first value of an array.
    pub(crate) fn first_value(&mut self, to: u8, map: BorrowedFd<'_>) -> &mut Self {
        let map = map.as_raw_fd();
        self.push(Instruction::new(code::MAP, to, VALUE, 0, map))
            .push(Instruction::new(0, 0, 0, 0, 0))
    }

    /// Calls a helper.
    pub(crate) fn call(&mut self, helper: i32) -> &mut Self {
        self.value(code::CALL, 0, helper)
    }

    /// Ends with what is in register 0.
    pub(crate) fn exit(&mut self) -> &mut Self {
        self.registers(code::EXIT, 0, 0)
    }

    /// The sequence, with its jumps led to their places.
    ///
    /// # Errors
    /// When there is no such place, or it is too far away.
    pub(crate) fn finish(mut self) -> Result<Vec<Instruction>, ProgramsError> {
        for (place, at) in self.jumps {
            let offset = self
                .places
                .iter()
                .find(|(other, _)| *other == place)
                .and_then(|(_, target)| target.checked_sub(at + 1))
                .and_then(|offset| i16::try_from(offset).ok());
            match (offset, self.instructions.get_mut(at)) {
                (Some(offset), Some(jump)) => jump.offset = offset,
                _ => {
                    let missing =
                        io::Error::other(format!("nothing behind it is called {place:?}"));
                    return Err(failed("lead a jump to its place")(missing));
                }
            }
        }
        Ok(self.instructions)
    }

    fn push(&mut self, instruction: Instruction) -> &mut Self {
        self.instructions.push(instruction);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_lead_to_their_places() {
        let mut assembly = Assembly::default();
        assembly
            .go_if(code::IF, 1, 7, ("end", 0))
            .value(code::SET, 0, 1)
            .place(("end", 0))
            .exit();
        let found = assembly.finish().expect("there is such a place");
        assert_eq!(found[0].encode().to_ne_bytes(), [0x15, 1, 1, 0, 7, 0, 0, 0]);
        assert_eq!(found[2].encode().to_ne_bytes()[0], code::EXIT);
    }

    #[test]
    fn a_jump_to_nowhere_is_refused() {
        let mut assembly = Assembly::default();
        assembly.go(("nowhere", 0));
        assert!(assembly.finish().is_err());
    }
}
