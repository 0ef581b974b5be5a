//! What holds for every course of events: written and read back, it is judged as it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use proptest::prelude::*;

use super::format::{Begin, Entry, Line};
use super::{Recorded, Replay, Report};
use crate::config::{Band, Percent, ProbeConfig, QualityLimits, Target};
use crate::family::{Family, PerFamily};
use crate::health::{
    Failure, Health, LinkLoss, Outcome, Places, PlanNumber, Round, RoundKind, Thresholds, Traffic,
    Unanswered,
};

/// Something that happens.
#[derive(Clone, Debug)]
enum Step {
    Round {
        plan: u64,
        sequence: u64,
        confirming: bool,
        sent_before_ms: u64,
        outcomes: Vec<Outcome>,
    },
    Aside(Option<usize>),
    Unanswered(u32),
    Answered(u32),
    Forgiven,
    LinkLost,
    LinkBack,
    PathChanged,
    Thresholds(Thresholds),
    Anew,
    Present(bool),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => (0..400_000_000_u64).prop_map(|ns| Outcome::Answered { rtt: Duration::from_nanos(ns) }),
        3 => Just(Outcome::Failed(Failure::Timeout)),
        2 => Just(Outcome::Overdue),
        2 => Just(Outcome::Outstanding),
        1 => Just(Outcome::Failed(Failure::NotSent("Network is unreachable".to_owned()))),
        1 => Just(Outcome::Failed(Failure::Icmp("host unreachable \"x\"\n".to_owned()))),
    ]
}

fn thresholds() -> impl Strategy<Value = Thresholds> {
    let holds = prop_oneof![Just(Duration::ZERO), Just(Duration::from_secs(600))];
    (1..3_u16, 1..4_u16, 1..4_u16, any::<bool>(), holds).prop_map(
        |(required, down_after, up_after, limited, max_hold)| Thresholds {
            required,
            down_after,
            up_after,
            quality: QualityLimits {
                window: Duration::from_secs(2),
                max_loss: limited.then(|| Band {
                    above: Percent::from_tenths(250).unwrap(),
                    back_at: Percent::from_tenths(187).unwrap(),
                }),
                max_latency: limited.then_some(Band {
                    above: Duration::from_millis(300),
                    back_at: Duration::from_micros(225_500),
                }),
                max_jitter: None,
            },
            max_hold,
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let round = (
        0..2_u64,
        0..60_u64,
        any::<bool>(),
        0..900_u64,
        prop::collection::vec(outcome(), 2),
    );
    prop_oneof![
        30 => round.prop_map(|(plan, sequence, confirming, sent_before_ms, outcomes)| Step::Round {
            plan, sequence, confirming, sent_before_ms, outcomes,
        }),
        1 => prop::option::of(0..2_usize).prop_map(Step::Aside),
        3 => (0..8_u32).prop_map(Step::Unanswered),
        2 => (0..8_u32).prop_map(Step::Answered),
        1 => Just(Step::Forgiven),
        1 => Just(Step::LinkLost),
        2 => Just(Step::LinkBack),
        1 => Just(Step::PathChanged),
        1 => thresholds().prop_map(Step::Thresholds),
        1 => Just(Step::Anew),
        1 => any::<bool>().prop_map(Step::Present),
    ]
}

/// How far the clock goes until the next step, in milliseconds: mostly a little, at times back or days.
fn pause() -> impl Strategy<Value = i64> {
    prop_oneof![
        20 => 0..700_i64,
        1 => -5_000..0_i64,
        1 => Just(3 * 86_400_000_i64),
        1 => Just(-86_400_000_i64),
    ]
}

fn course() -> impl Strategy<Value = Vec<(i64, Step)>> {
    // Rounds go on by themselves as well, so that rows come about.
    prop::collection::vec((pause(), step()), 1..120).prop_map(|steps| {
        let mut next = 0;
        steps
            .into_iter()
            .map(|(pause, step)| {
                let step = match step {
                    Step::Round {
                        plan,
                        sequence,
                        confirming,
                        sent_before_ms,
                        outcomes,
                    } => {
                        let regular = sequence % 4 > 0;
                        next += u64::from(regular);
                        let sequence = if regular { next } else { sequence };
                        Step::Round {
                            plan,
                            sequence,
                            confirming,
                            sent_before_ms,
                            outcomes,
                        }
                    }
                    other => other,
                };
                (pause, step)
            })
            .collect()
    })
}

fn targets() -> Arc<[Target]> {
    [1, 2]
        .map(|host| Target::Icmp([203, 0, 113, host].into()))
        .into()
}

fn moved(now: Instant, milliseconds: i64) -> Instant {
    let distance = Duration::from_millis(milliseconds.unsigned_abs());
    if milliseconds < 0 {
        now - distance
    } else {
        now + distance
    }
}

fn happen(recorded: &mut Recorded, now: Instant, targets: &Arc<[Target]>, step: Step) {
    match step {
        Step::Round {
            plan,
            sequence,
            confirming,
            sent_before_ms,
            outcomes,
        } => {
            let kind = if confirming {
                RoundKind::Confirming
            } else {
                RoundKind::Regular
            };
            let round = Round {
                plan: PlanNumber(plan),
                sequence,
                kind,
                sent_at: now - Duration::from_millis(sent_before_ms),
                targets: Arc::clone(targets),
                outcomes,
            };
            recorded.round(now, &round);
        }
        Step::Aside(place) => {
            let places = place.map_or(Places::NONE, |place| Places::NONE.with(place));
            recorded.set_aside(now, places);
        }
        Step::Unanswered(hosts) => {
            let since = now - Duration::from_millis(u64::from(hosts) * 100);
            let unanswered = Unanswered {
                since,
                hosts,
                packets: hosts * 3,
            };
            recorded.traffic(now, Traffic::Unanswered(unanswered));
        }
        Step::Answered(hosts) => recorded.traffic(now, Traffic::Answered { at: now, hosts }),
        Step::Forgiven => drop(recorded.forgive(now)),
        Step::LinkLost => drop(recorded.link_lost(now, &LinkLoss::NoCarrier)),
        Step::LinkBack => recorded.link_back(now),
        Step::PathChanged => recorded.path_changed(now),
        Step::Thresholds(thresholds) => recorded.set_thresholds(now, thresholds),
        Step::Anew => {
            let thresholds = recorded.thresholds();
            recorded.begin_anew(now, thresholds, Health::Up);
        }
        Step::Present(present) => recorded.set_present(now, present),
    }
}

fn begin(recorded: &mut Recorded, now: Instant) -> Line {
    let known = recorded.record();
    let mut other = Recorded::new(Family::Ipv6, known.machine.thresholds(), Health::Unknown);
    let families = PerFamily {
        ipv4: known,
        ipv6: other.record(),
    };
    let probe = ProbeConfig::default();
    let uplink = "fiber".parse().unwrap();
    let interface = "wan1".parse().unwrap();
    let wall = Timestamp::from_second(1_800_000_000).unwrap();
    Line::Begin(Box::new(Begin::new(
        &uplink, &interface, &probe, now, wall, families,
    )))
}

/// Records what happens from a step on, writes it, reads it back and plays it. Returns how many verdicts
/// the trace has, and what came of it.
fn replayed(
    thresholds: Thresholds,
    initial: Health,
    steps: Vec<(i64, Step)>,
    from: usize,
    other: Option<Thresholds>,
) -> (usize, Report) {
    let mut now = Instant::now();
    let targets = targets();
    let mut recorded = Recorded::new(Family::Ipv4, thresholds, initial);
    recorded.set_present(now, true);
    let mut lines = Vec::new();
    for (place, (pause, step)) in steps.into_iter().enumerate() {
        now = moved(now, pause);
        if place == from {
            lines.push(begin(&mut recorded, now));
        }
        happen(&mut recorded, now, &targets, step);
    }
    if lines.is_empty() {
        lines.push(begin(&mut recorded, now));
    }
    let entries: Vec<Entry> = recorded.take().unwrap();
    let verdict = |entry: &&Entry| matches!(entry.2, super::Observation::Verdict(..));
    let verdicts = entries.iter().filter(verdict).count();
    lines.extend(entries.into_iter().map(Line::Entry));
    let mut replay = Replay::new(other);
    for line in lines {
        let written = line.written().unwrap();
        assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), 1);
        replay.play(Line::parse(&written).unwrap());
    }
    (verdicts, Report::of(&replay, 0, Vec::new()).unwrap())
}

fn health() -> impl Strategy<Value = Health> {
    prop_oneof![
        Just(Health::Unknown),
        Just(Health::Up),
        Just(Health::Degraded),
        Just(Health::Down)
    ]
}

proptest! {
    /// Also where the trace begins in the middle, and where time goes back or jumps by days.
    #[test]
    fn a_trace_gives_the_verdicts_that_were_recorded(
        thresholds in thresholds(),
        initial in health(),
        steps in course(),
        from in 0..60_usize,
    ) {
        let (_, report) = replayed(thresholds, initial, steps, from, None);
        prop_assert!(report.same_as_recorded, "{:#?}", report.contradictions);
    }

    /// The same settings under another name change nothing.
    #[test]
    fn the_same_settings_make_the_same_course(
        thresholds in thresholds(),
        initial in health(),
        steps in course(),
    ) {
        let steps: Vec<_> = steps
            .into_iter()
            .filter(|(_, step)| !matches!(step, Step::Thresholds(_)))
            .collect();
        let (verdicts, report) = replayed(thresholds, initial, steps, 0, Some(thresholds));
        for family in &report.families {
            let other = family.other.as_ref().unwrap();
            prop_assert_eq!(&family.own.changes, &other.changes);
            prop_assert_eq!(&family.own.seconds, &other.seconds);
            prop_assert!(family.differences.is_empty());
            prop_assert!(verdicts == 0 || family.family == Family::Ipv4);
        }
    }

    /// Other settings bring nothing out of step, whatever they are.
    #[test]
    fn other_settings_change_nothing_of_what_was(
        thresholds in thresholds(),
        other in thresholds(),
        steps in course(),
    ) {
        let (_, report) = replayed(thresholds, Health::Up, steps, 0, Some(other));
        prop_assert!(report.same_as_recorded, "{:#?}", report.contradictions);
        for family in &report.families {
            let total = |course: &super::report::CourseReport| {
                course.seconds.iter().map(|lasted| lasted.seconds).sum::<Duration>()
            };
            prop_assert_eq!(total(&family.own), total(family.other.as_ref().unwrap()));
        }
    }

    /// Whatever stands in a line, it is left out or understood.
    #[test]
    fn a_line_that_is_torn_or_foreign_does_no_harm(
        line in prop::collection::vec(any::<u8>(), 0..80),
        cut in 0..200_usize,
    ) {
        drop(Line::parse(&line));
        let mut recorded = Recorded::new(Family::Ipv4, (&ProbeConfig::default()).into(), Health::Up);
        let whole = begin(&mut recorded, Instant::now()).written().unwrap();
        let torn = whole.get(..cut.min(whole.len() - 2)).unwrap();
        prop_assert!(Line::parse(torn).is_none());
    }
}
