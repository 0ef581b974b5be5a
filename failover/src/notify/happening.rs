//! What can be told, and which events it follows from.

use jiff::Timestamp;

use crate::family::Family;
use crate::journal::{Event, Step};
use crate::status::State;
use crate::uplink::UplinkName;

/// What can be told; the words of `on`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Happening {
    /// An uplink is down in a family, or has lost it.
    Down,
    /// An uplink is good again in a family.
    Up,
    /// An uplink answers badly in a family, or is held back.
    Degraded,
    /// Somebody disabled, drained or enabled an uplink.
    ByHand,
    /// No uplink works any more.
    AllDown,
    /// One does again.
    Back,
    /// The daemon began.
    Started,
    /// The daemon ended.
    Stopped,
    /// The kernel does not follow, or a set's file is broken; or that is over.
    Problem,
    /// The budget of an uplink's probes is used up.
    Budget,
}

impl Happening {
    /// All, with their words.
    pub const WORDS: [(&'static str, Self); 10] = [
        ("down", Self::Down),
        ("up", Self::Up),
        ("degraded", Self::Degraded),
        ("by_hand", Self::ByHand),
        ("all_down", Self::AllDown),
        ("back", Self::Back),
        ("started", Self::Started),
        ("stopped", Self::Stopped),
        ("problem", Self::Problem),
        ("budget", Self::Budget),
    ];

    /// What is told where the configuration does not say.
    pub const USUAL: [Self; 5] = [
        Self::Down,
        Self::Up,
        Self::AllDown,
        Self::Back,
        Self::Problem,
    ];

    /// Its word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let mut words = Self::WORDS.iter();
        words
            .find(|(_, happening)| *happening == self)
            .map_or("", |(word, _)| word)
    }
}

/// Something that happened, as it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What.
    pub happening: Happening,
    /// To which uplink.
    pub uplink: Option<UplinkName>,
    /// In which family.
    pub family: Option<Family>,
    /// The state that the uplink left.
    pub from: Option<State>,
    /// The state that it is in since.
    pub state: Option<State>,
    /// Why.
    pub reason: String,
    /// When.
    pub time: Timestamp,
}

/// What a notice is about: of two about the same, the newer one says how things are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    matter: Matter,
    uplink: Option<UplinkName>,
    family: Option<Family>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Matter {
    Connection,
    State,
    ByHand,
    Daemon,
    Problem,
    Budget,
}

impl Notice {
    /// What an event says to people; `None` where that is nothing, or of no use to them.
    #[must_use]
    pub fn of(event: &Event, time: Timestamp) -> Option<Self> {
        let bare = |happening, reason: String| Self {
            happening,
            uplink: None,
            family: None,
            from: None,
            state: None,
            reason,
            time,
        };
        Some(match event {
            Event::State {
                uplink,
                family,
                from,
                to,
                reason,
            } => Self {
                uplink: Some(uplink.clone()),
                family: Some(*family),
                from: Some(*from),
                state: Some(*to),
                ..bare(of_state(*from, *to)?, reason.clone())
            },
            Event::ByHand { uplink, step, .. } => Self {
                uplink: Some(uplink.clone()),
                ..bare(Happening::ByHand, by_hand(*step).to_owned())
            },
            Event::Budget {
                uplink,
                bytes,
                budget,
            } => Self {
                uplink: Some(uplink.clone()),
                ..bare(
                    Happening::Budget,
                    format!("its probes took {bytes} of {budget} bytes today"),
                )
            },
            Event::Offline => bare(Happening::AllDown, "no uplink works".to_owned()),
            Event::Online => bare(Happening::Back, "an uplink works again".to_owned()),
            Event::Started {
                interrupted, mode, ..
            } => {
                let why = if *interrupted {
                    "the one before it ended without saying so"
                } else {
                    "as it was told to"
                };
                bare(Happening::Started, format!("in {mode} mode, {why}"))
            }
            Event::Stopped { reason } => {
                let reason = reason.clone();
                let told = || "as it was told to; the last selection stays".to_owned();
                bare(Happening::Stopped, reason.unwrap_or_else(told))
            }
            Event::Problem { reason } => bare(Happening::Problem, reason.clone()),
            Event::Solved => bare(
                Happening::Problem,
                "over: the kernel is in the wanted state again".to_owned(),
            ),
            Event::SetRefused { set, reason } => {
                bare(Happening::Problem, format!("set {set}: {reason}"))
            }
            _ => return None,
        })
    }

    /// What it is about.
    #[must_use]
    pub fn subject(&self) -> Subject {
        Subject {
            matter: match self.happening {
                Happening::Down | Happening::Up | Happening::Degraded => Matter::State,
                Happening::ByHand => Matter::ByHand,
                Happening::AllDown | Happening::Back => Matter::Connection,
                Happening::Started | Happening::Stopped => Matter::Daemon,
                Happening::Problem => Matter::Problem,
                Happening::Budget => Matter::Budget,
            },
            uplink: self.uplink.clone(),
            family: self.family,
        }
    }
}

/// What it means that an uplink changes its state. What is done by hand is told as such.
const fn of_state(from: State, to: State) -> Option<Happening> {
    match (from, to) {
        (_, State::Down) | (State::Up | State::Degraded, State::Absent) => Some(Happening::Down),
        (_, State::Degraded) => Some(Happening::Degraded),
        (_, State::Up) => Some(Happening::Up),
        (_, State::Absent | State::Unknown | State::Disabled) => None,
    }
}

const fn by_hand(step: Step) -> &'static str {
    match step {
        Step::Disabled => "disabled by hand",
        Step::Draining => "drained by hand",
        Step::Drained => "the time of its drain is over: disabled",
        Step::Enabled => "enabled by hand",
    }
}
