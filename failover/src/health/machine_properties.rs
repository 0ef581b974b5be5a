//! What holds for every course of events, not only for those that someone thought of.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::{
    Failure, Health, LinkLoss, Machine, Outcome, PlanNumber, Round, RoundKind, Thresholds,
    Transition, Verdict,
};
use crate::config::{QualityLimits, Target};

const INTERVAL: Duration = Duration::from_millis(100);
const TIMEOUT: Duration = Duration::from_millis(450);

/// A round as it goes: its verdict, and when that is known.
#[derive(Clone, Copy, Debug)]
struct Course {
    sequence: u64,
    verdict: Verdict,
    known_after: Duration,
}

fn courses() -> impl Strategy<Value = Vec<Course>> {
    // Losses are known at the timeout, answers and errors at any time before.
    let outcome = prop_oneof![
        2 => (0..450_u64).prop_map(|ms| (Verdict::Good, Duration::from_millis(ms))),
        2 => Just((Verdict::Bad, TIMEOUT)),
        1 => (0..450_u64).prop_map(|ms| (Verdict::Bad, Duration::from_millis(ms))),
    ];
    // Stretches of the same kind, so that rows of every length come about.
    prop::collection::vec((outcome, 1..6_usize), 1..20).prop_map(|stretches| {
        stretches
            .into_iter()
            .flat_map(|(outcome, length)| std::iter::repeat_n(outcome, length))
            .zip(0..)
            .map(|((verdict, known_after), sequence)| Course {
                sequence,
                verdict,
                known_after,
            })
            .collect()
    })
}

fn thresholds() -> impl Strategy<Value = Thresholds> {
    (1..5_u16, 1..6_u16).prop_map(|(down_after, up_after)| Thresholds {
        required: 1,
        down_after,
        up_after,
        quality: QualityLimits::default(),
        max_hold: Duration::ZERO,
    })
}

fn health() -> impl Strategy<Value = Health> {
    prop_oneof![Just(Health::Unknown), Just(Health::Up), Just(Health::Down)]
}

fn sent(start: Instant, sequence: u64) -> Instant {
    start + INTERVAL * u32::try_from(sequence).unwrap()
}

fn round(start: Instant, course: Course) -> Round {
    let outcome = match course.verdict {
        Verdict::Good => Outcome::Answered {
            rtt: course.known_after,
        },
        Verdict::Bad => Outcome::Failed(Failure::Timeout),
    };
    Round {
        plan: PlanNumber(1),
        sequence: course.sequence,
        kind: RoundKind::Regular,
        sent_at: sent(start, course.sequence),
        targets: [Target::Icmp([192, 0, 2, 1].into())].into(),
        outcomes: vec![outcome],
    }
}

/// The order in which the outcomes become known.
fn by_arrival(start: Instant, courses: &[Course]) -> Vec<Course> {
    let mut order = courses.to_vec();
    order.sort_by_key(|course| sent(start, course.sequence) + course.known_after);
    order
}

fn feed(machine: &mut Machine, start: Instant, course: Course) -> Option<Transition> {
    let now = sent(start, course.sequence) + course.known_after;
    machine.round(now, &round(start, course))
}

/// The plain machine: counts in a row, in the order of sending.
struct Plain {
    thresholds: Thresholds,
    health: Health,
    row: Option<(Verdict, u16)>,
}

impl Plain {
    fn feed(&mut self, verdict: Verdict) -> Health {
        let row = match self.row {
            Some((kind, length)) if kind == verdict => length + 1,
            _ => 1,
        };
        self.row = Some((verdict, row));
        self.health = match (self.health, verdict) {
            (Health::Unknown, Verdict::Good) => Health::Up,
            (Health::Down, Verdict::Good) if row >= self.thresholds.up_after => Health::Up,
            (Health::Unknown | Health::Up, Verdict::Bad) if row >= self.thresholds.down_after => {
                Health::Down
            }
            (health, _) => health,
        };
        self.health
    }
}

/// Whether what is known by now bears a change: a row of consecutive rounds that is long enough, and
/// nothing younger to the contrary. Says it by trying every row, as the rules put it.
fn borne_out(known: &[Course], change: &Transition, thresholds: Thresholds) -> bool {
    let (verdict, needed) = match (change.from, change.to) {
        (Health::Unknown, Health::Up) => (Verdict::Good, 1),
        (Health::Down, Health::Up) => (Verdict::Good, thresholds.up_after),
        (Health::Unknown | Health::Up, Health::Down) => (Verdict::Bad, thresholds.down_after),
        _ => return false,
    };
    let kind = |sequence: u64| {
        known
            .iter()
            .find(|course| course.sequence == sequence)
            .map(|course| course.verdict)
    };
    let overruled_up_to = known
        .iter()
        .filter(|course| course.verdict != verdict)
        .map(|course| course.sequence + 1)
        .max()
        .unwrap_or(0);
    (overruled_up_to..200).any(|first| {
        (first..first + u64::from(needed)).all(|sequence| kind(sequence) == Some(verdict))
    })
}

proptest! {
    #[test]
    fn in_the_order_of_sending_it_is_the_plain_machine(
        courses in courses(), thresholds in thresholds(), initial in health()
    ) {
        let start = Instant::now();
        let mut machine = Machine::new(thresholds, initial);
        let mut plain = Plain { thresholds, health: initial, row: None };
        for course in courses {
            let before = machine.health();
            let change = feed(&mut machine, start, course);
            prop_assert_eq!(machine.health(), plain.feed(course.verdict));
            prop_assert_eq!(change.is_some(), before != machine.health());
        }
    }

    #[test]
    fn in_any_order_of_arrival_every_change_is_borne_out_and_legal(
        courses in courses(), thresholds in thresholds(), initial in health()
    ) {
        let start = Instant::now();
        let mut machine = Machine::new(thresholds, initial);
        let mut known = Vec::new();
        for course in by_arrival(start, &courses) {
            let before = machine.health();
            known.push(course);
            if let Some(change) = feed(&mut machine, start, course) {
                prop_assert_eq!(change.from, before);
                prop_assert!(borne_out(&known, &change, thresholds), "{:?}", change);
            } else {
                prop_assert_eq!(machine.health(), before);
                for to in [Health::Up, Health::Down] {
                    let missed = Transition {
                        from: before,
                        to,
                        at: start,
                        reason: machine.reason(start),
                    };
                    prop_assert!(!borne_out(&known, &missed, thresholds), "missed {:?}", to);
                }
            }
        }
    }

    #[test]
    fn once_all_is_known_it_agrees_with_how_the_rounds_ended(
        courses in courses(), thresholds in thresholds(), initial in health(), good in any::<bool>()
    ) {
        let verdict = if good { Verdict::Good } else { Verdict::Bad };
        let mut courses = courses;
        let next = courses.len() as u64;
        courses.extend((next..next + 6).map(|sequence| Course {
            sequence,
            verdict,
            known_after: if good { Duration::from_millis(5) } else { TIMEOUT },
        }));
        let start = Instant::now();
        let mut machine = Machine::new(thresholds, initial);
        for course in by_arrival(start, &courses) {
            feed(&mut machine, start, course);
        }
        prop_assert_eq!(machine.health(), if good { Health::Up } else { Health::Down });
    }

    #[test]
    fn a_late_loss_never_takes_down_what_has_answered_since(
        courses in courses(), thresholds in thresholds()
    ) {
        let start = Instant::now();
        let mut machine = Machine::new(thresholds, Health::Up);
        let mut youngest_answer = None;
        for course in by_arrival(start, &courses) {
            if course.verdict == Verdict::Good {
                youngest_answer = youngest_answer.max(Some(course.sequence));
            }
            let change = feed(&mut machine, start, course);
            if change.is_some_and(|change| change.to == Health::Down) {
                prop_assert!(youngest_answer < Some(course.sequence));
            }
        }
    }

    #[test]
    fn the_same_trace_gives_the_same_verdicts(
        courses in courses(), thresholds in thresholds(), initial in health()
    ) {
        let start = Instant::now();
        let run = || {
            let mut machine = Machine::new(thresholds, initial);
            by_arrival(start, &courses)
                .into_iter()
                .map(|course| feed(&mut machine, start, course))
                .collect::<Vec<_>>()
        };
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn told_twice_or_by_and_by_a_round_counts_once(
        courses in courses(), thresholds in thresholds(), initial in health()
    ) {
        let start = Instant::now();
        let mut once = Machine::new(thresholds, initial);
        let mut twice = Machine::new(thresholds, initial);
        for course in by_arrival(start, &courses) {
            let mut open = round(start, course);
            open.outcomes[0] = Outcome::Outstanding;
            prop_assert_eq!(twice.round(open.sent_at, &open), None);
            let change = feed(&mut once, start, course);
            prop_assert_eq!(feed(&mut twice, start, course), change);
            prop_assert_eq!(feed(&mut twice, start, course), None);
            prop_assert_eq!(twice.round(open.sent_at, &open), None);
        }
        prop_assert_eq!(once.measured(), twice.measured());
        prop_assert_eq!(once.rtt(), twice.rtt());
    }

    #[test]
    fn moments_that_go_backwards_change_no_verdict_and_break_nothing(
        courses in courses(), thresholds in thresholds(), initial in health(),
        jumps in prop::collection::vec(0..100_000_u64, 120)
    ) {
        let start = Instant::now();
        let mut steady = Machine::new(thresholds, initial);
        let mut jumping = Machine::new(thresholds, initial);
        let jump = |index: usize| start + Duration::from_millis(jumps[index % jumps.len()]);
        for (index, course) in by_arrival(start, &courses).into_iter().enumerate() {
            let expected = feed(&mut steady, start, course).map(|change| (change.from, change.to));
            let mut round = round(start, course);
            round.sent_at = jump(index + 1);
            let change = jumping.round(jump(index), &round).map(|change| (change.from, change.to));
            prop_assert_eq!(change, expected);
            jumping.reason(jump(index + 2)).to_string();
        }
    }

    #[test]
    fn a_lost_link_is_down_whatever_comes_and_whatever_came(
        courses in courses(), thresholds in thresholds(), initial in health(), when in 0..60_usize
    ) {
        let start = Instant::now();
        let mut machine = Machine::new(thresholds, initial);
        let order = by_arrival(start, &courses);
        let (before, after) = order.split_at(when.min(order.len()));
        for course in before {
            feed(&mut machine, start, *course);
        }
        let change = machine.link_lost(start, LinkLoss::NoCarrier);
        prop_assert!(change.is_none_or(|change| change.to == Health::Down));
        for course in after {
            prop_assert_eq!(feed(&mut machine, start, *course), None);
            prop_assert_eq!(machine.health(), Health::Down);
        }
        prop_assert_eq!(machine.reason(start).to_string(), "no carrier");
    }

    #[test]
    fn loss_is_a_fraction(courses in courses(), thresholds in thresholds()) {
        let start = Instant::now();
        let mut machine = Machine::new(thresholds, Health::Up);
        // What was lost while it was dead does not count when it returns.
        let thresholds = Thresholds { down_after: 1000, ..thresholds };
        machine.set_thresholds(thresholds);
        for course in by_arrival(start, &courses) {
            feed(&mut machine, start, course);
            let loss = machine.measured().loss;
            prop_assert!(loss.is_some_and(|loss| (0.0..=1.0).contains(&loss)));
        }
        let lost = courses.iter().filter(|course| course.verdict == Verdict::Bad).count();
        prop_assert_eq!(machine.measured().loss, Some(lost as f64 / courses.len() as f64));
    }
}
