//! Why an uplink is in its state, in words for people.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Health;
use super::damping::Hold;
use super::quality::Complaint;
use crate::interface::InterfaceName;

/// Why the link cannot carry anything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkLoss {
    /// The cable is out, or the other end is.
    NoCarrier,
    /// The interface is set down.
    Disabled(InterfaceName),
    /// The interface is a port of a bridge, bond or team.
    Port(InterfaceName),
    /// There is no such interface.
    Missing(InterfaceName),
}

impl fmt::Display for LinkLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCarrier => f.write_str("no carrier"),
            Self::Disabled(interface) => write!(f, "interface {interface} is set down"),
            Self::Port(interface) => {
                write!(f, "interface {interface} is a port of a bridge or bond")
            }
            Self::Missing(interface) => write!(f, "interface {interface} does not exist"),
        }
    }
}

/// What users' traffic says beside the silence of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TrafficWord {
    /// It has no answer either.
    Unanswered {
        /// How many packets that want one; 9999 for more.
        packets: u32,
        /// To how many hosts, about.
        hosts: u32,
        /// Since the first of them.
        lasted: Duration,
    },
    /// It is answered.
    Answered {
        /// By how many hosts, about.
        hosts: u32,
    },
}

impl fmt::Display for TrafficWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered {
                packets,
                hosts,
                lasted,
            } => write!(
                f,
                "{packets} {} to {hosts} {} unanswered for {}",
                if *packets == 1 { "packet" } else { "packets" },
                hosts_word(*hosts),
                Span(*lasted)
            ),
            Self::Answered { hosts } => {
                write!(f, "but {hosts} {} answer users", hosts_word(*hosts))
            }
        }
    }
}

/// Why an uplink is in its state.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Reason {
    /// No round has been decided since the start or the last change of path.
    NotProbed {
        /// What counts until then.
        health: Health,
    },
    /// The very first answer.
    FirstAnswer,
    /// Enough targets answer.
    Answering {
        /// Targets that answered.
        answered: usize,
        /// Targets that were asked.
        asked: usize,
    },
    /// Enough targets answer again, but not for long enough.
    Returning {
        /// Targets that answered.
        answered: usize,
        /// Targets that were asked.
        asked: usize,
        /// Good rounds in a row so far.
        good: usize,
        /// Good rounds in a row that it takes.
        needed: u16,
    },
    /// Enough good rounds in a row.
    Recovered {
        /// How many.
        rounds: u16,
    },
    /// Too few targets answer.
    Silent {
        /// Targets that answered the last round.
        answered: usize,
        /// Targets that were asked.
        asked: usize,
        /// Targets that must answer.
        required: usize,
        /// Since the first round that was bad was sent.
        lasted: Duration,
        /// Bad rounds since.
        rounds: u64,
        /// What all failures of the last round have in common, where it is more than silence.
        cause: Option<String>,
        /// What users' traffic says to it.
        #[serde(default)]
        traffic: Option<TrafficWord>,
    },
    /// It answers, and is held back.
    HeldBack(Hold),
    /// It answers badly.
    Poor(Complaint),
    /// The link cannot carry anything.
    LinkLost(LinkLoss),
    /// The link is back, no round has been decided since.
    LinkBack,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotProbed {
                health: Health::Unknown,
            } => f.write_str("not probed yet"),
            Self::NotProbed { health } => {
                write!(f, "{health} before, not probed since")
            }
            Self::FirstAnswer => f.write_str("first answer after start"),
            Self::Answering { answered, asked } => write!(
                f,
                "{answered} of {asked} {} {}",
                targets(*asked),
                answer(*asked)
            ),
            Self::Returning {
                answered,
                asked,
                good,
                needed,
            } => write!(
                f,
                "{answered} of {asked} {} {} again, {good} of {needed} good rounds",
                targets(*asked),
                answer(*asked)
            ),
            Self::Recovered { rounds } => {
                write!(
                    f,
                    "{rounds} good {} in a row",
                    rounds_word((*rounds).into())
                )
            }
            Self::Silent {
                answered,
                asked,
                required,
                lasted,
                rounds,
                cause,
                traffic,
            } => {
                write!(
                    f,
                    "{answered} of {asked} {} {}",
                    targets(*asked),
                    answer(*asked)
                )?;
                if *required > 1 {
                    write!(f, " ({required} required)")?;
                }
                write!(
                    f,
                    " for {} ({rounds} {})",
                    Span(*lasted),
                    rounds_word(*rounds)
                )?;
                if let Some(cause) = cause {
                    write!(f, ": {cause}")?;
                }
                traffic.map_or(Ok(()), |word| write!(f, ", {word}"))
            }
            Self::HeldBack(hold) => write!(
                f,
                "answers, held back for {} more after {} failures",
                Span(hold.left),
                hold.failures
            ),
            Self::Poor(complaint) => complaint.fmt(f),
            Self::LinkLost(loss) => loss.fmt(f),
            Self::LinkBack => f.write_str("link is back, not probed yet"),
        }
    }
}

const fn targets(asked: usize) -> &'static str {
    if asked == 1 { "target" } else { "targets" }
}

const fn answer(asked: usize) -> &'static str {
    if asked == 1 { "answers" } else { "answer" }
}

const fn rounds_word(rounds: u64) -> &'static str {
    if rounds == 1 { "round" } else { "rounds" }
}

const fn hosts_word(hosts: u32) -> &'static str {
    if hosts == 1 { "host" } else { "hosts" }
}

/// A duration as people say it: tenths of a second below a minute, then the two largest units.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        if seconds < 60 {
            write!(f, "{}.{} s", seconds, self.0.subsec_millis() / 100)
        } else if seconds < 3600 {
            write!(f, "{} min {} s", seconds / 60, seconds % 60)
        } else if seconds < 86_400 {
            write!(f, "{} h {} min", seconds / 3600, seconds % 3600 / 60)
        } else {
            write!(f, "{} d {} h", seconds / 86_400, seconds % 86_400 / 3600)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn silent(asked: usize, required: usize, lasted: Duration, rounds: u64) -> Reason {
        Reason::Silent {
            answered: 0,
            asked,
            required,
            lasted,
            rounds,
            cause: None,
            traffic: None,
        }
    }

    #[test]
    fn reasons_read_like_sentences() {
        let texts = [
            silent(2, 1, Duration::from_millis(1500), 3).to_string(),
            silent(1, 1, Duration::from_millis(990), 1).to_string(),
            silent(3, 2, Duration::from_secs(3 * 3600 + 61), 9000).to_string(),
            Reason::Answering {
                answered: 2,
                asked: 2,
            }
            .to_string(),
            Reason::LinkLost(LinkLoss::Missing("wan1".parse().unwrap())).to_string(),
            Reason::Recovered { rounds: 5 }.to_string(),
            Reason::NotProbed { health: Health::Up }.to_string(),
        ];
        assert_eq!(
            texts,
            [
                "0 of 2 targets answer for 1.5 s (3 rounds)",
                "0 of 1 target answers for 0.9 s (1 round)",
                "0 of 3 targets answer (2 required) for 3 h 1 min (9000 rounds)",
                "2 of 2 targets answer",
                "interface wan1 does not exist",
                "5 good rounds in a row",
                "up before, not probed since",
            ]
        );
    }
}
