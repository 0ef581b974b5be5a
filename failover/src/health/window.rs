//! The last rounds of one plan in the order in which they were sent, whatever the order in which
//! their outcomes came.

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::round::{Demand, Round, RoundKind, Verdict};

/// For each round of a row that must be seen, how many are kept: confirming ones come between.
const BETWEEN: u64 = 8;
/// How many are kept at least, for what is told.
const LEAST: u64 = 16;

/// A round and what it says.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    round: Round,
    verdict: Option<Verdict>,
}

/// The last rounds, by their sequence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Window {
    rounds: BTreeMap<u64, Known>,
    demand: Demand,
    /// How many sequence numbers are looked back.
    reach: u64,
}

/// What a report of a round added to what was known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct News {
    /// The round's verdict, if it is new.
    pub(super) verdict: Option<Verdict>,
    /// Whether it had no answer before and has one now.
    pub(super) first_answer: bool,
    /// The places of targets of which all is known now, and was not before.
    pub(super) settled: Vec<usize>,
}

/// A stretch of bad rounds with no good one after its begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Silence {
    /// When the first of them was sent.
    #[serde(with = "super::stored::moment")]
    pub(super) since: Instant,
    /// How many whose turn had come.
    pub(super) rounds: u64,
}

fn reach(longest: u16) -> u64 {
    u64::from(longest).saturating_mul(BETWEEN).max(LEAST)
}

impl Window {
    /// An empty window in which rows of `longest` rounds can be seen.
    pub(super) fn new(longest: u16, demand: Demand) -> Self {
        Self {
            rounds: BTreeMap::new(),
            demand,
            reach: reach(longest),
        }
    }

    /// Rows of `longest` rounds are to be seen from now on, and this is what it takes to be good.
    pub(super) fn see(&mut self, longest: u16, demand: Demand) {
        self.reach = reach(longest);
        self.demand(demand);
        self.forget_old();
    }

    /// This is what it takes to be good, also for the rounds that are known.
    pub(super) fn demand(&mut self, demand: Demand) {
        if std::mem::replace(&mut self.demand, demand) != demand {
            for known in self.rounds.values_mut() {
                known.verdict = known.round.verdict(demand);
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.rounds.clear();
    }

    /// Takes in a round. One that is too old to matter, or tells less than is known, adds nothing.
    pub(super) fn learn(&mut self, round: &Round) -> News {
        let mut news = News {
            verdict: None,
            first_answer: false,
            settled: Vec::new(),
        };
        let known = self.rounds.get(&round.sequence);
        let told = known.is_some_and(|known| known.round.progress() >= round.progress());
        let newest = self.newest();
        let too_old =
            newest.is_some_and(|newest| round.sequence.saturating_add(self.reach) <= newest);
        if told || too_old {
            return news;
        }
        let verdict = round.verdict(self.demand);
        news.verdict = verdict.filter(|_| known.and_then(|known| known.verdict) != verdict);
        news.first_answer =
            round.answered() > 0 && known.is_none_or(|known| known.round.answered() == 0);
        let was_settled = |place: usize| {
            known
                .and_then(|known| known.round.outcomes.get(place))
                .is_some_and(super::round::Outcome::is_settled)
        };
        let places = round.outcomes.iter().enumerate();
        news.settled = places
            .filter(|(place, outcome)| outcome.is_settled() && !was_settled(*place))
            .map(|(place, _)| place)
            .collect();
        let round = round.clone();
        self.rounds.insert(round.sequence, Known { round, verdict });
        self.forget_old();
        news
    }

    fn newest(&self) -> Option<u64> {
        self.rounds.last_key_value().map(|(sequence, _)| *sequence)
    }

    fn forget_old(&mut self) {
        if let Some(newest) = self.newest() {
            let oldest = newest.saturating_sub(self.reach - 1);
            while let Some(first) = self.rounds.first_entry()
                && *first.key() < oldest
            {
                first.remove();
            }
        }
    }

    /// How many regular rounds in a row have this verdict, the one with this number among them or
    /// between them. Confirming ones count if they were sent after `corroborated`; one to the contrary
    /// ends the row.
    pub(super) fn row_around(
        &self,
        sequence: u64,
        verdict: Verdict,
        corroborated: Option<Instant>,
    ) -> usize {
        let row = |sequences: &mut dyn Iterator<Item = u64>| {
            let mut length = 0;
            for known in sequences.map_while(|sequence| self.rounds.get(&sequence)) {
                match (known.round.kind, known.verdict) {
                    (_, Some(said)) if said == verdict => {
                        length += usize::from(known.round.counts(corroborated));
                    }
                    (RoundKind::Confirming, None) => {}
                    _ => break,
                }
            }
            length
        };
        row(&mut (0..=sequence).rev()) + row(&mut (sequence.saturating_add(1)..u64::MAX))
    }

    /// Whether a younger round says the contrary.
    pub(super) fn overruled(&self, sequence: u64, verdict: Verdict) -> bool {
        self.rounds
            .range(sequence.saturating_add(1)..)
            .any(|(_, known)| known.verdict == Some(verdict.contrary()))
    }

    /// The bad rounds that no good one follows.
    pub(super) fn silence(&self) -> Option<Silence> {
        let mut silence = None;
        for known in self.rounds.values().rev() {
            match known.verdict {
                Some(Verdict::Good) => break,
                None => {}
                Some(Verdict::Bad) => {
                    let before = silence.map_or(0, |known: Silence| known.rounds);
                    let counts = known.round.counts(None);
                    silence = Some(Silence {
                        since: known.round.sent_at,
                        rounds: before + u64::from(counts),
                    });
                }
            }
        }
        silence
    }

    /// The youngest decided round and its verdict. Where answers to it are still waited for, an
    /// older one with the same verdict stands in, so that what is shown does not flicker.
    pub(super) fn last_decided(&self) -> Option<(&Round, Verdict)> {
        let mut decided = self
            .rounds
            .values()
            .rev()
            .filter_map(|known| Some((&known.round, known.verdict?)));
        let youngest = decided.next()?;
        let whole = |(round, _): &(&Round, Verdict)| !round.is_waited_for();
        if whole(&youngest) {
            return Some(youngest);
        }
        decided
            .take_while(|(_, verdict)| *verdict == youngest.1)
            .find(whole)
            .or(Some(youngest))
    }

    /// The length of the youngest row of good rounds.
    pub(super) fn good_row(&self) -> usize {
        self.rounds
            .iter()
            .rev()
            .find(|(_, known)| known.verdict.is_some())
            .filter(|(_, known)| known.verdict == Some(Verdict::Good))
            .map_or(0, |(sequence, _)| {
                self.row_around(*sequence, Verdict::Good, None)
            })
    }

    /// Whether any target answered in the last rounds.
    pub(super) fn any_answer(&self) -> bool {
        self.rounds
            .values()
            .rev()
            .any(|known| known.round.answered() > 0)
    }
}
