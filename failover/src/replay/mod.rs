//! Traces: all that the judgement of one uplink was told, with its times, and what it said; and playing
//! them again, as it was or with other settings.
//!
//! [`Recorded`] is a [`Machine`](crate::health::Machine) that puts down what it is told while somebody
//! wants to know. [`Traces`] writes that into files of bounded size, in threads that nothing waits for.
//! [`TraceReader`] reads them, and [`Replay`] plays them in their own time, without a clock.

mod course;
mod files;
mod format;
mod player;
mod reader;
mod recorded;
mod report;
mod table;
mod writer;

#[cfg(test)]
mod properties;

pub use course::{Change, Course, Stamp};
pub use files::{FILE_SIZE, file_of};
pub use format::{Begin, Entry, Known, Line, Observation};
pub use player::{Difference, FamilyReplay, Gap, Jump, Replay};
pub use reader::{TraceError, TraceReader};
pub use recorded::Recorded;
pub use report::{Report, not_replayed};
pub use table::render;
pub use writer::{Given, NotTraced, Stopped, Traces};
