//! Overdue answers, confirming rounds, bad quality, flapping, and targets that are set aside.

use std::time::Duration;

use super::machine_table::{Bench, THRESHOLDS, TIMEOUT};
use super::{Failure, Health, Outcome, Places, RoundKind};
use crate::config::{Band, Percent};

const OVERDUE: [Outcome; 2] = [Outcome::Overdue, Outcome::Overdue];
const SOON: Duration = Duration::from_millis(100);

#[test]
fn overdue_answers_take_the_uplink_down_before_the_timeout() {
    let mut bench = Bench::new(Health::Up);
    bench.good(0);
    assert_eq!(bench.tell(1, SOON, OVERDUE), None);
    assert_eq!(bench.tell(2, SOON, OVERDUE), None);
    assert_eq!(
        bench.tell(3, SOON, OVERDUE),
        Some("up to down: 0 of 2 targets answer for 1.1 s (3 rounds)".into())
    );
}

#[test]
fn an_overdue_answer_that_comes_after_all_saves_the_uplink() {
    let mut bench = Bench::new(Health::Up);
    bench.good(0);
    for sequence in 1..=30 {
        assert_eq!(bench.tell(sequence, SOON, OVERDUE), None);
        if sequence > 1 {
            bench.good(sequence - 1);
        }
    }
    assert_eq!(bench.machine.health(), Health::Up);
}

#[test]
fn the_silence_of_confirming_rounds_makes_no_row_longer() {
    let mut bench = Bench::new(Health::Up);
    bench.good(0);
    bench.bad(1);
    bench.kind = RoundKind::Confirming;
    for sequence in 2..10 {
        assert_eq!(bench.bad(sequence), None);
    }
    bench.kind = RoundKind::Regular;
    assert_eq!(bench.bad(10), None);
    assert!(bench.bad(11).is_some());
}

#[test]
fn an_answer_to_a_confirming_round_ends_a_row_of_bad_ones() {
    let mut bench = Bench::new(Health::Up);
    bench.bad(0);
    bench.bad(1);
    bench.kind = RoundKind::Confirming;
    bench.good(2);
    bench.kind = RoundKind::Regular;
    assert_eq!(bench.bad(3), None);
    assert_eq!(bench.bad(4), None);
    assert!(bench.bad(5).is_some());
}

#[test]
fn too_much_loss_is_degraded_within_a_quarter_of_a_minute_and_the_whole_window_heals_it() {
    let mut bench = Bench::new(Health::Up);
    let mut thresholds = THRESHOLDS;
    thresholds.quality.max_loss = Some(Band {
        above: Percent::from_tenths(250).unwrap(),
        back_at: Percent::from_tenths(180).unwrap(),
    });
    bench.machine.set_thresholds(thresholds);
    for sequence in 0..60 {
        assert_eq!(bench.good(sequence), None);
    }
    let lost = Outcome::Failed(Failure::Timeout);
    let answered = Outcome::Answered { rtt: SOON };
    let degraded = (60..90).find_map(|sequence| {
        let outcomes = [lost.clone(), answered.clone()];
        Some((sequence, bench.tell(sequence, TIMEOUT, outcomes)?))
    });
    let (sequence, said) = degraded.unwrap();
    assert!((70..80).contains(&sequence), "{sequence}");
    assert!(said.starts_with("up to degraded: 2"), "{said}");
    assert!(
        said.ends_with("% of the probes are lost, 25% may be"),
        "{said}"
    );
    let better =
        (sequence + 1..sequence + 90).find_map(|sequence| Some((sequence, bench.good(sequence)?)));
    let (again, said) = better.unwrap();
    assert!(again >= sequence + 15, "{again}");
    assert_eq!(said, "degraded to up: 2 of 2 targets answer");
}

#[test]
fn what_fails_again_soon_is_held_back_and_says_so() {
    let mut bench = Bench::new(Health::Up);
    let mut sequence = 0;
    let mut rounds = |bench: &mut Bench, count: u64, good: bool| {
        let mut said = Vec::new();
        for _ in 0..count {
            said.extend(if good {
                bench.good(sequence)
            } else {
                bench.bad(sequence)
            });
            sequence += 1;
        }
        said
    };
    rounds(&mut bench, 10, false);
    assert_eq!(
        rounds(&mut bench, 10, true),
        ["down to up: 5 good rounds in a row"]
    );
    rounds(&mut bench, 10, false);
    let said = rounds(&mut bench, 10, true);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(
        said[0].starts_with("down to degraded: answers, held back for 1 min 5"),
        "{said:?}"
    );
    assert!(said[0].ends_with("more after 2 failures"), "{said:?}");
    let mut trusted = bench.machine.clone();
    let now = bench.sent(40);
    assert!(trusted.hold(now).is_some());
    assert_eq!(
        trusted.forgive(now).map(|change| change.to),
        Some(Health::Up)
    );
    assert_eq!(rounds(&mut bench, 200, true), Vec::<String>::new());
    assert_eq!(
        rounds(&mut bench, 100, true),
        ["degraded to up: 2 of 2 targets answer"]
    );
}

#[test]
fn a_target_that_is_set_aside_counts_for_nothing() {
    let mut bench = Bench::new(Health::Up);
    let mut thresholds = THRESHOLDS;
    thresholds.required = 2;
    bench.machine.set_thresholds(thresholds);
    let outcomes = || {
        let rtt = SOON;
        [Outcome::Answered { rtt }, Outcome::Failed(Failure::Timeout)]
    };
    bench.good(0);
    bench.tell(1, TIMEOUT, outcomes());
    bench.tell(2, TIMEOUT, outcomes());
    let now = bench.sent(3);
    assert_eq!(bench.machine.set_aside(now, Places::NONE.with(1)), None);
    for sequence in 3..20 {
        assert_eq!(bench.tell(sequence, TIMEOUT, outcomes()), None);
    }
    assert_eq!(bench.machine.measured().loss, Some(0.0));
    bench.machine.set_aside(now, Places::NONE);
    assert!(bench.tell(20, TIMEOUT, outcomes()).is_some());
}
