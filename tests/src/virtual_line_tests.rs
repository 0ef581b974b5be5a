//! What becomes of lines, each in virtual time.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// The `probe` of a configuration.
fn probe(text: &str) -> ProbeConfig {
    let text = format!("uplinks: {{a: {{interface: eth0}}}}\nprobe: {{{text}}}\n");
    let config = failover::config::parse(&text).unwrap();
    config.uplinks.into_values().next().unwrap().probe
}

#[test]
fn a_rough_line_is_never_down() {
    let course = run(&probe(""), vec![rough], DAY * 20, 1);
    assert!(course.rounds > 20 * 172_000, "{}", course.rounds);
    assert_eq!(course.to(Health::Up).count(), 1);
    assert_eq!(course.changes.len(), 1, "{:?}", course.changes);
}

#[test]
fn half_of_all_lost_is_degraded_within_15_seconds() {
    for seed in 0..200 {
        let begin = SECOND * 60;
        let line = |at: Duration, _: usize, chance: &mut Chance| {
            (at < begin || !happens(chance, 500_000)).then_some(RTT)
        };
        let course = run(&probe("max_loss: 25%"), vec![line], SECOND * 120, seed);
        let degraded = course.to(Health::Degraded).next().unwrap();
        assert!(
            degraded.at > begin && degraded.at < begin + SECOND * 15,
            "{degraded:?}"
        );
        assert_eq!(course.to(Health::Down).count(), 0);
    }
}

#[test]
fn a_target_that_dies_is_no_verdict_against_any_uplink() {
    for targets in ["", "required: 2", "targets: [icmp://192.0.2.1]"] {
        for seed in 0..50 {
            let line = |at: Duration, place: usize, _: &mut Chance| {
                (at < SECOND * 60 || place != 0).then_some(RTT)
            };
            let course = run(&probe(targets), vec![line; 3], SECOND * 600, seed);
            assert_eq!(course.changes.len(), 3, "{targets}: {:?}", course.changes);
            assert_eq!(course.blamed.len(), 1, "{targets}");
        }
    }
}

#[test]
fn two_minutes_up_and_two_down_is_five_switches_in_a_day_at_most() {
    let line = |at: Duration, _: usize, _: &mut Chance| {
        (at.as_secs() / 120).is_multiple_of(2).then_some(RTT)
    };
    let course = run(&probe(""), vec![line], DAY, 1);
    let mut up = false;
    let switches = course.changes.iter().filter(|change| {
        let is_up = change.transition.to == Health::Up;
        std::mem::replace(&mut up, is_up) != is_up
    });
    assert!(switches.count() <= 1 + 5, "{:?}", course.changes);
    let last = course.changes.last().unwrap();
    assert!(last.at > DAY - SECOND * 240, "it is watched all the same");
}

#[test]
fn a_dead_line_is_down_in_a_second_and_a_half_in_the_median() {
    let begin = SECOND * 60;
    for (text, limit) in [("", 1500), ("interval: 100ms", 400)] {
        let mut took: Vec<Duration> = (0..101)
            .map(|seed| {
                let line = |at: Duration, _: usize, _: &mut Chance| (at < begin).then_some(RTT);
                let course = run(&probe(text), vec![line], SECOND * 70, seed);
                course.to(Health::Down).next().unwrap().at - begin
            })
            .collect();
        took.sort();
        assert!(took[50] < Duration::from_millis(limit), "{:?}", took[50]);
        assert!(took[0] > Duration::from_millis(limit / 2), "{:?}", took[0]);
    }
}

#[test]
fn what_returns_is_up_when_the_configuration_says_and_not_sooner() {
    let line = |at: Duration, _: usize, _: &mut Chance| {
        (!(60..120).contains(&at.as_secs())).then_some(RTT)
    };
    for seed in 0..50 {
        let course = run(&probe(""), vec![line], SECOND * 180, seed);
        let up = course.to(Health::Up).nth(1).unwrap().at - SECOND * 120;
        let expected = Duration::from_millis(2000)..Duration::from_millis(2530);
        assert!(expected.contains(&up), "{up:?}");
    }
}

#[test]
fn a_line_that_slows_down_at_once_is_not_down() {
    let line = |at: Duration, _: usize, _: &mut Chance| {
        Some(if at < SECOND * 60 {
            RTT
        } else {
            Duration::from_millis(950)
        })
    };
    for seed in 0..50 {
        let course = run(&probe(""), vec![line], SECOND * 180, seed);
        assert_eq!(course.changes.len(), 1, "{:?}", course.changes);
    }
}

#[test]
fn the_same_seed_gives_the_same_course() {
    let text = |seed| {
        format!("{:?}", {
            let course = run(&probe("max_loss: 4%"), vec![rough; 2], DAY / 10, seed);
            let said = |change: &Change| (change.at, change.uplink, change.transition.to);
            course.changes.iter().map(said).collect::<Vec<_>>()
        })
    };
    assert_eq!(text(3), text(3));
    assert_ne!(text(3), text(4));
}
