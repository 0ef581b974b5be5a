//! System calls that are refused to a program of a node, as by an older kernel or a security module.
#![expect(
    unsafe_code,
    reason = "pre_exec and seccomp filters have no safe form in the standard library and nix"
)]

use std::io;

use nix::errno::Errno;
use nix::libc;
use tokio::process::Command;

/// The command of bpf(2) that makes links (`enum bpf_cmd`, include/uapi/linux/bpf.h).
const BPF_LINK_CREATE: u32 = 28;
/// Where the number of the call and the lower half of its first argument stand in
/// `struct seccomp_data` (include/uapi/linux/seccomp.h), on machines with little-endian order.
const CALL: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

/// A system call that is refused to a program and to all that it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Which command of bpf(2); all where it does not say.
    command: Option<u32>,
    error: Errno,
}

impl Refusal {
    /// bpf(2), with this error.
    #[must_use]
    pub const fn bpf(error: Errno) -> Self {
        Self {
            command: None,
            error,
        }
    }

    /// What makes a kernel before 6.6 of any other one, as far as traffic control goes: programs
    /// cannot be attached by TCX, which it has never heard of.
    #[must_use]
    pub const fn tcx() -> Self {
        Self {
            command: Some(BPF_LINK_CREATE),
            error: Errno::EINVAL,
        }
    }

    /// The filter in the classic BPF of seccomp(2).
    fn filter(self) -> Result<Vec<libc::sock_filter>, std::num::TryFromIntError> {
        let statement = |code: u32, k: u32| -> Result<_, std::num::TryFromIntError> {
            Ok(libc::sock_filter {
                code: u16::try_from(code)?,
                jt: 0,
                jf: 0,
                k,
            })
        };
        let load = |place| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, place);
        let unless = |value, skip| {
            let jump = statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, value)?;
            Ok::<_, std::num::TryFromIntError>(libc::sock_filter { jf: skip, ..jump })
        };
        let answer = |what| statement(libc::BPF_RET | libc::BPF_K, what);
        let number = (self.error as i32).cast_unsigned() & libc::SECCOMP_RET_DATA;
        let refused = answer(libc::SECCOMP_RET_ERRNO | number)?;
        let allowed = answer(libc::SECCOMP_RET_ALLOW)?;
        let bpf = u32::try_from(libc::SYS_bpf)?;
        Ok(match self.command {
            None => vec![load(CALL)?, unless(bpf, 1)?, refused, allowed],
            Some(command) => vec![
                load(CALL)?,
                unless(bpf, 3)?,
                load(FIRST_ARGUMENT)?,
                unless(command, 1)?,
                refused,
                allowed,
            ],
        })
    }

    /// Refuses it to a program that is about to be started.
    pub(super) fn apply(self, command: &mut Command) {
        let filter = self.filter();
        // SAFETY: the hazard is a call between fork and exec that takes a lock which another thread
        // held at the fork (memory allocation, for one). The closure makes one system call and
        // builds an error from a number; the filter was made before the fork.
        unsafe {
            command.pre_exec(move || match &filter {
                Ok(filter) => install(filter),
                Err(_) => Err(io::Error::from_raw_os_error(libc::EINVAL)),
            });
        }
    }
}

fn install(filter: &[libc::sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: libc::c_ushort::try_from(filter.len())
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
        filter: filter.as_ptr().cast_mut(),
    };
    // SAFETY: the hazard is reading past the filter. `len` is the number of its instructions, the
    // kernel copies so many and writes none, and both outlive the call.
    let result = unsafe {
        libc::prctl(
            libc::PR_SET_SECCOMP,
            libc::SECCOMP_MODE_FILTER,
            &raw const program,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
