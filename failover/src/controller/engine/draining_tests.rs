//! What is decided about the flows of an uplink that works when a better one comes and goes.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::SignedDuration;

use super::*;
use crate::config;
use crate::health::{Failure, Health, Outcome, PlanNumber, Round};
use crate::interface::InterfaceIndex;
use crate::network::{DefaultRoute, InterfaceAddress, Link, NetworkView};
use crate::state::RememberedHealth;
use crate::wanted::PickedBy;

const FIBER: u8 = 1;
const LTE: u8 = 2;

/// An engine with its own clock and two uplinks of IPv4, the second in reserve.
struct Bench {
    engine: Engine,
    now: Moment,
    sequence: u64,
}

fn id(n: u8) -> UplinkId {
    UplinkId::try_from(n).unwrap()
}

fn view() -> NetworkView {
    let mut view = NetworkView::default();
    for n in [FIBER, LTE] {
        let interface = InterfaceIndex(n.into());
        view.links.insert(
            format!("wan{n}").parse().unwrap(),
            Link::ethernet(interface),
        );
        view.addresses.push(InterfaceAddress {
            interface,
            address: source(n),
            prefix_len: 24,
        });
        view.default_routes.push(DefaultRoute {
            family: Family::Ipv4,
            interface,
            gateway: Some(format!("198.18.1{n}.1").parse().unwrap()),
            source: None,
            metric: n.into(),
        });
    }
    view
}

fn source(n: u8) -> IpAddr {
    format!("198.18.1{n}.2").parse().unwrap()
}

/// What is done about flows of the reserve that are to be forgotten while it works.
fn leaving() -> Vec<Forget> {
    vec![Forget::Leaving {
        uplink: id(LTE),
        family: Family::Ipv4,
        source: Some(source(LTE)),
    }]
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl Bench {
    /// `lte` is what its configuration says beside its priority.
    fn new(lte: &str) -> Self {
        Self::restarted(
            lte,
            &RememberedHealth::new(),
            &RememberedDrains::new(),
            Timestamp::UNIX_EPOCH,
        )
    }

    /// A daemon that begins so many seconds after 1970.
    fn restarted(
        lte: &str,
        health: &RememberedHealth,
        drains: &RememberedDrains,
        wall: Timestamp,
    ) -> Self {
        let config = config::parse(&format!(
            "uplinks:
  fiber: {{interface: wan1, id: 1}}
  lte: {{interface: wan2, id: 2, priority: 2{lte}}}
probe: {{targets: [icmp://203.0.113.1], interval: 500ms, up_after: 5, down_after: 3, max_hold: 0s}}
"
        ))
        .unwrap();
        let ids = config
            .uplinks
            .iter()
            .map(|(name, uplink)| (name.clone(), uplink.id.unwrap()))
            .collect::<BTreeMap<_, _>>();
        let now = Moment {
            at: Instant::now(),
            wall,
        };
        let mut engine = Engine::new(config, PickedBy::Nftables, &ids, health, view(), now);
        engine.resume_drains(drains, now);
        Self {
            engine,
            now,
            sequence: 0,
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now.at += time;
        self.now.wall += time;
    }

    /// Rounds of probes, half a second apart.
    fn rounds(&mut self, count: u64, dead: &[u8]) {
        for _ in 0..count {
            self.pass(Duration::from_millis(500));
            self.sequence += 1;
            for uplink in [FIBER, LTE] {
                let outcome = if dead.contains(&uplink) {
                    Outcome::Failed(Failure::Timeout)
                } else {
                    let rtt = Duration::from_millis(5);
                    Outcome::Answered { rtt }
                };
                let round = Round::of_two(PlanNumber(1), self.sequence, self.now.at, outcome);
                self.engine
                    .round(id(uplink), Family::Ipv4, &round, self.now);
            }
        }
    }

    /// Decides and does it; says which flows are forgotten.
    fn decide(&mut self) -> Vec<Forget> {
        let decision = self.engine.decide(self.now);
        self.engine.forgotten(&decision.forget);
        decision.forget.into_iter().collect()
    }

    /// The better uplink fails and returns.
    fn fail_and_return(&mut self) -> Vec<Forget> {
        self.fail();
        self.rounds(5, &[]);
        self.decide()
    }

    fn fail(&mut self) {
        self.rounds(3, &[FIBER]);
        self.decide();
        assert_eq!(self.chosen(), [LTE]);
    }

    fn chosen(&self) -> Vec<u8> {
        let members = &self.engine.pools().get(Family::Ipv4).members;
        members.keys().map(|id| id.get()).collect()
    }

    fn changes(&mut self) -> Vec<Change> {
        let notices = self.engine.take_drain_notices();
        assert!(notices.iter().all(|notice| notice.uplink.as_str() == "lte"));
        notices.into_iter().map(|notice| notice.change).collect()
    }

    /// Whether it is told as draining.
    fn drains(&self) -> bool {
        let status = self.engine.status(self.now.at);
        let lte = &status.uplinks[1];
        assert!(!status.uplinks[0].draining);
        assert_eq!(lte.draining, lte.ipv4.draining_until.is_some());
        lte.draining
    }
}

fn started(lte: &str) -> Bench {
    let mut bench = Bench::new(lte);
    bench.rounds(1, &[]);
    assert_eq!(bench.decide(), []);
    assert_eq!(bench.chosen(), [FIBER]);
    bench
}

#[test]
fn flows_stay_where_they_are() {
    let mut bench = started("");
    assert_eq!(bench.fail_and_return(), []);
    assert_eq!(bench.chosen(), [FIBER]);
    bench.pass(seconds(100_000));
    bench.rounds(1, &[]);
    assert_eq!(bench.decide(), []);
    assert!(!bench.drains());
    assert_eq!(bench.changes(), []);
}

#[test]
fn flows_move_at_once_but_not_before_the_better_uplink_is_surely_up() {
    let mut bench = started(", flows: {on_up: move}");
    bench.fail();
    bench.rounds(4, &[]);
    assert_eq!(bench.decide(), []);
    bench.rounds(1, &[]);
    assert_eq!(bench.decide(), leaving());
    assert_eq!(bench.decide(), [], "once");
    assert_eq!(bench.changes(), [Change::Moves]);
    assert!(!bench.drains());
    assert!(bench.engine.forgets_again(&leaving()[0]));
    // New ones have come meanwhile.
    assert_eq!(bench.fail_and_return(), leaving());
    bench.fail();
    assert!(!bench.engine.forgets_again(&leaving()[0]));
}

#[test]
fn flows_may_finish_and_are_forgotten_when_their_time_is_over() {
    let mut bench = started(", flows: {on_up: {drain: 60s}}");
    assert_eq!(bench.fail_and_return(), []);
    assert_eq!(bench.chosen(), [FIBER]);
    assert!(bench.drains());
    assert_eq!(bench.changes(), [Change::Drains(seconds(60))]);
    let end = bench.engine.look_again().unwrap();
    assert_eq!(end, bench.now.at + seconds(60));

    bench.pass(seconds(59));
    bench.engine.network(view(), bench.now);
    assert!(!bench.engine.is_stale());
    assert_eq!(bench.decide(), []);
    bench.pass(seconds(1));
    bench.engine.network(view(), bench.now);
    assert!(bench.engine.is_stale(), "time alone makes it decide");
    assert_eq!(bench.decide(), leaving());
    assert_eq!(bench.changes(), [Change::Over]);
    assert!(!bench.drains());
    assert_eq!(bench.engine.look_again(), None);
    assert_eq!(bench.decide(), []);
}

#[test]
fn draining_is_called_off_when_the_better_uplink_fails_again() {
    let mut bench = started(", flows: {on_up: {drain: 60s}}");
    bench.fail_and_return();
    bench.pass(seconds(50));
    bench.fail();
    assert!(!bench.drains());
    assert_eq!(
        bench.changes(),
        [Change::Drains(seconds(60)), Change::CalledOff]
    );
    bench.pass(seconds(60));
    assert_eq!(bench.decide(), []);
    // It begins anew, with the whole time.
    bench.rounds(5, &[]);
    assert_eq!(bench.decide(), []);
    assert!(bench.drains());
    assert_eq!(bench.engine.look_again(), Some(bench.now.at + seconds(60)));
}

#[test]
fn an_uplink_that_keeps_its_flows_when_it_dies_keeps_them_when_their_time_is_over() {
    let mut bench = started(", flows: {on_up: {drain: 60s}, on_down: keep}");
    bench.fail_and_return();
    bench.pass(seconds(60));
    assert_eq!(bench.decide(), []);
    assert!(!bench.drains());
    assert_eq!(
        bench.changes(),
        [Change::Drains(seconds(60)), Change::OverAndKept]
    );
    // Who says that they are to move means it.
    let mut bench = started(", flows: {on_up: move, on_down: keep}");
    assert_eq!(bench.fail_and_return(), leaving());
}

#[test]
fn flows_of_a_metered_uplink_have_five_minutes() {
    let mut bench = started(", metered: true");
    bench.fail_and_return();
    assert_eq!(bench.changes(), [Change::Drains(seconds(300))]);
}

#[test]
fn flows_are_not_given_up_for_a_better_uplink_that_is_silent() {
    let mut bench = started(", flows: {on_up: {drain: 60s}}");
    bench.fail_and_return();
    bench.pass(seconds(60));
    bench.rounds(1, &[FIBER]);
    assert_eq!(bench.decide(), [], "it may be dying");
    bench.rounds(1, &[]);
    assert!(bench.engine.is_stale());
    assert_eq!(bench.decide(), leaving());
}

#[test]
fn flows_that_are_to_move_stay_when_the_better_uplink_fails_before_they_could() {
    let mut bench = started(", flows: {on_up: move}");
    bench.fail();
    bench.rounds(5, &[]);
    bench.engine.decide(bench.now);
    let again = bench.engine.decide(bench.now).forget;
    assert_eq!(
        again.into_iter().collect::<Vec<_>>(),
        leaving(),
        "until it is done"
    );
    bench.fail();
    assert_eq!(bench.decide(), []);
}

#[test]
fn an_uplink_that_dies_while_it_drains_is_treated_as_dead() {
    let mut bench = started(", flows: {on_up: {drain: 60s}}");
    bench.fail_and_return();
    bench.rounds(3, &[LTE]);
    let forgotten = bench.decide();
    assert!(forgotten.contains(&Forget::Uplink(id(LTE), Family::Ipv4)));
    assert!(!bench.drains());
    assert_eq!(bench.engine.look_again(), None);
    bench.pass(seconds(60));
    bench.rounds(5, &[]);
    assert_eq!(bench.decide(), [], "it has no flows any more");
    assert!(!bench.drains());
}

fn both_up() -> RememberedHealth {
    let up = PerFamily {
        ipv4: Health::Up,
        ipv6: Health::Unknown,
    };
    ["fiber", "lte"]
        .map(|name| (name.parse().unwrap(), up))
        .into()
}

#[test]
fn a_restart_alone_moves_nothing() {
    let none = RememberedDrains::new();
    let mut bench = Bench::restarted(
        ", flows: {on_up: move}",
        &both_up(),
        &none,
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(bench.decide(), []);
    bench.rounds(5, &[]);
    assert_eq!(bench.decide(), []);
    assert_eq!(bench.changes(), []);
}

#[test]
fn a_drain_goes_on_after_a_restart() {
    const DRAIN: &str = ", flows: {on_up: {drain: 60s}}";
    let mut bench = started(DRAIN);
    assert_eq!(bench.engine.remembered_drains(), RememberedDrains::new());
    bench.fail_and_return();
    let drains = bench.engine.remembered_drains();
    let began = drains[&"lte".parse().unwrap()].ipv4.unwrap();

    let restarted = |config, after: i64| {
        let now = began + SignedDuration::from_secs(after);
        let mut bench = Bench::restarted(config, &both_up(), &drains, now);
        let forgotten = bench.decide();
        (bench, forgotten)
    };
    let (mut bench, forgotten) = restarted(DRAIN, 20);
    assert_eq!(forgotten, []);
    assert!(bench.drains());
    assert_eq!(bench.engine.remembered_drains(), drains, "nothing to write");
    assert_eq!(bench.engine.look_again(), Some(bench.now.at + seconds(40)));
    bench.pass(seconds(40));
    assert_eq!(bench.decide(), leaving());
    assert_eq!(bench.engine.remembered_drains(), RememberedDrains::new());

    // The time ran out while no daemon ran.
    let (_, forgotten) = restarted(DRAIN, 3_600);
    assert_eq!(forgotten, leaving());
    // A clock that was put back gives the whole time once more, and not years.
    let (bench, forgotten) = restarted(DRAIN, -1_000_000);
    assert_eq!(forgotten, []);
    assert_eq!(bench.engine.look_again(), Some(bench.now.at + seconds(60)));
    // The configuration of today counts.
    let (_, forgotten) = restarted(", flows: {on_up: {drain: 10s}}", 20);
    assert_eq!(forgotten, leaving());
    let (_, forgotten) = restarted(", flows: {on_up: move}", 20);
    assert_eq!(forgotten, leaving());
    let (mut bench, forgotten) = restarted("", 20);
    assert_eq!((forgotten, bench.drains()), (vec![], false));
    assert_eq!(bench.changes(), [Change::CalledOff]);
}

#[test]
fn what_could_not_be_forgotten_is_not_forgotten_over_a_restart() {
    const MOVE: &str = ", flows: {on_up: move}";
    let mut bench = started(MOVE);
    bench.fail();
    bench.rounds(5, &[]);
    bench.engine.decide(bench.now);
    let drains = bench.engine.remembered_drains();
    let mut bench = Bench::restarted(MOVE, &both_up(), &drains, Timestamp::UNIX_EPOCH);
    assert_eq!(bench.decide(), leaving());
}

#[test]
fn the_reserve_that_returns_takes_nobodys_flows() {
    let mut bench = started(", flows: {on_up: move}");
    bench.rounds(3, &[LTE]);
    bench.decide();
    bench.rounds(5, &[]);
    assert_eq!(bench.decide(), []);
    assert_eq!(bench.chosen(), [FIBER]);
    assert_eq!(bench.changes(), []);
}
