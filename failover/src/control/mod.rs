//! The control socket: how the commands ask the running daemon.
//!
//! One request and one answer per connection, each one line of JSON. The protocol is private to one
//! version of the binary; what scripts may rely on is what the commands print.

pub mod client;
pub mod server;

use serde::{Deserialize, Serialize};

use crate::status::StatusDocument;

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// What the daemon knows.
    Status,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(StatusDocument),
    /// The request was not understood, or could not be carried out.
    Error(String),
}

/// The longest request or answer, in bytes: 127 uplinks take about 100 kB.
pub const MAX_LINE: u64 = 4 << 20;
