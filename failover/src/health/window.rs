//! The last rounds of one plan in the order in which they were sent, whatever the order in which
//! their outcomes came.

use std::collections::BTreeMap;
use std::time::Instant;

use super::round::{Outcome, Round, Verdict};
use crate::config::Target;

/// How many rounds the loss is taken over.
pub(super) const LOSS_ROUNDS: usize = 60;

/// The last rounds, by their sequence.
#[derive(Clone, Debug)]
pub(super) struct Window {
    rounds: BTreeMap<u64, Round>,
    /// How many sequence numbers are looked back.
    reach: u64,
}

/// What a report of a round added to what was known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// The round's verdict, if it was not decided before.
    pub(super) verdict: Option<Verdict>,
    /// Whether it had no answer before and has one now.
    pub(super) first_answer: bool,
}

/// A stretch of bad rounds with no good one after its begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Silence {
    /// When the first of them was sent.
    pub(super) since: Instant,
    /// How many.
    pub(super) rounds: u64,
}

fn reach(longest: u16) -> u64 {
    u64::from(longest).max(LOSS_ROUNDS as u64)
}

impl Window {
    /// An empty window in which rows of `longest` rounds can be seen.
    pub(super) fn new(longest: u16) -> Self {
        Self {
            rounds: BTreeMap::new(),
            reach: reach(longest),
        }
    }

    /// Rows of `longest` rounds are to be seen from now on.
    pub(super) fn see(&mut self, longest: u16) {
        self.reach = reach(longest);
        self.forget_old();
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.rounds.clear();
    }

    /// Takes in a round. One that is too old to matter, or tells less than is known, adds nothing.
    pub(super) fn learn(&mut self, round: &Round, required: u16) -> News {
        let known = self.rounds.get(&round.sequence);
        let outdated = known.is_some_and(|known| known.outstanding() < round.outstanding())
            || self
                .newest()
                .is_some_and(|newest| round.sequence.saturating_add(self.reach) <= newest);
        if outdated {
            return News {
                verdict: None,
                first_answer: false,
            };
        }
        let decided = known.is_some_and(|known| known.verdict(required).is_some());
        let news = News {
            verdict: round.verdict(required).filter(|_| !decided),
            first_answer: round.answered() > 0 && known.is_none_or(|known| known.answered() == 0),
        };
        self.rounds.insert(round.sequence, round.clone());
        self.forget_old();
        news
    }

    fn newest(&self) -> Option<u64> {
        self.rounds.last_key_value().map(|(sequence, _)| *sequence)
    }

    fn forget_old(&mut self) {
        if let Some(newest) = self.newest() {
            let oldest = newest.saturating_sub(self.reach - 1);
            self.rounds = self.rounds.split_off(&oldest);
        }
    }

    fn is(&self, sequence: u64, verdict: Verdict, required: u16) -> bool {
        self.rounds
            .get(&sequence)
            .is_some_and(|round| round.verdict(required) == Some(verdict))
    }

    /// How many rounds in a row, this one among them, have this verdict.
    pub(super) fn row_around(&self, sequence: u64, verdict: Verdict, required: u16) -> usize {
        let same = |sequence: &u64| self.is(*sequence, verdict, required);
        let before = (0..sequence).rev().take_while(same).count();
        let after = (sequence.saturating_add(1)..u64::MAX)
            .take_while(same)
            .count();
        before + 1 + after
    }

    /// Whether a younger round says the contrary.
    pub(super) fn overruled(&self, sequence: u64, verdict: Verdict, required: u16) -> bool {
        self.rounds
            .range(sequence.saturating_add(1)..)
            .any(|(_, round)| round.verdict(required) == Some(verdict.contrary()))
    }

    /// The bad rounds that no good one follows.
    pub(super) fn silence(&self, required: u16) -> Option<Silence> {
        let mut silence = None;
        for round in self.rounds.values().rev() {
            match round.verdict(required) {
                Some(Verdict::Good) => break,
                None => {}
                Some(Verdict::Bad) => {
                    let rounds = silence.map_or(0, |known: Silence| known.rounds) + 1;
                    silence = Some(Silence {
                        since: round.sent_at,
                        rounds,
                    });
                }
            }
        }
        silence
    }

    /// The youngest decided round and its verdict. Where all its outcomes are not known yet, an
    /// older one with the same verdict stands in, so that what is shown does not flicker.
    pub(super) fn last_decided(&self, required: u16) -> Option<(&Round, Verdict)> {
        let mut decided = self
            .rounds
            .values()
            .rev()
            .filter_map(|round| Some((round, round.verdict(required)?)));
        let youngest = decided.next()?;
        let whole = |(round, _): &(&Round, Verdict)| round.outstanding() == 0;
        if whole(&youngest) {
            return Some(youngest);
        }
        decided
            .take_while(|(_, verdict)| *verdict == youngest.1)
            .find(whole)
            .or(Some(youngest))
    }

    /// The length of the youngest row of good rounds.
    pub(super) fn good_row(&self, required: u16) -> usize {
        self.rounds
            .iter()
            .rev()
            .find(|(_, round)| round.verdict(required).is_some())
            .filter(|(_, round)| round.verdict(required) == Some(Verdict::Good))
            .map_or(0, |(sequence, _)| {
                self.row_around(*sequence, Verdict::Good, required)
            })
    }

    /// The fraction of probes that got no answer, 0.0 to 1.0, over the last [`LOSS_ROUNDS`] rounds;
    /// `None` before the first outcome. A target that never answered while another one did says
    /// something about itself and not about the uplink: it is left out.
    pub(super) fn loss(&self) -> Option<f64> {
        let mut targets = BTreeMap::<&Target, (u32, u32)>::new();
        for result in self.recent().flat_map(|round| &round.results) {
            let (answered, lost) = targets.entry(&result.target).or_default();
            match result.outcome {
                Outcome::Outstanding => {}
                Outcome::Answered { .. } => *answered += 1,
                Outcome::Failed(_) => *lost += 1,
            }
        }
        let any = targets.values().any(|(answered, _)| *answered > 0);
        let (answered, lost) = targets
            .values()
            .filter(|(answered, _)| *answered > 0 || !any)
            .fold((0, 0), |sum, target| (sum.0 + target.0, sum.1 + target.1));
        (answered + lost > 0).then(|| f64::from(lost) / f64::from(answered + lost))
    }

    /// Whether any target answered in the last [`LOSS_ROUNDS`] rounds.
    pub(super) fn any_answer(&self) -> bool {
        self.recent().any(|round| round.answered() > 0)
    }

    fn recent(&self) -> impl Iterator<Item = &Round> {
        self.rounds.values().rev().take(LOSS_ROUNDS)
    }
}
