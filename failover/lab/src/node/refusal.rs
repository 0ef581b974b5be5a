//! System calls that a program is refused, as a container's or a service manager's seccomp filter
//! refuses them.

use nix::errno::Errno;
use nix::libc;

use crate::sys::FilterStep;

/// A system call that is refused, and what the program is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    call: Call,
    errno: Errno,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Bpf(Option<BpfCommand>),
    Mount,
}

/// A command of bpf(2) (`enum bpf_cmd`, include/uapi/linux/bpf.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum BpfCommand {
    /// Makes a map.
    MapCreate = 0,
    /// Loads a program, for which it is verified.
    ProgLoad = 5,
    /// Pins a map, program or link.
    ObjPin = 6,
    /// Gives the kernel type information.
    BtfLoad = 18,
    /// Attaches a program by TCX.
    LinkCreate = 28,
}

impl Refusal {
    /// The whole of bpf(2).
    #[must_use]
    pub const fn bpf(errno: Errno) -> Self {
        let call = Call::Bpf(None);
        Self { call, errno }
    }

    /// One command of bpf(2).
    #[must_use]
    pub const fn bpf_command(command: BpfCommand, errno: Errno) -> Self {
        let call = Call::Bpf(Some(command));
        Self { call, errno }
    }

    /// What makes a kernel before 6.6 of any other one, as far as traffic control goes: it has never
    /// heard of TCX.
    #[must_use]
    pub const fn tcx() -> Self {
        Self::bpf_command(BpfCommand::LinkCreate, Errno::EINVAL)
    }

    /// mount(2).
    #[must_use]
    pub const fn mount(errno: Errno) -> Self {
        let call = Call::Mount;
        Self { call, errno }
    }

    /// The steps that refuse it and otherwise go on behind them.
    fn steps(self) -> Vec<FilterStep> {
        let refuse = FilterStep::Refuse(self.errno as u16);
        match self.call {
            Call::Mount => vec![
                FilterStep::LoadCall,
                FilterStep::SkipUnless(number(libc::SYS_mount), 1),
                refuse,
            ],
            Call::Bpf(None) => vec![
                FilterStep::LoadCall,
                FilterStep::SkipUnless(number(libc::SYS_bpf), 1),
                refuse,
            ],
            Call::Bpf(Some(command)) => vec![
                FilterStep::LoadCall,
                FilterStep::SkipUnless(number(libc::SYS_bpf), 3),
                FilterStep::LoadFirstArgument,
                FilterStep::SkipUnless(command as u32, 1),
                refuse,
            ],
        }
    }
}

/// The filter that refuses all of these and nothing else.
pub(super) fn filter(refused: &[Refusal]) -> Vec<FilterStep> {
    let steps = refused.iter().flat_map(|refusal| refusal.steps());
    steps.chain([FilterStep::Allow]).collect()
}

fn number(call: libc::c_long) -> u32 {
    u32::try_from(call).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the filter answers a call; `None` where it allows it.
    fn answer(refused: &[Refusal], call: libc::c_long, argument: u32) -> Option<u16> {
        let steps = filter(refused);
        let (mut loaded, mut at) = (0, 0);
        loop {
            at += 1;
            match steps[at - 1] {
                FilterStep::LoadCall => loaded = number(call),
                FilterStep::LoadFirstArgument => loaded = argument,
                FilterStep::SkipUnless(wanted, count) if loaded != wanted => {
                    at += usize::from(count);
                }
                FilterStep::SkipUnless(..) => {}
                FilterStep::Refuse(errno) => return Some(errno),
                FilterStep::Allow => return None,
            }
        }
    }

    #[test]
    fn only_what_is_named_is_refused() {
        const EPERM: Option<u16> = Some(Errno::EPERM as u16);
        const ENOSYS: Option<u16> = Some(Errno::ENOSYS as u16);
        let all = [Refusal::bpf(Errno::ENOSYS)];
        assert_eq!(answer(&all, libc::SYS_bpf, 7), ENOSYS);
        assert_eq!(answer(&all, libc::SYS_mount, 7), None);
        let some = [
            Refusal::bpf_command(BpfCommand::LinkCreate, Errno::EPERM),
            Refusal::mount(Errno::ENOSYS),
        ];
        assert_eq!(answer(&some, libc::SYS_bpf, 28), EPERM);
        assert_eq!(answer(&some, libc::SYS_bpf, 29), None);
        assert_eq!(answer(&some, libc::SYS_mount, 28), ENOSYS);
        assert_eq!(answer(&some, libc::SYS_read, 28), None);
    }
}
