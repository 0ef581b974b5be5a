//! The control socket: how the commands ask the running daemon.
//!
//! One request per connection and one or several answers, each one line of JSON. The protocol is
//! private to one version of the binary; what scripts may rely on is what the commands print.

pub mod client;
mod reply;
pub mod server;

pub use reply::{HungUp, Lines, Reply};

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::by_hand::{ByHand, Order};
use crate::explain::{Explanation, Question};
use crate::family::Family;
use crate::flows::FlowEntry;
use crate::reload::{Refusal, Reloaded};
use crate::status::{State, StatusDocument};
use crate::uplink::UplinkName;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// What the daemon knows.
    Status,
    /// The flows that are alive.
    Flows {
        /// Only those of one uplink.
        uplink: Option<UplinkName>,
    },
    /// Where a flow goes, and why.
    Explain(Question),
    /// To read the configuration again and follow it.
    Reload,
    /// To trust an uplink that is held back, since it failed again and again.
    Trust {
        /// The uplink.
        uplink: UplinkName,
    },
    /// To take an uplink out of use, or back into it.
    ByHand {
        /// The uplink.
        uplink: UplinkName,
        /// What is to be done about it.
        order: Order,
    },
    /// To send all flows of the fast path back to the stack.
    Flush,
    /// To write down all that an uplink is judged by, or to end that.
    Trace {
        /// The uplink.
        uplink: UplinkName,
        /// What is to be done.
        step: TraceStep,
    },
}

/// What is to be done about a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TraceStep {
    /// To begin it.
    Start {
        /// For how long; without that until it is stopped.
        time: Option<Duration>,
    },
    /// To end it.
    Stop,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Request::Status`].
    Status(StatusDocument),
    /// To [`Request::Flows`], first: that they follow, and the mode in which they are steered.
    FlowsBegin {
        /// `ebpf` or `classic`.
        mode: String,
    },
    /// Then, any number of times.
    Flows(Vec<FlowEntry>),
    /// Last: these were all.
    FlowsEnd,
    /// To [`Request::Explain`].
    Explained(Box<Explanation>),
    /// To [`Request::Reload`]: what changed.
    Reloaded(Reloaded),
    /// To [`Request::Reload`]: why nothing did.
    NotReloaded(Refusal),
    /// To [`Request::Trust`]: in which families the uplink was held back.
    Trusted {
        /// The families.
        families: Vec<Family>,
    },
    /// To [`Request::ByHand`].
    ByHand(Obeyed),
    /// To [`Request::Flush`].
    Flushed {
        /// How many flows took the fast path.
        flows: u64,
    },
    /// To [`Request::Trace`].
    Traced {
        /// Where the trace is, or would be.
        file: PathBuf,
        /// It was being written before.
        running: bool,
    },
    /// The request was not understood, or could not be carried out to its end.
    Error(String),
}

/// An order was carried out, or was already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obeyed {
    /// What was done about the uplink by hand before.
    pub before: Option<ByHand>,
    /// What is now.
    pub now: Option<ByHand>,
    /// The uplink's state now.
    pub state: State,
    /// The families in which no other uplink is usable.
    pub irreplaceable: Vec<Family>,
    /// Why it will not be known after a restart, if it will not.
    pub unkept: Option<String>,
    /// What keeps the kernel from being in the wanted state, if anything does.
    pub problem: Option<String>,
}

/// The longest request or answer, in bytes: 127 uplinks take about 100 kB.
pub const MAX_LINE: u64 = 4 << 20;
