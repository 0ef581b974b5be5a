//! When rounds are sent, in virtual time.

use super::*;
use crate::health::{Outcome, PlanNumber};

const INTERVAL: Duration = Duration::from_millis(500);

fn tempo(interval: Duration) -> Tempo {
    Tempo::from(&crate::probe::tests::plan(interval))
}

struct Bench {
    pace: Pace,
    start: Instant,
    sequence: u64,
}

impl Bench {
    fn new() -> Self {
        let start = Instant::now();
        Self {
            pace: Pace::new(tempo(INTERVAL), 1, start, INTERVAL),
            start,
            sequence: 0,
        }
    }

    /// The rounds that are sent up to a moment, each with its outcome a tenth of a second later.
    fn sent(&mut self, until_ms: u64, answered: impl Fn(u64) -> bool) -> Vec<(u64, RoundKind)> {
        let mut sent = Vec::new();
        let mut open: Vec<(Instant, u64, bool)> = Vec::new();
        loop {
            let known = open
                .first()
                .map(|(sent_at, ..)| *sent_at + Duration::from_millis(100));
            let now = known.map_or(self.pace.next(), |known| known.min(self.pace.next()));
            let ms = u64::try_from((now - self.start).as_millis()).unwrap();
            if ms > until_ms {
                return sent;
            }
            if known == Some(now) {
                let (sent_at, sequence, good) = open.remove(0);
                let outcome = if good {
                    Outcome::Answered {
                        rtt: Duration::from_millis(4),
                    }
                } else {
                    Outcome::Overdue
                };
                let round = Round {
                    plan: PlanNumber(1),
                    sequence,
                    kind: RoundKind::Regular,
                    sent_at,
                    targets: crate::probe::tests::targets(),
                    outcomes: vec![outcome],
                };
                self.pace.learn(&round, now);
                continue;
            }
            sent.push((ms, self.pace.begin(now)));
            open.push((now, self.sequence, answered(ms)));
            self.sequence += 1;
        }
    }
}

#[test]
fn as_long_as_all_is_well_there_is_a_round_each_interval() {
    let sent = Bench::new().sent(2000, |_| true);
    let regular = |ms| (ms, RoundKind::Regular);
    assert_eq!(sent, [0, 500, 1000, 1500, 2000].map(regular));
}

#[test]
fn a_bad_round_is_followed_closely_until_one_is_answered() {
    let sent = Bench::new().sent(2000, |ms| !(500..800).contains(&ms));
    let moments: Vec<u64> = sent.iter().map(|(ms, _)| *ms).collect();
    assert_eq!(moments, [0, 500, 600, 700, 800, 1000, 1500, 2000]);
    let confirming = sent
        .iter()
        .filter(|(_, kind)| *kind == RoundKind::Confirming);
    assert_eq!(confirming.count(), 3);
}

#[test]
fn silence_that_lasts_is_asked_at_the_interval_again() {
    let sent = Bench::new().sent(6000, |_| false);
    let late: Vec<_> = sent.iter().filter(|(ms, _)| *ms > 3000).copied().collect();
    assert_eq!(late.len(), 6, "{sent:?}");
    assert!(late.iter().all(|(_, kind)| *kind == RoundKind::Regular));
}

#[test]
fn rounds_that_were_missed_are_left_out_and_the_others_keep_their_distance() {
    let mut bench = Bench::new();
    let at = |ms| bench.start + Duration::from_millis(ms);
    assert_eq!(bench.pace.begin(at(0)), RoundKind::Regular);
    assert_eq!(bench.pace.begin(at(1700)), RoundKind::Regular);
    assert_eq!(bench.pace.next(), at(2200));
}

#[test]
fn another_interval_counts_from_now() {
    let mut bench = Bench::new();
    let at = |ms| bench.start + Duration::from_millis(ms);
    bench.pace.begin(at(0));
    bench.pace.follow(tempo(Duration::from_secs(5)), at(0));
    bench.pace.begin(at(500));
    assert_eq!(bench.pace.next(), at(5500));
    bench.pace.follow(tempo(INTERVAL), at(600));
    assert_eq!(bench.pace.next(), at(1000));
    bench.pace.follow(tempo(Duration::from_millis(20)), at(600));
    assert_eq!(bench.pace.next(), at(600), "it is due already");
}

/// The moments at which rounds are sent when users are answered up to a moment.
fn rested(answered_until_ms: u64, until_ms: u64, rest: Duration) -> Vec<u64> {
    let start = Instant::now();
    let tempo = Tempo {
        rest: Some(rest),
        ..tempo(INTERVAL)
    };
    let mut pace = Pace::new(tempo, 1, start, INTERVAL);
    let mut sent = Vec::new();
    loop {
        let now = pace.next();
        let ms = u64::try_from((now - start).as_millis()).unwrap();
        if ms > until_ms {
            return sent;
        }
        let age = Duration::from_millis(ms.saturating_sub(answered_until_ms));
        if !pace.rests(now, || Some(age)) {
            pace.begin(now);
            sent.push(ms);
        }
    }
}

#[test]
fn while_users_are_answered_most_rounds_are_left_out() {
    let sent = rested(20_000, 20_000, Duration::from_secs(5));
    assert_eq!(sent, [0, 5000, 10_000, 15_000, 20_000]);
}

#[test]
fn when_answers_to_users_cease_a_round_is_sent_within_two_tenths_of_a_second() {
    for last_ms in (5001..6000).step_by(17) {
        let sent = rested(last_ms, 7000, Duration::from_secs(5));
        let first = sent.iter().find(|ms| **ms > last_ms).unwrap();
        assert!(*first <= (last_ms + 200).max(5500), "{last_ms}: {sent:?}");
    }
}

#[test]
fn a_suspicion_sends_a_round_at_once_and_is_believed_less_often_where_it_is_wrong() {
    let mut bench = Bench::new();
    let at = |ms| bench.start + Duration::from_millis(ms);
    let mut sent = Vec::new();
    for ms in (10..12_000).step_by(10) {
        bench.pace.suspect(at(ms));
        while bench.pace.next() <= at(ms) {
            if bench.pace.begin(at(ms)) == RoundKind::Confirming {
                sent.push(ms);
            }
            let round = Round {
                plan: PlanNumber(1),
                sequence: ms,
                kind: RoundKind::Regular,
                sent_at: at(ms),
                targets: crate::probe::tests::targets(),
                outcomes: vec![Outcome::Answered {
                    rtt: Duration::from_millis(1),
                }],
            };
            bench.pace.learn(&round, at(ms));
        }
    }
    assert!(sent.len() <= 6, "{sent:?}");
    assert!(sent.windows(2).all(|pair| pair[1] - pair[0] >= 500));
}
