//! Loads the programs and their maps.

use aya::maps::Map;
use aya::programs::{ProgramError, SchedClassifier};
use aya::{Ebpf, EbpfError, EbpfLoader};
use failover_common::{globals, maps};
use thiserror::Error;

use super::pins::{PinError, Pins};
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
}

/// Why the programs could not be loaded.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A pinned map is in the way.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// The object is unreadable, or the kernel refuses its maps.
    #[error("cannot load the eBPF object: {0}")]
    Object(#[from] EbpfError),
    /// The object is of another build.
    #[error("the eBPF object has no {name}: rebuild it with `cargo xtask build-ebpf`")]
    Missing {
        /// What was looked for.
        name: String,
    },
    /// The verifier refused a program.
    #[error("the kernel refuses the eBPF program {name}: {}", first_line(.source))]
    Program {
        /// The program.
        name: String,
        /// What the kernel said.
        source: Box<ProgramError>,
    },
}

/// The verifier's log is hundreds of lines; its end says what is wrong.
fn first_line(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => {
            let log = verifier_log.to_string();
            let said = log
                .lines()
                .rev()
                .find(|line| {
                    !line.is_empty()
                        && !["processed", "verification time", "stack depth"]
                            .iter()
                            .any(|noise| line.starts_with(noise))
                })
                .unwrap_or_default();
            format!("{io_error}, {said}")
        }
        other => other.to_string(),
    }
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
        let mut loader = EbpfLoader::new();
        loader
            .override_global(globals::MARK_MASK, &bits, true)
            .override_global(globals::MARK_SHIFT, &shift, true)
            .override_global(globals::MARK_ASK, &ask, true)
            .override_global(aya_log::LEVEL, &level, true)
            .map_max_entries(maps::FLOWS, settings.flow_capacity);
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
            program.load().map_err(|source| LoadError::Program {
                name: name.to_owned(),
                source: Box::new(source),
            })?;
        }
        Ok(program)
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
