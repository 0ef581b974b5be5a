//! Loads the object into the kernel and attaches its programs to interfaces.

use aya::maps::{MapError, PerCpuArray};
use aya::programs::tc::{self, NlOptions, TcAttachOptions, TcError};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfError, EbpfLoader};
use failover_common::{Counters, Direction};
use nix::errno::Errno;
use thiserror::Error;
use tracing::info;

use crate::interface::InterfaceName;

/// How a program hangs on an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// TCX, Linux 6.6 or newer: a link of its own beside those of others.
    Tcx,
    /// A filter of the `clsact` queueing discipline, any older kernel.
    Clsact,
}

/// Why the object could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// The object is unreadable, or the kernel refuses its maps.
    #[error(
        "loading the eBPF object: {0}; Linux 6.1 or newer with BPF and BTF is needed, and root"
    )]
    Object(#[from] EbpfError),
    /// The object is of another build.
    #[error("the eBPF object has no TC program `{name}`: rebuild it with `cargo xtask build-ebpf`")]
    NoProgram {
        /// The program that was looked for.
        name: &'static str,
    },
    /// The verifier refused a program.
    #[error("loading the eBPF program `{name}`: {source}")]
    Program {
        /// The program.
        name: &'static str,
        /// What the kernel said.
        source: ProgramError,
    },
}

/// Why a program could not be attached.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The program was not there after it had been loaded.
    #[error("attaching to {interface}: the eBPF object has no TC program `{name}`")]
    NoProgram {
        /// The interface.
        interface: InterfaceName,
        /// The program that was looked for.
        name: &'static str,
    },
    /// The queueing discipline that classic filters hang on could not be made.
    #[error(
        "adding the clsact qdisc to {interface}: {source}; `tc qdisc show dev {interface}` tells what stands there"
    )]
    Qdisc {
        /// The interface.
        interface: InterfaceName,
        /// What the kernel said.
        source: TcError,
    },
    /// The kernel refused.
    #[error("attaching the eBPF program `{name}` to {interface} by {hook:?}: {source}")]
    Attach {
        /// The interface.
        interface: InterfaceName,
        /// The program.
        name: &'static str,
        /// How it was to hang there.
        hook: Hook,
        /// What the kernel said.
        source: ProgramError,
    },
}

/// Why counters could not be read.
#[derive(Debug, Error)]
pub enum CountersError {
    /// The object is of another build.
    #[error("the eBPF object has no map `COUNTERS`: rebuild it with `cargo xtask build-ebpf`")]
    NoMap,
    /// The kernel refused, or the map has another layout.
    #[error("reading the eBPF map `COUNTERS`: {0}")]
    Map(#[from] MapError),
}

/// The programs in the kernel. They are detached and unloaded when this is dropped, which must
/// happen in the network namespace in which they were attached: a `clsact` filter is found again by
/// the number of its interface there.
#[derive(Debug)]
pub struct Programs {
    ebpf: Ebpf,
}

impl Programs {
    /// Loads all programs of an object: [`super::object::EMBEDDED`], or a fresh one under test.
    ///
    /// # Errors
    /// When the object is unreadable or incomplete, or the kernel refuses it.
    pub fn load(object: &[u8]) -> Result<Self, LoadError> {
        let logging_off = 0_u8;
        let mut ebpf = EbpfLoader::new()
            .override_global(aya_log::LEVEL, &logging_off, true)
            .load(object)?;
        for direction in Direction::ALL {
            let name = program_name(direction);
            classifier(&mut ebpf, name)
                .ok_or(LoadError::NoProgram { name })?
                .load()
                .map_err(|source| LoadError::Program { name, source })?;
        }
        Ok(Self { ebpf })
    }

    /// Attaches the program of one direction to an interface of the calling thread's network
    /// namespace, after those that are there. Says by which hook.
    ///
    /// # Errors
    /// When the interface does not exist or the kernel refuses.
    pub fn attach(
        &mut self,
        interface: &InterfaceName,
        direction: Direction,
    ) -> Result<Hook, AttachError> {
        match self.attach_by(Hook::Tcx, interface, direction) {
            Ok(()) => Ok(Hook::Tcx),
            Err(error) if lacks_tcx(&error) => {
                info!(%interface, "this kernel has no TCX: attaching by clsact");
                self.attach_by(Hook::Clsact, interface, direction)?;
                Ok(Hook::Clsact)
            }
            Err(error) => Err(error),
        }
    }

    /// The same by a given hook. A `clsact` discipline that is made on the way stays when the
    /// program goes: others may have put filters there by then.
    ///
    /// # Errors
    /// When the interface does not exist or the kernel refuses.
    pub fn attach_by(
        &mut self,
        hook: Hook,
        interface: &InterfaceName,
        direction: Direction,
    ) -> Result<(), AttachError> {
        let name = program_name(direction);
        let options = match hook {
            Hook::Tcx => TcAttachOptions::TcxOrder(LinkOrder::default()),
            Hook::Clsact => {
                add_clsact(interface)?;
                TcAttachOptions::Netlink(NlOptions::default())
            }
        };
        let side = match direction {
            Direction::Ingress => TcAttachType::Ingress,
            Direction::Egress => TcAttachType::Egress,
        };
        classifier(&mut self.ebpf, name)
            .ok_or_else(|| AttachError::NoProgram {
                interface: interface.clone(),
                name,
            })?
            .attach_with_options(interface.as_str(), side, options)
            .map_err(|source| AttachError::Attach {
                interface: interface.clone(),
                name,
                hook,
                source,
            })?;
        Ok(())
    }

    /// What the programs have seen since they were loaded, summed over all processors.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self, direction: Direction) -> Result<Counters, CountersError> {
        let map = self.ebpf.map("COUNTERS").ok_or(CountersError::NoMap)?;
        let per_cpu = PerCpuArray::<_, Counters>::try_from(map)?.get(&direction.index(), 0)?;
        Ok(per_cpu
            .iter()
            .fold(Counters::default(), |sum, cpu| Counters {
                packets: sum.packets.wrapping_add(cpu.packets),
                bytes: sum.bytes.wrapping_add(cpu.bytes),
            }))
    }
}

/// The name of a direction's program in the object.
const fn program_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Ingress => "failover_in",
        Direction::Egress => "failover_out",
    }
}

fn classifier<'a>(ebpf: &'a mut Ebpf, name: &str) -> Option<&'a mut SchedClassifier> {
    ebpf.program_mut(name)?.try_into().ok()
}

/// Kernels before 6.6 do not know the kind of attachment and answer `EINVAL` (`link_create` in
/// kernel/bpf/syscall.c).
fn lacks_tcx(error: &AttachError) -> bool {
    matches!(
        error,
        AttachError::Attach { source: ProgramError::SyscallError(syscall), .. }
            if syscall.io_error.raw_os_error() == Some(Errno::EINVAL as i32)
    )
}

/// Adds the `clsact` discipline unless it is there: the kernel answers `EEXIST` then ("Exclusivity
/// flag on").
fn add_clsact(interface: &InterfaceName) -> Result<(), AttachError> {
    tc::qdisc_add_clsact(interface.as_str()).or_else(|source| {
        let there = matches!(&source, TcError::NetlinkError(error)
            if error.raw_os_error() == Some(Errno::EEXIST as i32));
        if there {
            Ok(())
        } else {
            Err(AttachError::Qdisc {
                interface: interface.clone(),
                source,
            })
        }
    })
}
