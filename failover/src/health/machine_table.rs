//! Every state with every event, and the courses of events that users meet.

use std::time::{Duration, Instant};

use super::{
    Failure, Health, LinkLoss, Machine, Outcome, PlanNumber, Reason, Round, RoundKind, Thresholds,
};
use crate::config::{QualityLimits, Target};

pub(super) const THRESHOLDS: Thresholds = Thresholds {
    required: 1,
    down_after: 3,
    up_after: 5,
    quality: QualityLimits {
        window: Duration::from_secs(30),
        max_loss: None,
        max_latency: None,
        max_jitter: None,
    },
    max_hold: Duration::from_secs(1800),
};
const INTERVAL: Duration = Duration::from_millis(500);
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);

/// A machine with a clock, fed with rounds of two targets.
pub(super) struct Bench {
    pub(super) machine: Machine,
    start: Instant,
    plan: PlanNumber,
    pub(super) kind: RoundKind,
}

impl Bench {
    pub(super) fn new(initial: Health) -> Self {
        Self {
            kind: RoundKind::Regular,
            machine: Machine::new(THRESHOLDS, initial),
            start: Instant::now(),
            plan: PlanNumber(1),
        }
    }

    pub(super) fn sent(&self, sequence: u64) -> Instant {
        self.start + INTERVAL * u32::try_from(sequence).unwrap()
    }

    pub(super) fn tell(
        &mut self,
        sequence: u64,
        after: Duration,
        outcomes: [Outcome; 2],
    ) -> Option<String> {
        let sent_at = self.sent(sequence);
        let targets: Vec<_> = (1..=2)
            .map(|host| Target::Icmp([192, 0, 2, host].into()))
            .collect();
        let round = Round {
            plan: self.plan,
            sequence,
            kind: self.kind,
            sent_at,
            targets: targets.into(),
            outcomes: outcomes.into(),
        };
        self.machine
            .round(sent_at + after, &round)
            .map(|change| format!("{} to {}: {}", change.from, change.to, change.reason))
    }

    pub(super) fn good(&mut self, sequence: u64) -> Option<String> {
        let rtt = Duration::from_millis(8);
        let answered = Outcome::Answered { rtt };
        self.tell(sequence, rtt, [answered.clone(), answered])
    }

    pub(super) fn bad(&mut self, sequence: u64) -> Option<String> {
        let lost = Outcome::Failed(Failure::Timeout);
        self.tell(sequence, TIMEOUT, [lost.clone(), lost])
    }

    fn reason(&self, sequence: u64) -> String {
        self.machine.reason(self.sent(sequence)).to_string()
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    GoodRounds(u64),
    BadRounds(u64),
    LinkLost,
    LinkBack,
    PathChanged,
}

#[test]
fn every_state_with_every_event() {
    use Event::{BadRounds, GoodRounds, LinkBack, LinkLost, PathChanged};
    use Health::{Degraded, Down, Unknown, Up};
    let table = [
        (Unknown, GoodRounds(1), Up),
        (Unknown, BadRounds(2), Unknown),
        (Unknown, BadRounds(3), Down),
        (Unknown, LinkLost, Down),
        (Unknown, LinkBack, Unknown),
        (Unknown, PathChanged, Unknown),
        (Up, GoodRounds(9), Up),
        (Up, BadRounds(2), Up),
        (Up, BadRounds(3), Down),
        (Up, LinkLost, Down),
        (Up, LinkBack, Up),
        (Up, PathChanged, Up),
        (Degraded, GoodRounds(1), Up),
        (Degraded, BadRounds(2), Degraded),
        (Degraded, BadRounds(3), Down),
        (Degraded, LinkLost, Down),
        (Degraded, LinkBack, Degraded),
        (Degraded, PathChanged, Degraded),
        (Down, GoodRounds(4), Down),
        (Down, GoodRounds(5), Up),
        (Down, BadRounds(9), Down),
        (Down, LinkLost, Down),
        (Down, LinkBack, Down),
        (Down, PathChanged, Down),
    ];
    for (from, event, to) in table {
        let mut bench = Bench::new(from);
        let now = bench.sent(99);
        let mut changes = 0;
        match event {
            GoodRounds(rounds) => {
                for round in 0..rounds {
                    changes += usize::from(bench.good(100 + round).is_some());
                }
            }
            BadRounds(rounds) => {
                for round in 0..rounds {
                    changes += usize::from(bench.bad(100 + round).is_some());
                }
            }
            LinkLost => {
                changes += usize::from(bench.machine.link_lost(now, LinkLoss::NoCarrier).is_some());
            }
            LinkBack => bench.machine.link_back(now),
            PathChanged => bench.machine.path_changed(now),
        }
        assert_eq!(bench.machine.health(), to, "{from:?} with {event:?}");
        assert_eq!(changes, usize::from(from != to), "{from:?} with {event:?}");
    }
}

#[test]
fn a_first_start_is_up_with_the_first_answer_and_says_so() {
    let mut bench = Bench::new(Health::Unknown);
    assert_eq!(bench.reason(0), "not probed yet");
    let answered = Outcome::Answered {
        rtt: Duration::from_millis(8),
    };
    assert_eq!(
        bench.tell(
            0,
            Duration::from_millis(8),
            [answered, Outcome::Outstanding]
        ),
        Some("unknown to up: first answer after start".into())
    );
    bench.good(0);
    assert_eq!(bench.reason(1), "2 of 2 targets answer");
}

#[test]
fn a_black_hole_takes_the_uplink_down_with_the_third_loss() {
    let mut bench = Bench::new(Health::Up);
    assert_eq!(bench.good(0), None);
    assert_eq!(bench.bad(1), None);
    assert_eq!(bench.bad(2), None);
    assert_eq!(
        bench.bad(3),
        Some("up to down: 0 of 2 targets answer for 2.0 s (3 rounds)".into())
    );
    for sequence in 4..=200 {
        assert_eq!(bench.bad(sequence), None);
    }
    assert_eq!(
        bench.reason(202),
        "0 of 2 targets answer for 1 min 40 s (200 rounds)"
    );
    assert_eq!(bench.machine.rtt(), None);
    assert_eq!(bench.machine.measured().loss, Some(1.0));
}

#[test]
fn what_came_back_must_answer_five_times_in_a_row() {
    let mut bench = Bench::new(Health::Down);
    for sequence in 0..4 {
        assert_eq!(bench.good(sequence), None);
    }
    assert_eq!(
        bench.reason(4),
        "2 of 2 targets answer again, 4 of 5 good rounds"
    );
    assert_eq!(bench.bad(4), None);
    for sequence in 5..9 {
        assert_eq!(bench.good(sequence), None);
    }
    assert_eq!(
        bench.good(9),
        Some("down to up: 5 good rounds in a row".into())
    );
}

#[test]
fn losses_known_late_do_not_kill_what_has_answered_since() {
    let mut bench = Bench::new(Health::Up);
    assert_eq!(bench.good(4), None);
    for sequence in 1..=3 {
        assert_eq!(bench.bad(sequence), None, "round {sequence}");
    }
    assert_eq!(bench.machine.health(), Health::Up);
    assert_eq!(bench.reason(5), "2 of 2 targets answer");
}

#[test]
fn a_loss_in_the_middle_known_late_breaks_a_row_of_good_rounds() {
    let mut bench = Bench::new(Health::Down);
    for sequence in [0, 1, 3, 4, 5] {
        assert_eq!(bench.good(sequence), None, "round 2 is still open");
    }
    assert_eq!(bench.bad(2), None);
    assert_eq!(bench.good(6), None);
    assert!(bench.good(7).is_some());
}

#[test]
fn an_answer_in_the_middle_known_late_completes_a_row_of_good_rounds() {
    let mut bench = Bench::new(Health::Down);
    for sequence in [0, 1, 3, 4] {
        assert_eq!(bench.good(sequence), None);
    }
    assert!(bench.good(2).is_some());
}

#[test]
fn without_carrier_it_is_down_at_once_and_answers_on_their_way_do_not_count() {
    let mut bench = Bench::new(Health::Up);
    bench.good(0);
    let lost_at = bench.sent(1) + Duration::from_millis(100);
    let change = bench
        .machine
        .link_lost(lost_at, LinkLoss::NoCarrier)
        .unwrap();
    assert_eq!((change.to, change.at), (Health::Down, lost_at));
    assert_eq!(change.reason, Reason::LinkLost(LinkLoss::NoCarrier));
    assert_eq!(bench.reason(2), "no carrier");
    for sequence in 1..=6 {
        assert_eq!(bench.good(sequence), None);
    }
    let back_at = bench.sent(9) - Duration::from_millis(1);
    bench.machine.link_back(back_at);
    assert_eq!(bench.reason(9), "link is back, not probed yet");
    for sequence in 4..=8 {
        assert_eq!(bench.good(sequence), None, "sent before the link was back");
    }
    for sequence in 9..13 {
        assert_eq!(bench.good(sequence), None);
    }
    assert!(bench.good(13).is_some());
}

#[test]
fn another_path_keeps_the_verdict_and_restarts_the_count() {
    let mut bench = Bench::new(Health::Up);
    bench.bad(0);
    bench.bad(1);
    let moment = bench.sent(3);
    bench.machine.path_changed(moment);
    assert_eq!(bench.bad(2), None, "sent over the old path");
    assert_eq!(bench.bad(3), None);
    assert_eq!(bench.bad(4), None);
    assert!(bench.bad(5).is_some());
}

#[test]
fn rounds_of_an_older_plan_are_ignored_and_those_of_a_newer_one_count_from_one() {
    let mut bench = Bench::new(Health::Up);
    for sequence in 5000..5002 {
        bench.bad(sequence);
    }
    bench.plan = PlanNumber(2);
    assert_eq!(bench.bad(0), None);
    bench.plan = PlanNumber(1);
    assert_eq!(bench.bad(5002), None);
    bench.plan = PlanNumber(2);
    assert_eq!(bench.bad(1), None);
    assert!(bench.bad(2).is_some());
}

#[test]
fn what_cannot_be_sent_says_why() {
    let mut bench = Bench::new(Health::Up);
    let unsent = Outcome::Failed(Failure::NotSent("Network is unreachable".into()));
    let mut last = None;
    for sequence in 0..3 {
        last = bench.tell(sequence, Duration::ZERO, [unsent.clone(), unsent.clone()]);
    }
    assert_eq!(
        last.as_deref(),
        Some(
            "up to down: 0 of 2 targets answer for 1.0 s (3 rounds): \
             cannot send: Network is unreachable"
        )
    );
}

#[test]
fn loss_is_that_of_the_path_and_a_dead_target_does_not_count() {
    let mut bench = Bench::new(Health::Up);
    assert_eq!(bench.machine.measured().loss, None);
    let lost = Outcome::Failed(Failure::Timeout);
    for sequence in 0..20 {
        let first = if sequence % 4 == 0 {
            lost.clone()
        } else {
            Outcome::Answered {
                rtt: Duration::from_millis(8),
            }
        };
        bench.tell(sequence, TIMEOUT, [first, lost.clone()]);
    }
    assert_eq!(bench.machine.measured().loss, Some(0.25));
    // Half a minute later.
    for sequence in 20..90 {
        bench.good(sequence);
    }
    assert_eq!(bench.machine.measured().loss, Some(0.0));
}

#[test]
fn the_round_trip_time_is_smoothed_by_eighths() {
    let mut bench = Bench::new(Health::Up);
    assert_eq!(bench.machine.rtt(), None);
    bench.good(0);
    assert_eq!(bench.machine.rtt(), Some(Duration::from_millis(8)));
    let rtt = Duration::from_millis(16);
    let slower = Outcome::Answered { rtt };
    bench.tell(1, rtt, [slower.clone(), Outcome::Outstanding]);
    bench.tell(1, rtt, [slower.clone(), slower]);
    assert_eq!(bench.machine.rtt(), Some(Duration::from_millis(9)));
}
