//! Loads the programs and their maps.

use std::io;

use aya::maps::{Map, MapError};
use aya::pin::PinError as NotPinned;
use aya::programs::{Program, ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfError, EbpfLoader};
use failover_common::flow::Offering;
use failover_common::{globals, maps};
use nix::errno::Errno;
use thiserror::Error;

use super::pins::{PinError, Pins};
use crate::causes::in_one_line;
use crate::mark::MarkMask;

/// What is fixed when the programs are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Our bits of marks.
    pub marks: MarkMask,
    /// Entries of the flow table.
    pub flow_capacity: u32,
    /// Whether the programs log each new flow.
    pub log_flows: bool,
    /// When flows are offered for the fast path.
    pub offering: Offering,
}

/// Why the programs could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A pinned map is in the way.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// The kernel makes no such map.
    #[error("cannot make the eBPF map {name}: {source}{}", advice(.source))]
    Map {
        /// The map.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The kernel does not pin a map.
    #[error("cannot pin the eBPF map {name}: {source}")]
    Pin {
        /// The map.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The object is unreadable, or does not fit the kernel in another way.
    #[error("cannot load the eBPF object: {0}")]
    Object(#[source] EbpfError),
    /// The object is of another build.
    #[error("the eBPF object has no {name}: rebuild it with `cargo xtask build-ebpf`")]
    Missing {
        /// What was looked for.
        name: String,
    },
    /// The verifier refused a program.
    #[error("the kernel refuses the eBPF program {name}: {}", last_line(.error))]
    Program {
        /// The program.
        name: String,
        /// What the kernel said; no source, since it holds the verifier's whole log.
        error: Box<ProgramError>,
    },
}

impl From<EbpfError> for LoadError {
    fn from(error: EbpfError) -> Self {
        match error {
            EbpfError::MapError(MapError::CreateError { name, io_error }) => Self::Map {
                name,
                source: io_error,
            },
            EbpfError::MapError(MapError::PinError {
                name: Some(name),
                error: NotPinned::SyscallError(error),
            }) => Self::Pin {
                name,
                source: error.io_error,
            },
            other => Self::Object(other),
        }
    }
}

fn advice(error: &io::Error) -> &'static str {
    if error.raw_os_error() == Some(Errno::ENOMEM as i32) {
        "; a smaller `flows.capacity` needs less memory"
    } else {
        ""
    }
}

/// The verifier's log is hundreds of lines; its end says what is wrong.
fn last_line(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            match verdict(&log) {
                Some(said) => format!("{io_error}, {said}"),
                None => io_error.to_string(),
            }
        }
        other => in_one_line(other),
    }
}

/// The last line that is no statistics.
fn verdict(log: &str) -> Option<&str> {
    const STATISTICS: [&str; 3] = ["processed", "verification time", "stack depth"];
    log.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !STATISTICS.iter().any(|noise| line.starts_with(noise)))
}

/// The programs and maps in the kernel.
#[derive(Debug)]
pub struct Programs {
    pub(super) ebpf: Ebpf,
}

impl Programs {
    /// Makes the maps of an object: [`super::object::EMBEDDED`], or a fresh one under test. Those that
    /// are pinned and fit are used again; the others are pinned. A program is loaded when it is first
    /// asked for: the kernel's verifier takes its time, and few gateways need all of them.
    ///
    /// # Errors
    /// When the object is unreadable, or the kernel refuses its maps.
    pub fn load(object: &[u8], settings: Settings, pins: &Pins) -> Result<Self, LoadError> {
        pins.make()?;
        pins.drop_unusable(settings.flow_capacity)?;
        let bits = settings.marks.bits();
        let shift = bits.trailing_zeros();
        let ask = settings.marks.probe_bit();
        let level = if settings.log_flows {
            aya_log::Level::Debug as u8
        } else {
            0
        };
        let places = maps::place_count(maps::offload_capacity(settings.flow_capacity));
        let place_mask = places - 1;
        let unanswered = maps::unanswered_capacity(settings.flow_capacity);
        let mut loader = EbpfLoader::new();
        loader
            .override_global(globals::MARK_MASK, &bits, true)
            .override_global(globals::MARK_SHIFT, &shift, true)
            .override_global(globals::MARK_ASK, &ask, true)
            .override_global(aya_log::LEVEL, &level, true)
            .map_max_entries(maps::FLOWS, settings.flow_capacity)
            .override_global(globals::UNANSWERED, &unanswered, true)
            .override_global(globals::PLACE_MASK, &place_mask, true)
            .override_global(globals::FIRST_OFFER, &settings.offering.first, true)
            .override_global(globals::NEXT_OFFER, &settings.offering.next, true)
            .override_global(globals::OFFER_AGAIN_NS, &settings.offering.again_ns, true)
            .map_max_entries(maps::OFFLOAD, places)
            .map_max_entries(
                maps::REMEMBERED,
                maps::remembered_capacity(settings.flow_capacity),
            );
        for name in maps::ALL {
            loader.map_pin_path(name, pins.map(name));
        }
        Ok(Self {
            ebpf: loader.load(object)?,
        })
    }

    /// A program, loaded.
    ///
    /// # Errors
    /// When the object has none of that name, or the verifier refuses it.
    pub fn program(&mut self, name: &str) -> Result<&mut SchedClassifier, LoadError> {
        let program = classifier(&mut self.ebpf, name)?;
        if program.fd().is_err() {
            program.load().map_err(|error| LoadError::Program {
                name: name.to_owned(),
                error: Box::new(error),
            })?;
        }
        Ok(program)
    }

    /// The kernel's numbers of those that are loaded.
    pub(super) fn numbers(&self) -> Vec<u32> {
        let programs = self.ebpf.programs();
        programs
            .filter_map(|(_, program)| match program {
                Program::SchedClassifier(program) => Some(program.info().ok()?.id()),
                _ => None,
            })
            .collect()
    }

    /// A map.
    ///
    /// # Errors
    /// When the object has none of that name.
    pub fn map(&self, name: &str) -> Result<&Map, LoadError> {
        self.ebpf.map(name).ok_or_else(|| LoadError::Missing {
            name: format!("map {name}"),
        })
    }

    pub(super) fn map_mut(&mut self, name: &str) -> Result<&mut Map, LoadError> {
        self.ebpf.map_mut(name).ok_or_else(|| LoadError::Missing {
            name: format!("map {name}"),
        })
    }
}

fn classifier<'e>(ebpf: &'e mut Ebpf, name: &str) -> Result<&'e mut SchedClassifier, LoadError> {
    ebpf.program_mut(name)
        .and_then(|program| program.try_into().ok())
        .ok_or_else(|| LoadError::Missing {
            name: format!("TC program {name}"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verdict_of_the_verifier_is_before_its_statistics() {
        let log = "\
func#0 @0
0: (61) r0 = *(u32 *)(r1 +260)
invalid bpf_context access off=260 size=4
verification time 52 usec
stack depth 0
processed 1 insns (limit 1000000) max_states_per_insn 0 total_states 0

";
        assert_eq!(
            verdict(log),
            Some("invalid bpf_context access off=260 size=4")
        );
        assert_eq!(verdict("processed 0 insns\n"), None);
    }
}
