//! The journal: what happened and why, kept in the state folder over restarts, crashes and full disks.
//!
//! [`Journal::note`] takes an event without waiting for anything. One thread ([`Writing`]) writes one
//! line of JSON for each, into two files of bounded size. [`JournalReader`] reads them, whether or not
//! a daemon runs.

mod event;
mod files;
mod limit;
mod query;
mod read;
mod table;
mod words;
mod writer;

pub use event::{DrainStep, Event, Record, Repeated, Step};
pub use query::{Filter, Since, UnknownTime};
pub use read::{JournalReader, Line, News, ReadError};
pub use table::Table;
pub use writer::{Journal, Noted, Writing};
