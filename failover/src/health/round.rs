//! What one round of probes brought.

use std::fmt;
use std::time::{Duration, Instant};

use crate::config::Target;

/// Which plan of probing a round belongs to. Every plan gets a higher number than all before it, so
/// that what comes late from an old plan can be told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlanNumber(pub u64);

/// One round: every target asked once, at the same time. The same round may be told several times,
/// each time with more outcomes known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Round {
    /// The plan.
    pub plan: PlanNumber,
    /// The number of the round within its plan: one more than that of the round before.
    pub sequence: u64,
    /// When it was sent.
    pub sent_at: Instant,
    /// One result for each target, in the order of the plan.
    pub results: Vec<TargetResult>,
}

/// What came of asking one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetResult {
    /// The target.
    pub target: Target,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing yet.
    Outstanding,
    /// An answer.
    Answered {
        /// How long it took.
        rtt: Duration,
    },
    /// No answer, for good.
    Failed(Failure),
}

/// Why a probe has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// None came in time.
    Timeout,
    /// The probe could not be sent.
    NotSent(String),
    /// An ICMP error came instead.
    Icmp(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout => f.write_str("no answer in time"),
            Self::NotSent(why) => write!(f, "cannot send: {why}"),
            Self::Icmp(what) => f.write_str(what),
        }
    }
}

/// What a round says about the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Enough targets answered.
    Good,
    /// Too few.
    Bad,
}

impl Verdict {
    /// The other one.
    #[must_use]
    pub const fn contrary(self) -> Self {
        match self {
            Self::Good => Self::Bad,
            Self::Bad => Self::Good,
        }
    }
}

impl Round {
    /// How many targets were asked.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.results.len()
    }

    /// How many have answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Answered { .. }))
    }

    /// Of how many nothing is known yet.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Outstanding))
    }

    /// The quickest answer.
    #[must_use]
    pub fn quickest(&self) -> Option<Duration> {
        self.results
            .iter()
            .filter_map(|result| match result.outcome {
                Outcome::Answered { rtt } => Some(rtt),
                Outcome::Outstanding | Outcome::Failed(_) => None,
            })
            .min()
    }

    /// What the round says when `required` targets must answer, or all where fewer were asked.
    /// `None` while it can still become either; a round that asked nobody says nothing.
    #[must_use]
    pub fn verdict(&self, required: u16) -> Option<Verdict> {
        let needed = usize::from(required).clamp(1, self.asked().max(1));
        if self.results.is_empty() {
            None
        } else if self.answered() >= needed {
            Some(Verdict::Good)
        } else if self.answered() + self.outstanding() < needed {
            Some(Verdict::Bad)
        } else {
            None
        }
    }

    /// What kept the targets from answering, where it is the same for all that did not and more
    /// than silence.
    #[must_use]
    pub fn common_failure(&self) -> Option<&Failure> {
        let mut failures = self
            .results
            .iter()
            .filter_map(|result| match &result.outcome {
                Outcome::Failed(failure) => Some(failure),
                Outcome::Outstanding | Outcome::Answered { .. } => None,
            });
        let first = failures.next()?;
        (*first != Failure::Timeout && failures.all(|other| other == first)).then_some(first)
    }

    fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        self.results
            .iter()
            .filter(|result| wanted(&result.outcome))
            .count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(outcomes: &[Outcome]) -> Round {
        Round {
            plan: PlanNumber(1),
            sequence: 0,
            sent_at: Instant::now(),
            results: outcomes
                .iter()
                .map(|outcome| TargetResult {
                    target: Target::Icmp([192, 0, 2, 1].into()),
                    outcome: outcome.clone(),
                })
                .collect(),
        }
    }

    fn answered(ms: u64) -> Outcome {
        Outcome::Answered {
            rtt: Duration::from_millis(ms),
        }
    }

    const LOST: Outcome = Outcome::Failed(Failure::Timeout);
    const OPEN: Outcome = Outcome::Outstanding;

    #[test]
    fn one_answer_decides_a_round_that_needs_one_and_the_last_loss_decides_it_too() {
        assert_eq!(round(&[answered(3), OPEN]).verdict(1), Some(Verdict::Good));
        assert_eq!(round(&[LOST, OPEN]).verdict(1), None);
        assert_eq!(round(&[LOST, LOST]).verdict(1), Some(Verdict::Bad));
    }

    #[test]
    fn a_round_is_bad_as_soon_as_too_few_can_still_answer() {
        assert_eq!(round(&[LOST, LOST, OPEN]).verdict(2), Some(Verdict::Bad));
        assert_eq!(round(&[LOST, answered(1), OPEN]).verdict(2), None);
    }

    #[test]
    fn more_required_than_asked_means_all_and_none_required_means_one() {
        assert_eq!(
            round(&[answered(1), answered(2)]).verdict(9),
            Some(Verdict::Good)
        );
        assert_eq!(round(&[answered(1), LOST]).verdict(9), Some(Verdict::Bad));
        assert_eq!(round(&[LOST]).verdict(0), Some(Verdict::Bad));
    }

    #[test]
    fn a_round_that_asked_nobody_says_nothing() {
        assert_eq!(round(&[]).verdict(1), None);
    }

    #[test]
    fn a_cause_is_named_only_when_all_failures_share_it() {
        let unsent = Outcome::Failed(Failure::NotSent("Network is unreachable".into()));
        assert_eq!(
            round(&[unsent.clone(), unsent.clone()])
                .common_failure()
                .map(ToString::to_string),
            Some("cannot send: Network is unreachable".into())
        );
        assert_eq!(round(&[unsent, LOST]).common_failure(), None);
        assert_eq!(round(&[LOST, LOST]).common_failure(), None);
    }
}
