//! What is told when a line stumbled, with its own settings and with others.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::*;
use crate::family::PerFamily;
use crate::health::{Failure, Health, LinkLoss, Outcome, PlanNumber, Round, Thresholds};
use crate::replay::{Line, Recorded, render};

const INTERVAL: Duration = Duration::from_millis(500);

fn thresholds(down_after: u16) -> Thresholds {
    let probe = ProbeConfig {
        down_after,
        ..ProbeConfig::default()
    };
    Thresholds::from(&probe)
}

/// A line that is up from 10:00 on, silent from round 120 to 130, and without a carrier at the end.
fn lines() -> Vec<Line> {
    let mut now = Instant::now();
    let targets: Arc<[Target]> = [Target::Icmp([192, 0, 2, 1].into())].into();
    let mut recorded = Recorded::new(Family::Ipv4, thresholds(3), Health::Up);
    recorded.set_present(now, true);
    let families = PerFamily {
        ipv4: recorded.record(),
        ipv6: Recorded::new(Family::Ipv6, thresholds(3), Health::Unknown).record(),
    };
    let begin = Begin::new(
        &"fiber".parse().unwrap(),
        &"wan1".parse().unwrap(),
        &ProbeConfig::default(),
        now,
        "2026-11-21T10:00:00Z".parse().unwrap(),
        families,
    );
    for sequence in 0..240 {
        now += INTERVAL;
        let outcome = if (120..130).contains(&sequence) {
            Outcome::Failed(Failure::Timeout)
        } else {
            Outcome::Answered {
                rtt: Duration::from_millis(20),
            }
        };
        let round = Round {
            plan: PlanNumber(1),
            sequence,
            kind: crate::health::RoundKind::Regular,
            sent_at: now,
            targets: Arc::clone(&targets),
            outcomes: vec![outcome],
        };
        recorded.round(now, &round);
    }
    recorded.link_lost(now + INTERVAL, &LinkLoss::NoCarrier);
    let entries = recorded.take().unwrap().into_iter().map(Line::Entry);
    [Line::Begin(Box::new(begin))]
        .into_iter()
        .chain(entries)
        .collect()
}

fn report(lines: Vec<Line>, other: Option<Thresholds>) -> Report {
    let mut replay = Replay::new(other);
    for line in lines {
        replay.play(line);
    }
    Report::of(&replay, 0, Vec::new()).unwrap()
}

fn steps(course: &CourseReport) -> Vec<(&str, &str, &str)> {
    let changes = course.changes.iter();
    changes
        .map(|change| {
            (
                change.from.as_str(),
                change.to.as_str(),
                change.reason.as_str(),
            )
        })
        .collect()
}

#[test]
fn a_summary_counts_times_and_changes() {
    let report = report(lines(), None);
    let [family] = report.families.as_slice() else {
        panic!("one family: {report:#?}");
    };
    assert_eq!(
        steps(&family.own),
        [
            ("up", "down", "0 of 1 target answers for 1.0 s (3 rounds)"),
            ("down", "up", "5 good rounds in a row"),
            ("up", "down", "no carrier"),
        ]
    );
    assert_eq!(family.own.times_down, 2);
    // From the third silent round to the fifth that is answered again.
    let lasted = |state, seconds| Lasted { state, seconds };
    let down = INTERVAL * 12;
    assert_eq!(
        family.own.seconds,
        [
            lasted(State::Up, INTERVAL * 241 - down),
            lasted(State::Down, down)
        ]
    );
    assert!(report.same_as_recorded);
    let ended: Timestamp = "2026-11-21T10:02:00.5Z".parse().unwrap();
    assert_eq!(report.until, ended);
}

#[test]
fn other_settings_are_compared_moment_by_moment() {
    let report = report(lines(), Some(thresholds(100)));
    let [family] = report.families.as_slice() else {
        panic!("one family: {report:#?}");
    };
    let other = family.other.as_ref().unwrap();
    // No patience helps against a lost carrier.
    assert_eq!(steps(other), [("up", "down", "no carrier")]);
    let [difference] = family.differences.as_slice() else {
        panic!("one difference: {report:#?}");
    };
    assert_eq!((difference.own, difference.other), (State::Down, State::Up));
    assert_eq!(difference.lasted, INTERVAL * 12);
    let text = render(&report, &TimeZone::UTC, Some("patient.yaml"));
    let expected = "\
fiber (wan1), 2026-11-21 10:00:00.000 to 2026-11-21 10:02:00.500

WHEN                     FAMILY  AS IT WAS  WITH patient.yaml  WHY
2026-11-21 10:01:01.500  IPv4    up → down                     0 of 1 target answers for 1.0 s (3 rounds)
2026-11-21 10:01:07.500  IPv4    down → up                     5 good rounds in a row
2026-11-21 10:02:00.500  IPv4    up → down  up → down          no carrier

                        AS IT WAS   WITH patient.yaml
IPv4  up                1 min 54 s  2 min 0 s
      down              6.0 s
      times down        2           1
      changes of state  3           1

IPv4: it would have gone down 1 time instead of 2, and the states would have differed for 6.0 s:
  2026-11-21 10:01:01.500, 6.0 s: up instead of down
Played with the settings of the trace, the verdicts are those that were recorded.
";
    assert_eq!(text, expected, "{text}");
}

#[test]
fn a_verdict_that_is_missing_or_another_is_told() {
    let mut lines = lines();
    let verdict = |line: &Line| matches!(line, Line::Entry(entry) if matches!(entry.2, crate::replay::Observation::Verdict(..)));
    let at = lines.iter().position(verdict).unwrap();
    let taken = lines.remove(at);
    let report_of_less = report(lines.clone(), None);
    assert!(!report_of_less.same_as_recorded);
    assert!(
        report_of_less.contradictions[0].contains("recorded nothing, played `up → down"),
        "{report_of_less:#?}"
    );
    lines.insert(at - 5, taken);
    let report_of_other = report(lines, None);
    assert_eq!(
        report_of_other.contradictions.len(),
        2,
        "{report_of_other:#?}"
    );
}

#[test]
fn a_clock_that_is_set_is_told_and_changes_no_time() {
    let mut lines = lines();
    let begin = match &lines[0] {
        Line::Begin(begin) => begin.clone(),
        line => panic!("{line:?}"),
    };
    let clock = crate::replay::format::Clock {
        clock: begin.at,
        wall: "2026-11-24T10:00:00Z".parse().unwrap(),
    };
    lines.insert(1, Line::Clock(clock));
    let report = report(lines, None);
    assert_eq!(report.clock_jumps.len(), 1);
    assert_eq!(report.families[0].own.changes.len(), 3);
    let after: Timestamp = "2026-11-24T10:01:01.5Z".parse().unwrap();
    assert_eq!(report.families[0].own.changes[0].time, after);
}

#[test]
fn a_part_that_follows_another_changes_nothing_and_one_that_does_not_is_a_gap() {
    let mut lines = lines();
    let mut begin = match &lines[0] {
        Line::Begin(begin) => begin.clone(),
        line => panic!("{line:?}"),
    };
    begin.part = 1;
    begin.wall = "2026-11-21T10:00:50Z".parse().unwrap();
    // What it knows is outdated, and not looked at, since nothing is missing.
    lines.insert(100, Line::Begin(begin.clone()));
    let whole = report(lines.clone(), None);
    assert!(whole.same_as_recorded && whole.gaps.is_empty());
    begin.part = 3;
    lines[100] = Line::Begin(begin);
    let report = report(lines, None);
    assert_eq!(report.gaps.len(), 1);
}

#[test]
fn what_other_probes_would_have_told_is_named() {
    let lines = lines();
    let Some(Line::Begin(begin)) = lines.first() else {
        panic!("it begins");
    };
    assert_eq!(not_replayed(begin, &ProbeConfig::default()), [""; 0]);
    let mut other = ProbeConfig {
        interval: Duration::from_millis(100),
        timeout: Duration::from_secs(2),
        ..ProbeConfig::default()
    };
    other.targets.remove(0);
    other.targets.push(Target::Icmp([192, 0, 2, 7].into()));
    assert_eq!(
        not_replayed(begin, &other),
        [
            "interval: 500ms -> 100ms",
            "timeout: 1s -> 2s",
            "targets that were asked: icmp://1.1.1.1",
            "targets that were not asked: icmp://192.0.2.7",
        ]
    );
}
