//! Who is to blame for which silence.

use std::time::{Duration, Instant};

use super::*;
use crate::health::Failure;

struct Bench {
    blame: Blame,
    sequence: u64,
    asked: Asked,
    targets: Arc<[Target]>,
    start: Instant,
}

fn target(host: u8) -> Target {
    Target::Icmp([203, 0, 113, host].into())
}

fn id(number: u8) -> UplinkId {
    UplinkId::try_from(number).unwrap()
}

impl Bench {
    fn new(targets: u8, required: u16) -> Self {
        Self {
            blame: Blame::default(),
            sequence: 0,
            asked: Asked {
                required,
                down_after: 3,
            },
            targets: (1..=targets).map(target).collect(),
            start: Instant::now(),
        }
    }

    /// Rounds by two uplinks; `silent` are those by which and of whom nothing is heard.
    fn rounds(&mut self, count: u64, silent: &[(u8, u8)]) -> Vec<String> {
        let mut said = Vec::new();
        for _ in 0..count {
            self.sequence += 1;
            for uplink in [1, 2] {
                let outcomes = (1..=u8::try_from(self.targets.len()).unwrap())
                    .map(|host| {
                        if silent.contains(&(uplink, host)) {
                            Outcome::Failed(Failure::Timeout)
                        } else {
                            let rtt = Duration::from_millis(4);
                            Outcome::Answered { rtt }
                        }
                    })
                    .collect();
                let round = Round {
                    plan: PlanNumber(1),
                    sequence: self.sequence,
                    kind: RoundKind::Regular,
                    sent_at: self.start,
                    targets: Arc::clone(&self.targets),
                    outcomes,
                };
                let changes = self
                    .blame
                    .learn(id(uplink), Family::Ipv4, self.asked, &round);
                said.extend(changes.iter().map(|change| {
                    let by = change.uplink.map_or("all".to_owned(), |id| id.to_string());
                    let what = if change.back { "back" } else { "aside" };
                    format!("{} by {by}: {what}", change.target)
                }));
            }
        }
        said
    }

    fn aside(&self, uplink: u8) -> Vec<String> {
        let aside = self.blame.set_aside(id(uplink), Family::Ipv4);
        aside.map(ToString::to_string).collect()
    }
}

const NOTHING: [&str; 0] = [];

#[test]
fn a_target_that_is_silent_by_all_uplinks_is_to_blame_before_any_uplink_is() {
    let mut bench = Bench::new(2, 2);
    assert_eq!(bench.rounds(5, &[]), NOTHING);
    assert_eq!(
        bench.rounds(3, &[(1, 1), (2, 1)]),
        ["icmp://203.0.113.1 by all: aside"]
    );
    assert_eq!(bench.rounds(100, &[(1, 1), (2, 1)]), NOTHING);
    assert_eq!(bench.aside(1), ["icmp://203.0.113.1"]);
    assert_eq!(bench.blame.aside(id(2), Family::Ipv4), Places::NONE.with(0));
    assert_eq!(bench.rounds(2, &[]), NOTHING);
    assert_eq!(bench.rounds(1, &[]), ["icmp://203.0.113.1 by all: back"]);
    assert_eq!(bench.aside(1), NOTHING);
}

#[test]
fn so_is_the_only_one() {
    let mut bench = Bench::new(1, 1);
    bench.rounds(5, &[]);
    assert_eq!(bench.rounds(9, &[(1, 1), (2, 1)]).len(), 1);
    assert_eq!(bench.aside(1), ["icmp://203.0.113.1"]);
}

#[test]
fn when_all_targets_are_silent_none_is_to_blame() {
    let mut bench = Bench::new(2, 1);
    bench.rounds(5, &[]);
    let all = [(1, 1), (1, 2), (2, 1), (2, 2)];
    assert_eq!(bench.rounds(100, &all), NOTHING);
}

#[test]
fn a_dead_uplink_puts_the_blame_on_no_target() {
    let mut bench = Bench::new(2, 1);
    bench.rounds(5, &[]);
    assert_eq!(bench.rounds(100, &[(1, 1), (1, 2)]), NOTHING);
}

#[test]
fn one_that_is_silent_by_one_uplink_is_set_aside_there_if_enough_are_left() {
    let mut bench = Bench::new(3, 2);
    bench.rounds(5, &[]);
    assert_eq!(
        bench.rounds(100, &[(2, 3)]),
        ["icmp://203.0.113.3 by 2: aside"]
    );
    assert_eq!(bench.aside(1), NOTHING);
    assert_eq!(bench.aside(2), ["icmp://203.0.113.3"]);
    assert_eq!(bench.rounds(3, &[]), ["icmp://203.0.113.3 by 2: back"]);

    let mut demanding = Bench::new(2, 2);
    demanding.rounds(5, &[]);
    assert_eq!(demanding.rounds(100, &[(2, 2)]), NOTHING);
}

#[test]
fn one_that_never_answered_is_set_aside_too() {
    let mut bench = Bench::new(2, 2);
    assert_eq!(
        bench.rounds(20, &[(1, 2), (2, 2)]),
        ["icmp://203.0.113.2 by all: aside"]
    );
}

#[test]
fn an_uplink_that_is_not_asked_any_more_does_not_stand_in_the_way() {
    let mut bench = Bench::new(2, 1);
    bench.rounds(5, &[]);
    bench.rounds(20, &[(2, 1), (2, 2)]);
    bench.blame.forget(id(1), Family::Ipv4);
    assert_eq!(bench.aside(1), NOTHING);
}
