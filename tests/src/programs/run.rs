//! One packet through one program.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use aya::programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions};

use super::assembled::failed;
use super::{Loaded, ProgramsError};
use crate::sys::bpf;

/// What the kernel tells a program about a packet beside its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The packet mark.
    pub mark: u32,
    /// The interface that it is at; 0 for none.
    pub ifindex: u32,
    /// The interface that it came in by; 0 for the host's own.
    pub ingress_ifindex: u32,
    /// How many segments an offloaded packet stands for.
    pub gso_segs: u32,
    /// How much data each of them carries, in bytes; 0 for other packets.
    pub gso_size: u32,
}

/// Where the fields stand in `struct __sk_buff` (include/uapi/linux/bpf.h), and its length.
mod offset {
    pub(super) const MARK: usize = 8;
    pub(super) const INGRESS_IFINDEX: usize = 36;
    pub(super) const IFINDEX: usize = 40;
    pub(super) const GSO_SEGS: usize = 164;
    pub(super) const GSO_SIZE: usize = 176;
    pub(super) const LENGTH: usize = 192;
}

/// What a program did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// What it returned.
    pub returned: i32,
    /// The mark afterwards.
    pub mark: u32,
    /// The packet afterwards.
    pub frame: Vec<u8>,
    /// What a run took in the mean.
    pub took: Duration,
}

impl Loaded {
    /// Gives a packet with its Ethernet header to a program, so many times.
    ///
    /// # Errors
    /// When there is no such program or the kernel refuses the packet.
    pub fn run(
        &self,
        name: &str,
        frame: &[u8],
        context: Context,
        repeat: u32,
    ) -> Result<Run, ProgramsError> {
        run(&*self.program(name)?, frame, context, repeat).map_err(|source| {
            ProgramsError::Program {
                name: name.to_owned(),
                source,
            }
        })
    }

    /// Gives a packet with its Ethernet header to a program, as one that hardware has summed up. Returns
    /// what it returned and the packet afterwards; `None` where the kernel knows no such packets: all do
    /// from 6.11 on, and some before.
    ///
    /// # Errors
    /// When there is no such program, or the sum is not that of the packet afterwards.
    pub fn run_summed(
        &self,
        name: &str,
        frame: &[u8],
        context: Context,
    ) -> Result<Option<(i32, Vec<u8>)>, ProgramsError> {
        let program = self.program(name)?;
        let descriptor = program.fd().map_err(|source| ProgramsError::Program {
            name: name.to_owned(),
            source,
        })?;
        match bpf::run_summed(descriptor.as_fd(), frame, &context.bytes()) {
            Ok((returned, frame)) => Ok(Some((returned.cast_signed(), frame))),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(None),
            Err(error) => Err(failed(&format!("give a summed packet to {name}"))(error)),
        }
    }
}

impl Context {
    /// As the kernel takes it.
    fn bytes(self) -> [u8; offset::LENGTH] {
        let mut bytes = [0; offset::LENGTH];
        for (at, value) in [
            (offset::MARK, self.mark),
            (offset::IFINDEX, self.ifindex),
            (offset::INGRESS_IFINDEX, self.ingress_ifindex),
            (offset::GSO_SEGS, self.gso_segs),
            (offset::GSO_SIZE, self.gso_size),
        ] {
            if let Some(field) = bytes.get_mut(at..at + 4) {
                field.copy_from_slice(&value.to_ne_bytes());
            }
        }
        bytes
    }
}

/// Gives a packet with its Ethernet header to any TC program, so many times.
///
/// # Errors
/// When the kernel refuses the packet.
pub fn run(
    program: &SchedClassifier,
    frame: &[u8],
    context: Context,
    repeat: u32,
) -> Result<Run, ProgramError> {
    let context_in = context.bytes();
    let mut context_out = [0_u8; offset::LENGTH];
    let mut frame_out = vec![0; frame.len()];
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        data_out: Some(&mut frame_out),
        ctx_in: Some(&context_in),
        ctx_out: Some(&mut context_out),
        repeat,
        ..TestRunOptions::new()
    })?;
    let mark = context_out
        .get(offset::MARK..offset::MARK + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_ne_bytes);
    Ok(Run {
        returned: result.return_value.cast_signed(),
        mark,
        frame: frame_out,
        took: result.duration,
    })
}
