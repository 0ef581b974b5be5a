//! What an event says, and how it is written: one line of JSON. Fields and kinds may be added, never
//! renamed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};

use crate::family::Family;
use crate::notify::settings::ChannelName;
use crate::policy::SetName;
use crate::reload::Change;
use crate::status::State;
use crate::uplink::UplinkName;

/// The longest line, in bytes. Of a reload that changed more than fits not all is kept.
const MAX_LINE: usize = 16 * 1024;

/// The longest reason, in characters.
const MAX_REASON: usize = 2_000;

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Ascending by one, over restarts of the daemon too.
    pub seq: u64,
    /// When it happened.
    #[serde(serialize_with = "in_milliseconds")]
    pub time: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A daemon begins its work.
    Started {
        /// `ebpf` or `classic`.
        mode: String,
        /// Its version.
        version: String,
        /// The one before it ended without saying so: it was killed or crashed, or power was lost.
        #[serde(default)]
        interrupted: bool,
    },
    /// It ended.
    Stopped {
        /// Why, if it was not told to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// eBPF mode is not possible, and the daemon goes on in classic mode.
    Fallback {
        /// Why.
        reason: String,
    },
    /// An uplink's state changed.
    State {
        /// The uplink.
        uplink: UplinkName,
        /// The family.
        family: Family,
        /// The state that it left.
        from: State,
        /// The state that it is in now.
        to: State,
        /// Why.
        reason: String,
    },
    /// Something becomes of the flows of an uplink that works.
    Drain {
        /// The uplink.
        uplink: UplinkName,
        /// The family.
        family: Family,
        /// Of which rules the flows are, by their `via`; none where no rule names them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        via: Option<String>,
        /// What.
        step: DrainStep,
        /// How long its flows may take to finish, in seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
    /// A target of probes is set aside, since it is silent by its own fault, or counts again.
    Target {
        /// The target, as the configuration names it.
        target: String,
        /// The family in which it is asked.
        family: Family,
        /// The uplink by which alone it is silent; none where it is silent by all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uplink: Option<UplinkName>,
        /// Whether it is set aside now.
        aside: bool,
    },
    /// Somebody trusted an uplink by hand: its failures are forgotten.
    Trusted {
        /// The uplink.
        uplink: UplinkName,
        /// The families in which it was held back.
        families: Vec<Family>,
    },
    /// Somebody disabled or enabled an uplink, or has it drain; or the time of that is over.
    ByHand {
        /// The uplink.
        uplink: UplinkName,
        /// What was done.
        step: Step,
        /// When the time of the drain is over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
    },
    /// Somebody sent all flows of the fast path back to the stack.
    Flushed {
        /// How many took it.
        flows: u64,
    },
    /// What the probes of an uplink may take in a day is used up.
    Budget {
        /// The uplink.
        uplink: UplinkName,
        /// What they took today, in bytes.
        bytes: u64,
        /// What they may take, in bytes.
        budget: u64,
    },
    /// The daemon follows a changed configuration.
    Reloaded {
        /// What differs.
        changes: Vec<Change>,
        /// How many more changes there were than are kept here.
        #[serde(default, skip_serializing_if = "is_zero")]
        omitted: usize,
    },
    /// The configuration could not be taken over.
    ReloadRefused {
        /// Why.
        reason: String,
    },
    /// The file of a set changed, and rules follow it.
    SetReloaded {
        /// The set.
        set: SetName,
        /// How many prefixes and ranges it has.
        ranges: usize,
    },
    /// The file of a set changed to what is no set; its addresses are those of before.
    SetRefused {
        /// The set.
        set: SetName,
        /// Why.
        reason: String,
    },
    /// Somebody changed what is ours, and it is put right.
    Repaired {
        /// What somebody did.
        reason: String,
    },
    /// The kernel is not in the wanted state; it is tried again.
    Problem {
        /// Why.
        reason: String,
    },
    /// The kernel is in the wanted state again.
    Solved,
    /// No uplink works any more, in any family.
    Offline,
    /// One does again.
    Online,
    /// Notifications could not be delivered for so long that they are not tried any more.
    NotNotified {
        /// By which channel.
        channel: ChannelName,
        /// How many.
        count: u64,
        /// Why.
        reason: String,
    },
    /// Events of one sort that came so often that they were counted only.
    Repeated(Repeated),
    /// Events that were not kept, because the disk was too slow or full for too long.
    Missed {
        /// How many.
        count: u64,
    },
    /// Of a kind that this version does not know.
    #[serde(other)]
    Other,
}

/// Events of one sort that were counted only, and the last of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Repeated {
    /// Their kind.
    pub of: String,
    /// How many.
    pub count: u64,
    /// When the first happened.
    #[serde(serialize_with = "in_milliseconds")]
    pub since: Timestamp,
    /// When the last happened.
    #[serde(serialize_with = "in_milliseconds")]
    pub until: Timestamp,
    /// The uplink of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<UplinkName>,
    /// The family of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<Family>,
    /// The state that the last left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<State>,
    /// The state that the last led to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<State>,
    /// Why the last happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What becomes of the flows of an uplink that works, while a better one is up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DrainStep {
    /// They may finish within a time.
    Begun,
    /// Their time is over, and those that are left are forgotten.
    Over,
    /// Their time is over, and those that are left stay.
    Kept,
    /// They stay after all.
    CalledOff,
    /// They are forgotten at once.
    Moved,
}

/// What is done about an uplink by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// It is not used any more.
    Disabled,
    /// Open flows may finish, and new ones go elsewhere.
    Draining,
    /// The time of that is over, and it is not used any more.
    Drained,
    /// It takes part again.
    Enabled,
}

impl Record {
    /// Reads a line. `None` when it is none of ours; a kind that this version does not know is one.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// The line, with its end.
    ///
    /// # Errors
    /// When the event has no form in JSON, which none is known for.
    pub fn line(&self) -> serde_json::Result<Vec<u8>> {
        let mut record = self.clone();
        record.event.shorten_reason();
        let mut line = serde_json::to_vec(&record)?;
        while line.len() > MAX_LINE && record.event.halve() {
            line = serde_json::to_vec(&record)?;
        }
        line.push(b'\n');
        Ok(line)
    }
}

impl Event {
    /// The uplink that it is about, if it is about one.
    #[must_use]
    pub const fn uplink(&self) -> Option<&UplinkName> {
        match self {
            Self::State { uplink, .. }
            | Self::Drain { uplink, .. }
            | Self::Trusted { uplink, .. }
            | Self::ByHand { uplink, .. }
            | Self::Budget { uplink, .. } => Some(uplink),
            Self::Target { uplink, .. } => uplink.as_ref(),
            Self::Repeated(repeated) => repeated.uplink.as_ref(),
            _ => None,
        }
    }

    /// The family that it is about, if it is about one.
    #[must_use]
    pub const fn family(&self) -> Option<Family> {
        match self {
            Self::State { family, .. }
            | Self::Drain { family, .. }
            | Self::Target { family, .. } => Some(*family),
            Self::Repeated(repeated) => repeated.family,
            _ => None,
        }
    }

    /// Whether it is about an uplink, also as one of those that a reload changed.
    #[must_use]
    pub fn concerns(&self, name: &UplinkName) -> bool {
        match self {
            Self::Reloaded { changes, .. } => changes.iter().any(|change| match change {
                Change::UplinkAdded { uplink, .. }
                | Change::UplinkRemoved { uplink, .. }
                | Change::UplinkChanged { uplink, .. } => uplink == name,
                Change::DownlinkAdded { .. }
                | Change::DownlinkRemoved { .. }
                | Change::RuleAdded { .. }
                | Change::RuleRemoved { .. }
                | Change::RuleChanged { .. }
                | Change::RulesReordered
                | Change::SettingChanged { .. } => false,
            }),
            _ => self.uplink() == Some(name),
        }
    }

    fn shorten_reason(&mut self) {
        let reason = match self {
            Self::Stopped { reason } => reason.as_mut(),
            Self::Repeated(repeated) => repeated.reason.as_mut(),
            Self::Drain { via, .. } => via.as_mut(),
            Self::Fallback { reason }
            | Self::State { reason, .. }
            | Self::ReloadRefused { reason }
            | Self::NotNotified { reason, .. }
            | Self::SetRefused { reason, .. }
            | Self::Repaired { reason }
            | Self::Problem { reason } => Some(reason),
            _ => None,
        };
        if let Some(reason) = reason
            && let Some((end, _)) = reason.char_indices().nth(MAX_REASON)
        {
            reason.truncate(end);
            reason.push('…');
        }
    }

    /// Leaves out half of what makes it long; false where nothing is left to leave out.
    fn halve(&mut self) -> bool {
        match self {
            Self::Reloaded { changes, omitted } if !changes.is_empty() => {
                let kept = changes.len() / 2;
                *omitted += changes.len() - kept;
                changes.truncate(kept);
                true
            }
            _ => false,
        }
    }
}

/// As RFC 3339 writes it, always with three digits: texts of the same length sort by time.
fn in_milliseconds<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{time:.3}"))
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference"
)]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
