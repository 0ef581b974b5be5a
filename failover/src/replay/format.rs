//! What a trace consists of: lines of JSON. An object begins a part of it or tells the time by the clock
//! on the wall; arrays are what the judgement was told and what it said, in the order in which that
//! happened. Each line stands for itself, so that one which is lost costs nothing but itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{ProbeConfig, Target};
use crate::family::{Family, PerFamily};
use crate::health::stored::{moment_at, nanoseconds};
use crate::health::{
    Failure, Health, LinkLoss, Machine, Outcome, Places, PlanNumber, Round, RoundKind, Thresholds,
    Traffic,
};
use crate::interface::InterfaceName;
use crate::uplink::UplinkName;

/// The version of the format that is written, and the only one that is read.
pub(super) const FORMAT: u32 = 1;

/// A line.
#[derive(Clone, Debug)]
pub enum Line {
    /// A part begins.
    Begin(Box<Begin>),
    /// What the clock on the wall says.
    Clock(Clock),
    /// Something was told or said.
    Entry(Entry),
}

/// The begin of a part: what is known of the uplink then.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Begin {
    /// The version of the format.
    pub trace: u32,
    /// The version of the daemon.
    pub version: String,
    /// The uplink.
    pub uplink: UplinkName,
    /// Its interface.
    pub interface: InterfaceName,
    /// When, in nanoseconds since a moment that is the same for all of a run.
    pub at: i64,
    /// When, by the clock on the wall.
    pub wall: Timestamp,
    /// Which run of writing it is: when it began by the clock on the wall, in microseconds.
    pub run: i64,
    /// Which part of the run, from 0.
    pub part: u64,
    /// Entries that were lost before it, since the disk was too slow.
    pub missed: u64,
    /// Who is asked, by the configuration.
    pub targets: Vec<Target>,
    /// From one round to the next.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// What is known of each family.
    pub families: PerFamily<Known>,
}

/// What is known of a family.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Known {
    /// Those that the last round asked.
    #[serde(with = "crate::health::stored::targets")]
    pub targets: Arc<[Target]>,
    /// Whether the uplink has a way in this family, and is probed.
    pub present: bool,
    /// The judgement, with all that it remembers.
    pub machine: Machine,
}

/// What the clock on the wall says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// At this moment, in nanoseconds as in [`Begin`].
    pub clock: i64,
    /// It says this.
    pub wall: Timestamp,
}

/// When, in which family, and what. Moments are nanoseconds as in [`Begin`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry(pub i64, pub Family, pub Observation);

/// What the judgement was told, and what it said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observation {
    /// What is known of a round: plan, sequence, kind, when it was sent, outcomes.
    Round(PlanNumber, u64, Kind, i64, Vec<Told>),
    /// Who is asked from now on.
    Targets(Vec<Target>),
    /// These are set aside.
    Aside(Places),
    /// What users' traffic says.
    Traffic(Traffic),
    /// Its failures are forgiven.
    Forgiven,
    /// The link can carry nothing.
    LinkLost(LinkLoss),
    /// The link can carry something.
    LinkBack,
    /// Packets take another path.
    PathChanged,
    /// From now on it takes this.
    Thresholds(Thresholds),
    /// It is judged anew.
    Anew(Thresholds, Health),
    /// The uplink has a way in this family, and is probed; or not.
    Present(bool),
    /// What was said to the entry before this one.
    Verdict(Health, Health, String),
}

/// Why a round was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// Its turn had come.
    #[serde(rename = "r")]
    Regular,
    /// To confirm a doubt.
    #[serde(rename = "c")]
    Confirming,
}

/// An outcome, as shortly as it can be: nanoseconds of an answer, a word, a failure, or `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Told {
    /// An answer, after so many nanoseconds.
    Answered(u64),
    /// An answer would be due.
    Word(Word),
    /// None, for good.
    Failed {
        /// Why.
        failed: Failure,
    },
    /// Nothing yet.
    Outstanding(()),
}

/// The most frequent outcomes other than answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// An answer would be due.
    Overdue,
    /// None came in time.
    Timeout,
}

impl From<&Outcome> for Told {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Outstanding => Self::Outstanding(()),
            Outcome::Overdue => Self::Word(Word::Overdue),
            Outcome::Failed(Failure::Timeout) => Self::Word(Word::Timeout),
            Outcome::Failed(failure) => Self::Failed {
                failed: failure.clone(),
            },
            Outcome::Answered { rtt } => {
                Self::Answered(u64::try_from(rtt.as_nanos()).unwrap_or(u64::MAX))
            }
        }
    }
}

impl From<Told> for Outcome {
    fn from(told: Told) -> Self {
        match told {
            Told::Outstanding(()) => Self::Outstanding,
            Told::Word(Word::Overdue) => Self::Overdue,
            Told::Word(Word::Timeout) => Self::Failed(Failure::Timeout),
            Told::Failed { failed } => Self::Failed(failed),
            Told::Answered(nanoseconds) => Self::Answered {
                rtt: Duration::from_nanos(nanoseconds),
            },
        }
    }
}

impl Observation {
    /// What is known of a round.
    pub(super) fn of(round: &Round) -> Self {
        let kind = match round.kind {
            RoundKind::Regular => Kind::Regular,
            RoundKind::Confirming => Kind::Confirming,
        };
        let outcomes = round.outcomes.iter().map(Told::from).collect();
        let sent = nanoseconds(round.sent_at);
        Self::Round(round.plan, round.sequence, kind, sent, outcomes)
    }

    /// The round that it tells of, which asked `targets`; `None` where it tells of something else.
    pub(super) fn round(&self, targets: &Arc<[Target]>) -> Option<Round> {
        let Self::Round(plan, sequence, kind, sent, outcomes) = self else {
            return None;
        };
        Some(Round {
            plan: *plan,
            sequence: *sequence,
            kind: match kind {
                Kind::Regular => RoundKind::Regular,
                Kind::Confirming => RoundKind::Confirming,
            },
            sent_at: moment_at(*sent),
            targets: Arc::clone(targets),
            outcomes: outcomes.iter().cloned().map(Outcome::from).collect(),
        })
    }
}

impl Begin {
    /// The begin of a trace: what is known of an uplink now. Which run and part it is says who writes it.
    #[must_use]
    pub fn new(
        uplink: &UplinkName,
        interface: &InterfaceName,
        probe: &ProbeConfig,
        now: Instant,
        wall: Timestamp,
        families: PerFamily<Known>,
    ) -> Self {
        Self {
            trace: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uplink: uplink.clone(),
            interface: interface.clone(),
            at: nanoseconds(now),
            wall,
            run: 0,
            part: 0,
            missed: 0,
            targets: probe.targets.clone(),
            interval: probe.interval,
            timeout: probe.timeout,
            families,
        }
    }
}

impl Entry {
    /// Something that happened now.
    pub(super) fn new(now: Instant, family: Family, what: Observation) -> Self {
        Self(nanoseconds(now), family, what)
    }

    /// When it happened.
    pub(super) fn at(&self) -> Instant {
        moment_at(self.0)
    }
}

impl Line {
    /// Reads a line; `None` when it is none of a trace, or of another format.
    #[must_use]
    pub fn parse(line: &[u8]) -> Option<Self> {
        match line.first()? {
            b'[' => serde_json::from_slice(line).ok().map(Self::Entry),
            b'{' => {
                if let Ok(clock) = serde_json::from_slice(line) {
                    return Some(Self::Clock(clock));
                }
                let begin: Box<Begin> = serde_json::from_slice(line).ok()?;
                (begin.trace == FORMAT).then_some(Self::Begin(begin))
            }
            _ => None,
        }
    }

    /// The line, with its end.
    ///
    /// # Errors
    /// When it has no form in JSON, which none is known for.
    pub fn written(&self) -> serde_json::Result<Vec<u8>> {
        let mut line = match self {
            Self::Begin(begin) => serde_json::to_vec(begin)?,
            Self::Clock(clock) => serde_json::to_vec(clock)?,
            Self::Entry(entry) => serde_json::to_vec(entry)?,
        };
        line.push(b'\n');
        Ok(line)
    }
}
