//! What one round of probes brought.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Failure;
use crate::config::Target;

/// Which plan of probing a round belongs to. Every plan gets a higher number than all before it, so
/// that what comes late from an old plan can be told.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct PlanNumber(pub u64);

/// Why a round was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RoundKind {
    /// Its turn had come. These count in a row.
    #[default]
    Regular,
    /// The round before was bad, and whether anything answers is to be known sooner than by the next
    /// turn. An answer counts as any other; silence proves nothing that the regular rounds do not,
    /// so that a stumble does not count several times.
    Confirming,
}

/// Some of the targets of a plan, by their places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Places(u16);

impl Places {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// With one more. A place beyond the 16th, which no plan has, adds nothing.
    #[must_use]
    pub fn with(self, place: usize) -> Self {
        Self(self.0 | Self::bit(place))
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn has(self, place: usize) -> bool {
        self.0 & Self::bit(place) != 0
    }

    fn bit(place: usize) -> u16 {
        u32::try_from(place)
            .ok()
            .and_then(|place| 1_u16.checked_shl(place))
            .unwrap_or(0)
    }
}

/// What it takes for a round to be good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Demand {
    /// Targets that must answer; all where fewer are asked.
    pub required: u16,
    /// Targets whose silence is known to be their own fault: they are not asked for.
    pub aside: Places,
}

/// One round: every target asked once, at the same time. The same round may be told several times,
/// each time with more outcomes known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// The plan.
    pub plan: PlanNumber,
    /// The number of the round within its plan: one more than that of the round before.
    pub sequence: u64,
    /// Why it was sent.
    pub kind: RoundKind,
    /// When it was sent.
    #[serde(with = "super::stored::moment")]
    pub sent_at: Instant,
    /// Who was asked, in the order of the plan.
    #[serde(with = "super::stored::targets")]
    pub targets: Arc<[Target]>,
    /// What came of it, one for each target.
    pub outcomes: Vec<Outcome>,
}

/// What came of one probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Nothing yet.
    Outstanding,
    /// Nothing yet, though an answer would be due by what others took: as good as lost, unless it
    /// comes after all.
    Overdue,
    /// An answer.
    Answered {
        /// How long it took.
        rtt: Duration,
    },
    /// No answer, for good.
    Failed(Failure),
}

/// What a round says about the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

impl Outcome {
    /// Whether it will not change any more.
    #[must_use]
    pub const fn is_settled(&self) -> bool {
        matches!(self, Self::Answered { .. } | Self::Failed(_))
    }

    /// Whether it says that the target is none for the family, and so nothing about the uplink.
    pub(super) const fn is_no_evidence(&self) -> bool {
        matches!(self, Self::Failed(failure) if failure.is_no_evidence())
    }

    /// How much is known, for comparison.
    const fn progress(&self) -> usize {
        match self {
            Self::Outstanding => 0,
            Self::Overdue => 1,
            Self::Answered { .. } | Self::Failed(_) => 2,
        }
    }
}

impl Round {
    /// How many targets were asked; those that are none for the family do not count.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.count(|outcome| !outcome.is_no_evidence())
    }

    /// How many have answered.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Answered { .. }))
    }

    /// Whether nothing of it will change any more.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.outcomes.iter().all(Outcome::is_settled)
    }

    /// How much is known of it, to tell older news from newer.
    pub(super) fn progress(&self) -> usize {
        self.outcomes.iter().map(Outcome::progress).sum()
    }

    /// Whether an answer is still waited for that may come in time.
    pub(super) fn is_waited_for(&self) -> bool {
        self.count(|outcome| matches!(outcome, Outcome::Outstanding)) > 0
    }

    /// The quickest answer.
    #[must_use]
    pub fn quickest(&self) -> Option<Duration> {
        let answers = self.outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Answered { rtt } => Some(*rtt),
            Outcome::Outstanding | Outcome::Overdue | Outcome::Failed(_) => None,
        });
        answers.min()
    }

    /// What the round says by what it takes to be good. `None` while it can still become either; a
    /// round that asked nobody says nothing. One that is bad because answers are overdue may become
    /// good when they come.
    ///
    /// Where others are asked, a gateway that answers proves nothing, so that it is not among those
    /// that must answer.
    #[must_use]
    pub fn verdict(&self, demand: Demand) -> Option<Verdict> {
        let only_gateway = self.targets.iter().all(Target::is_gateway);
        let (mut asked, mut answered, mut waiting) = (0_usize, 0, 0);
        for (place, (target, outcome)) in self.targets.iter().zip(&self.outcomes).enumerate() {
            let proves_nothing = target.is_gateway() && !only_gateway;
            if demand.aside.has(place) || proves_nothing || outcome.is_no_evidence() {
                continue;
            }
            asked += 1;
            match outcome {
                Outcome::Answered { .. } => answered += 1,
                Outcome::Outstanding => waiting += 1,
                Outcome::Overdue | Outcome::Failed(_) => {}
            }
        }
        let needed = usize::from(demand.required).clamp(1, asked.max(1));
        if asked == 0 {
            None
        } else if answered >= needed {
            Some(Verdict::Good)
        } else if answered + waiting < needed {
            Some(Verdict::Bad)
        } else {
            None
        }
    }

    /// What kept the targets from answering, where it is the same for all that did not and more
    /// than silence.
    #[must_use]
    pub fn common_failure(&self) -> Option<&Failure> {
        let mut failures = self.outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Failed(failure) => Some(failure).filter(|failure| !failure.is_no_evidence()),
            Outcome::Overdue => Some(&Failure::Timeout),
            Outcome::Outstanding | Outcome::Answered { .. } => None,
        });
        let first = failures.next()?;
        (*first != Failure::Timeout && failures.all(|other| other == first)).then_some(first)
    }

    /// Whether it counts in a row of bad ones: its turn had come, or it was sent after what
    /// corroborates its silence.
    pub(super) fn counts(&self, corroborated: Option<Instant>) -> bool {
        self.kind == RoundKind::Regular || corroborated.is_some_and(|since| since <= self.sent_at)
    }

    /// Whether an answer is missed by now.
    #[must_use]
    pub fn misses_answers(&self) -> bool {
        self.count(|outcome| matches!(outcome, Outcome::Overdue | Outcome::Failed(_))) > 0
    }

    /// Whether those that did not answer said nothing at all.
    pub(super) fn is_silence(&self) -> bool {
        self.outcomes.iter().all(|outcome| match outcome {
            Outcome::Failed(failure) => *failure == Failure::Timeout || failure.is_no_evidence(),
            Outcome::Outstanding | Outcome::Overdue | Outcome::Answered { .. } => true,
        })
    }

    fn count(&self, wanted: impl Fn(&Outcome) -> bool) -> usize {
        self.outcomes
            .iter()
            .filter(|outcome| wanted(outcome))
            .count()
    }
}

#[cfg(test)]
impl Round {
    /// A regular round that asked two targets, which fared alike, for tests.
    pub(crate) fn of_two(
        plan: PlanNumber,
        sequence: u64,
        sent_at: Instant,
        outcome: Outcome,
    ) -> Self {
        Self {
            plan,
            sequence,
            kind: RoundKind::Regular,
            sent_at,
            targets: [1, 2]
                .map(|host| Target::Icmp([203, 0, 113, host].into()))
                .into(),
            outcomes: vec![outcome; 2],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(outcomes: &[Outcome]) -> Round {
        Round {
            plan: PlanNumber(1),
            sequence: 0,
            kind: RoundKind::Regular,
            sent_at: Instant::now(),
            targets: vec![Target::Icmp([192, 0, 2, 1].into()); outcomes.len()].into(),
            outcomes: outcomes.to_vec(),
        }
    }

    fn required(required: u16) -> Demand {
        Demand {
            required,
            aside: Places::NONE,
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
        assert_eq!(
            round(&[answered(3), OPEN]).verdict(required(1)),
            Some(Verdict::Good)
        );
        assert_eq!(round(&[LOST, OPEN]).verdict(required(1)), None);
        assert_eq!(
            round(&[LOST, LOST]).verdict(required(1)),
            Some(Verdict::Bad)
        );
    }

    #[test]
    fn a_name_without_an_address_of_the_family_counts_neither_as_asked_nor_as_silent() {
        let none = Outcome::Failed(Failure::NoAddress {
            name: "four.example".to_owned(),
            family: crate::family::Family::Ipv6,
        });
        let of_two = round(&[none.clone(), answered(1)]);
        assert_eq!((of_two.asked(), of_two.answered()), (1, 1));
        assert_eq!(of_two.verdict(required(2)), Some(Verdict::Good));
        let silent = round(&[none.clone(), LOST]);
        assert_eq!(silent.verdict(required(1)), Some(Verdict::Bad));
        assert_eq!(silent.common_failure(), None);
        assert_eq!(round(&[none]).verdict(required(1)), None);
    }

    #[test]
    fn a_round_is_bad_as_soon_as_too_few_can_still_answer() {
        assert_eq!(
            round(&[LOST, LOST, OPEN]).verdict(required(2)),
            Some(Verdict::Bad)
        );
        assert_eq!(round(&[LOST, answered(1), OPEN]).verdict(required(2)), None);
    }

    #[test]
    fn more_required_than_asked_means_all_and_none_required_means_one() {
        assert_eq!(
            round(&[answered(1), answered(2)]).verdict(required(9)),
            Some(Verdict::Good)
        );
        assert_eq!(
            round(&[answered(1), LOST]).verdict(required(9)),
            Some(Verdict::Bad)
        );
        assert_eq!(round(&[LOST]).verdict(required(0)), Some(Verdict::Bad));
    }

    #[test]
    fn what_is_overdue_is_lost_until_it_comes() {
        const OVERDUE: Outcome = Outcome::Overdue;
        let bad = Some(Verdict::Bad);
        assert_eq!(round(&[OVERDUE, LOST]).verdict(required(1)), bad);
        assert_eq!(round(&[OVERDUE, OPEN]).verdict(required(1)), None);
        assert_eq!(
            round(&[OVERDUE, answered(700)]).verdict(required(1)),
            Some(Verdict::Good)
        );
    }

    #[test]
    fn what_is_set_aside_is_not_asked_for() {
        let aside = Demand {
            required: 2,
            aside: Places::NONE.with(1),
        };
        let good = Some(Verdict::Good);
        assert_eq!(round(&[answered(1), LOST]).verdict(aside), good);
        assert_eq!(
            round(&[LOST, answered(1)]).verdict(aside),
            Some(Verdict::Bad)
        );
        let all = Demand {
            aside: aside.aside.with(0),
            ..aside
        };
        assert_eq!(round(&[LOST, LOST]).verdict(all), None);
    }

    #[test]
    fn a_round_that_asked_nobody_says_nothing() {
        assert_eq!(round(&[]).verdict(required(1)), None);
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
