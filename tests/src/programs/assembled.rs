//! Small TC programs that are written here, instruction by instruction: for what the programs of
//! failover do not tell, and to measure with.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::programs::SchedClassifier;

use super::ProgramsError;
use crate::error::LabError;
use crate::sys::bpf;

/// An instruction (`struct bpf_insn`, include/uapi/linux/bpf.h; the codes are those of RFC 9669).
#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    value: i32,
}

impl Instruction {
    const fn new(code: u8, to: u8, from: u8, offset: i16, value: i32) -> Self {
        Self {
            code,
            to,
            from,
            offset,
            value,
        }
    }

    fn encode(self) -> u64 {
        let [offset_low, offset_high] = self.offset.to_ne_bytes();
        let [a, b, c, d] = self.value.to_ne_bytes();
        let registers = self.from << 4 | self.to;
        u64::from_ne_bytes([self.code, registers, offset_low, offset_high, a, b, c, d])
    }
}

/// Opcodes, by what they do to their registers.
mod code {
    /// `to = value`.
    pub(super) const SET: u8 = 0xb7;
    /// `to = from`.
    pub(super) const MOVE: u8 = 0xbf;
    /// `to += value`.
    pub(super) const ADD_VALUE: u8 = 0x07;
    /// `to -= from`.
    pub(super) const SUBTRACT: u8 = 0x1f;
    /// `to |= from`.
    pub(super) const OR: u8 = 0x4f;
    /// `to = *(u32 *)(from + offset)`.
    pub(super) const LOAD: u8 = 0x61;
    /// `*(u32 *)(to + offset) = from`.
    pub(super) const STORE: u8 = 0x63;
    /// Go on `offset` instructions later if `to > from`.
    pub(super) const IF_GREATER: u8 = 0x2d;
    /// `to =` a map, by its descriptor in `value`; takes two instructions.
    pub(super) const MAP: u8 = 0x18;
    pub(super) const CALL: u8 = 0x85;
    pub(super) const EXIT: u8 = 0x95;
}

/// That the 64 bits of a [`code::MAP`] are a descriptor (`BPF_PSEUDO_MAP_FD`).
const DESCRIPTOR: u8 = 1;
/// The helper `bpf_tail_call`.
const TAIL_CALL: i32 = 12;
/// `TC_ACT_UNSPEC`.
const PASS_ON: i32 = -1;

/// Offsets in `struct __sk_buff`.
const MARK: i16 = 8;
const DATA: i16 = 76;
const DATA_END: i16 = 80;

/// A small TC program. It is gone with this.
#[derive(Debug)]
pub struct Assembled {
    program: SchedClassifier,
    /// Held for the program: the array of what it calls.
    _calls: Option<OwnedFd>,
}

impl Assembled {
    /// Does nothing at all. `bpffs` is a folder on a BPF file system.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn nothing(bpffs: &Path) -> Result<Self, ProgramsError> {
        Self::new(bpffs, &[], None)
    }

    /// Adds to the packet's mark, by "or", how many bytes of the packet are in its linear part.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn marking_linear_bytes(bpffs: &Path) -> Result<Self, ProgramsError> {
        let instructions = [
            Instruction::new(code::LOAD, 2, 1, DATA, 0),
            Instruction::new(code::LOAD, 3, 1, DATA_END, 0),
            Instruction::new(code::SUBTRACT, 3, 2, 0, 0),
            Instruction::new(code::LOAD, 4, 1, MARK, 0),
            Instruction::new(code::OR, 4, 3, 0, 0),
            Instruction::new(code::STORE, 1, 4, MARK, 0),
        ];
        Self::new(bpffs, &instructions, None)
    }

    /// Adds one to the 32-bit word of the packet that begins at an offset, so that each run with the
    /// same packet is one with another packet, and goes on with another program.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn counting_up(
        bpffs: &Path,
        offset: i16,
        next: BorrowedFd<'_>,
    ) -> Result<Self, ProgramsError> {
        let calls = bpf::program_array().map_err(failed("make an array of programs"))?;
        bpf::put_program(calls.as_fd(), next).map_err(failed("fill an array of programs"))?;
        let end = i32::from(offset) + 4;
        let instructions = [
            Instruction::new(code::MOVE, 6, 1, 0, 0),
            Instruction::new(code::LOAD, 2, 1, DATA, 0),
            Instruction::new(code::LOAD, 3, 1, DATA_END, 0),
            Instruction::new(code::MOVE, 4, 2, 0, 0),
            Instruction::new(code::ADD_VALUE, 4, 0, 0, end),
            Instruction::new(code::IF_GREATER, 4, 3, 3, 0),
            Instruction::new(code::LOAD, 5, 2, offset, 0),
            Instruction::new(code::ADD_VALUE, 5, 0, 0, 1),
            Instruction::new(code::STORE, 2, 5, offset, 0),
            Instruction::new(code::MOVE, 1, 6, 0, 0),
            Instruction::new(code::MAP, 2, DESCRIPTOR, 0, calls.as_raw_fd()),
            Instruction::new(0, 0, 0, 0, 0),
            Instruction::new(code::SET, 3, 0, 0, 0),
            Instruction::new(code::CALL, 0, 0, 0, TAIL_CALL),
        ];
        Self::new(bpffs, &instructions, Some(calls))
    }

    /// Loads instructions, and behind them those that pass the packet on.
    fn new(
        bpffs: &Path,
        instructions: &[Instruction],
        calls: Option<OwnedFd>,
    ) -> Result<Self, ProgramsError> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let pass_on = [
            Instruction::new(code::SET, 0, 0, 0, PASS_ON),
            Instruction::new(code::EXIT, 0, 0, 0, 0),
        ];
        let encoded: Vec<u64> = instructions
            .iter()
            .chain(&pass_on)
            .map(|instruction| instruction.encode())
            .collect();
        let loaded = bpf::load_classifier(&encoded).map_err(failed("load a small program"))?;
        // aya takes programs by their names only.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = bpffs.join(format!("assembled{number}"));
        bpf::pin(loaded.as_fd(), &path).map_err(failed("pin a small program"))?;
        let program = SchedClassifier::from_pin(&path);
        fs::remove_file(&path).map_err(failed("unpin a small program"))?;
        Ok(Self {
            program: program.map_err(|source| ProgramsError::Program {
                name: "that was assembled".to_owned(),
                source,
            })?,
            _calls: calls,
        })
    }

    /// The program as aya knows it.
    #[must_use]
    pub const fn program(&self) -> &SchedClassifier {
        &self.program
    }

    /// The program as aya knows it, to be attached.
    pub const fn program_mut(&mut self) -> &mut SchedClassifier {
        &mut self.program
    }
}

fn failed(what: &str) -> impl FnOnce(io::Error) -> ProgramsError {
    let what = what.to_owned();
    |source| ProgramsError::Lab(LabError::Io { what, source })
}
