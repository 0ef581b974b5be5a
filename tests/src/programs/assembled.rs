//! Small TC programs that are written here, instruction by instruction: for what the programs of
//! failover do not tell, and to measure with.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use aya::programs::SchedClassifier;

use super::ProgramsError;
use super::instruction::{DESCRIPTOR, Instruction, code};
use crate::error::LabError;
use crate::sys::bpf;

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
    /// Held for the program: the maps that it uses.
    _maps: Vec<OwnedFd>,
}

impl Assembled {
    /// Does nothing at all. `bpffs` is a folder on a BPF file system.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn nothing(bpffs: &Path) -> Result<Self, ProgramsError> {
        Self::new(bpffs, &[], Vec::new())
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
        Self::new(bpffs, &instructions, Vec::new())
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
        Self::new(bpffs, &instructions, vec![calls])
    }

    /// Loads instructions, and behind them those that pass the packet on. The program uses these maps.
    pub(crate) fn new(
        bpffs: &Path,
        instructions: &[Instruction],
        maps: Vec<OwnedFd>,
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
        // aya takes programs by their names on a file system only.
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
            _maps: maps,
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

pub(crate) fn failed(what: &str) -> impl FnOnce(io::Error) -> ProgramsError {
    let what = what.to_owned();
    |source| ProgramsError::Lab(LabError::Io { what, source })
}
