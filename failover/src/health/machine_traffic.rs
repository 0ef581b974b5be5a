//! What users' traffic adds to the word of probes, and what it does not.

use std::time::{Duration, Instant};

use super::machine_table::{Bench, TIMEOUT};
use super::{Failure, Health, LinkLoss, Outcome, RoundKind, Traffic, Unanswered};

const OVERDUE: [Outcome; 2] = [Outcome::Overdue, Outcome::Overdue];
const SOON: Duration = Duration::from_millis(100);

/// Users have had no answer by so many hosts since then, as is known now.
fn unanswered(bench: &mut Bench, since: Instant, hosts: u32, now: Instant) {
    let news = Traffic::Unanswered(Unanswered {
        since,
        hosts,
        packets: 3 * hosts,
    });
    bench.machine.traffic(now, news);
}

fn answered(bench: &mut Bench, hosts: u32, at: Instant) {
    bench.machine.traffic(at, Traffic::Answered { at, hosts });
}

#[test]
fn where_users_have_no_answer_either_confirming_rounds_count() {
    let mut bench = Bench::new(Health::Up);
    bench.good(0);
    let (since, now) = (bench.sent(1), bench.sent(3));
    bench.kind = RoundKind::Confirming;
    assert_eq!(bench.tell(2, SOON, OVERDUE), None);
    unanswered(&mut bench, since, 9, now);
    assert_eq!(bench.tell(3, SOON, OVERDUE), None);
    assert_eq!(
        bench.tell(4, SOON, OVERDUE),
        Some(
            "up to down: 0 of 2 targets answer for 1.1 s (3 rounds), \
             27 packets to 9 hosts unanswered for 1.6 s"
                .into()
        )
    );
}

#[test]
fn traffic_alone_takes_no_uplink_down() {
    let mut bench = Bench::new(Health::Up);
    bench.good(0);
    for sequence in 1..60 {
        let (since, now) = (bench.sent(0), bench.sent(sequence));
        unanswered(&mut bench, since, 64, now);
        assert_eq!(bench.good(sequence), None);
    }
    assert_eq!(bench.machine.health(), Health::Up);
}

#[test]
fn one_dead_server_makes_no_confirming_round_count() {
    let mut bench = Bench::new(Health::Up);
    bench.good(0);
    bench.kind = RoundKind::Confirming;
    for sequence in 1..10 {
        let (since, now) = (bench.sent(0), bench.sent(sequence));
        unanswered(&mut bench, since, 1, now);
        assert_eq!(bench.tell(sequence, SOON, OVERDUE), None);
    }
}

#[test]
fn what_was_sent_before_users_missed_answers_counts_as_ever() {
    let mut bench = Bench::new(Health::Up);
    bench.good(0);
    bench.kind = RoundKind::Confirming;
    for sequence in 1..5 {
        assert_eq!(bench.tell(sequence, SOON, OVERDUE), None);
    }
    let (since, now) = (bench.sent(5), bench.sent(6));
    unanswered(&mut bench, since, 9, now);
    assert_eq!(bench.tell(5, SOON, OVERDUE), None);
    assert_eq!(bench.tell(6, SOON, OVERDUE), None);
    assert!(bench.tell(7, SOON, OVERDUE).is_some());
}

#[test]
fn while_users_are_answered_silent_probes_make_it_degraded_and_not_dead() {
    let mut bench = Bench::new(Health::Up);
    bench.good(0);
    let mut told = Vec::new();
    for sequence in 1..20 {
        let now = bench.sent(sequence) + TIMEOUT;
        answered(&mut bench, 14, now);
        told.extend(bench.bad(sequence));
    }
    assert_eq!(
        told,
        ["up to degraded: 0 of 2 targets answer for 2.0 s (3 rounds), but 14 hosts answer users"]
    );
    // They have no answer any more.
    let told = bench.bad(22);
    assert_eq!(told, None, "the row is broken");
    assert_eq!(bench.bad(23), None);
    let told = bench.bad(24);
    assert!(told.is_some_and(|told| told.starts_with("degraded to down")));
}

#[test]
fn one_good_round_ends_the_contradiction() {
    let mut bench = Bench::new(Health::Up);
    bench.good(0);
    for sequence in 1..6 {
        let now = bench.sent(sequence) + TIMEOUT;
        answered(&mut bench, 14, now);
        bench.bad(sequence);
    }
    assert_eq!(bench.machine.health(), Health::Degraded);
    assert_eq!(
        bench.good(9),
        Some("degraded to up: 2 of 2 targets answer".into())
    );
}

#[test]
fn a_page_that_is_another_one_is_believed_whoever_answers_users() {
    let mut bench = Bench::new(Health::Up);
    bench.good(0);
    let portal = Outcome::Failed(Failure::Icmp("host unreachable".into()));
    let told = (1..4).find_map(|sequence| {
        let now = bench.sent(sequence);
        answered(&mut bench, 14, now);
        bench.tell(sequence, SOON, [portal.clone(), portal.clone()])
    });
    assert!(told.is_some_and(|told| told.starts_with("up to down")));
}

#[test]
fn what_was_known_of_another_path_counts_no_more() {
    let mut bench = Bench::new(Health::Up);
    bench.good(0);
    let (since, now) = (bench.sent(0), bench.sent(2));
    unanswered(&mut bench, since, 9, now);
    bench.machine.path_changed(now);
    bench.kind = RoundKind::Confirming;
    for sequence in 3..9 {
        assert_eq!(bench.tell(sequence, SOON, OVERDUE), None);
    }
    bench.machine.link_lost(now, LinkLoss::NoCarrier);
    unanswered(&mut bench, since, 9, now);
    bench.machine.link_back(now);
    assert_eq!(bench.tell(9, SOON, OVERDUE), None);
    assert_eq!(bench.machine.health(), Health::Down);
}
