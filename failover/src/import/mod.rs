//! What other programs' configurations say, said in ours.
//!
//! Text in, text out: nothing is touched. What has no equivalent is never dropped in silence, but
//! becomes a [`Remark`] with its line.

mod fault_tolerant_router;
mod haip;
mod mwan3;
mod network;
mod shell;
mod uci;

use std::fmt;

use thiserror::Error;

use crate::config::{ConfigError, Place};
use crate::draft::{self, Entry};

/// A program whose configuration can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Program {
    /// `fault_tolerant_router`, a file of YAML, by default `/etc/fault_tolerant_router.conf`.
    #[value(name = "fault-tolerant-router", alias = "fault_tolerant_router")]
    FaultTolerantRouter,
    /// `OpenWrt`'s mwan3, a file of UCI, by default `/etc/config/mwan3`.
    Mwan3,
    /// ib.haip: a file with its command line, such as a unit, a script or `/etc/default/haip`.
    Haip,
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FaultTolerantRouter => "fault-tolerant-router",
            Self::Mwan3 => "mwan3",
            Self::Haip => "haip",
        })
    }
}

/// A configuration, and what could not be said in it.
#[derive(Debug)]
pub struct Imported {
    /// The text; `failover check` accepts it.
    pub configuration: String,
    /// What has no equivalent, in the order of the lines.
    pub remarks: Vec<Remark>,
}

/// Something that is not, or not wholly, in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// Its line; none for what concerns the file as a whole.
    pub line: Option<u64>,
    /// What it was, and what is to be done instead.
    pub text: String,
}

/// Why a file cannot be imported.
#[derive(Debug, Error)]
pub enum ImportError {
    /// It is no file of that program.
    #[error("{place}: this is no configuration of {program}: {why}{}", hint(*looks_like))]
    NotThat {
        /// What it was to be.
        program: Program,
        /// Where that is seen.
        place: Place,
        /// By what that is seen.
        why: String,
        /// What it might be.
        looks_like: Option<Program>,
    },
    /// It is, but a value in it makes no sense.
    #[error("{place}: {why}")]
    Value {
        /// Where it is.
        place: Place,
        /// What is wrong with it.
        why: String,
    },
    /// What it says makes no configuration.
    #[error("what it says makes no configuration of failover:\n{0}")]
    Draft(ConfigError),
}

fn hint(looks_like: Option<Program>) -> String {
    looks_like.map_or_else(String::new, |program| {
        format!("; it looks like one of {program}: --from {program}")
    })
}

/// Says in our words what a file of another program says. `network` is `OpenWrt`'s
/// `/etc/config/network`, which knows the devices of mwan3's interfaces.
///
/// # Errors
/// When the text is no such file, or what it says makes no configuration.
pub fn import(
    program: Program,
    text: &str,
    network: Option<&str>,
) -> Result<Imported, ImportError> {
    let read = match program {
        Program::FaultTolerantRouter => fault_tolerant_router::read(text),
        Program::Mwan3 => mwan3::read(text, network),
        Program::Haip => haip::read(text),
    };
    let Draft {
        about,
        entries,
        mut remarks,
    } = read.map_err(|error| error.or_looks_like(program, text))?;
    remarks.sort();
    let (configuration, _) = draft::written(&about, &entries).map_err(ImportError::Draft)?;
    Ok(Imported {
        configuration,
        remarks,
    })
}

impl ImportError {
    fn not(program: Program, line: u64, why: impl Into<String>) -> Self {
        Self::NotThat {
            program,
            place: Place { line, column: 1 },
            why: why.into(),
            looks_like: None,
        }
    }

    fn value(place: Place, why: impl Into<String>) -> Self {
        Self::Value {
            place,
            why: why.into(),
        }
    }

    fn or_looks_like(self, program: Program, text: &str) -> Self {
        match self {
            Self::NotThat {
                program,
                place,
                why,
                ..
            } => Self::NotThat {
                program,
                place,
                why,
                looks_like: guess(text).filter(|guess| *guess != program),
            },
            Self::Value { .. } if guess(text).is_some_and(|guess| guess != program) => {
                Self::not(program, 1, "it is written otherwise").or_looks_like(program, text)
            }
            other => other,
        }
    }
}

/// What a text looks like from afar.
fn guess(text: &str) -> Option<Program> {
    let mut lines = text.lines().map(str::trim_start);
    if lines.any(|line| line.starts_with("config interface") || line.starts_with("config policy")) {
        Some(Program::Mwan3)
    } else if text.contains("haip") && text.contains("--route") {
        Some(Program::Haip)
    } else if text.contains("uplinks:") && text.contains("required_successful") {
        Some(Program::FaultTolerantRouter)
    } else {
        None
    }
}

/// What a reader makes of a file.
#[derive(Debug, Default)]
struct Draft {
    about: Vec<String>,
    entries: Vec<Entry>,
    remarks: Vec<Remark>,
}

impl Draft {
    fn remark(&mut self, line: impl Into<Option<u64>>, text: impl Into<String>) {
        self.remarks.push(Remark {
            line: line.into(),
            text: text.into(),
        });
    }
}

#[cfg(test)]
mod tests;
