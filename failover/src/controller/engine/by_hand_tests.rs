//! What is decided when operators disable uplinks, have them drain, and enable them again.

use std::net::IpAddr;

use super::*;
use crate::controller::engine::tests::{Bench, YAML, both, id, view};
use crate::controller::engine::{Decision, Forget};
use crate::policy::RulePool;
use crate::state::{RememberedDrains, RememberedHealth};
use crate::status::UplinkStatus;
use crate::wanted::routing::{Action, Selector};

const ENDLESS: Order = Order::Drain { time: None };

fn minutes(count: u64) -> Order {
    let time = Some(Duration::from_secs(60 * count));
    Order::Drain { time }
}

fn up(yaml: &str) -> Bench {
    let mut bench = Bench::new(yaml);
    bench.rounds(5, &[]);
    bench.decide();
    bench.engine.take_notices();
    bench
}

impl Bench {
    fn order(&mut self, name: &str, order: Order) -> Obeyed {
        self.order_at(name, order, self.now())
    }

    fn order_at(&mut self, name: &str, order: Order, now: Moment) -> Obeyed {
        let name = name.parse().unwrap();
        self.engine.by_hand(&name, order, now).unwrap()
    }

    fn status(&self, name: &str) -> UplinkStatus {
        let uplinks = self.engine.status(self.now().at).uplinks;
        let named = |uplink: &UplinkStatus| uplink.name.as_str() == name;
        uplinks.into_iter().find(named).unwrap()
    }

    fn steps(&mut self) -> Vec<Step> {
        let notices = self.engine.take_hand_notices();
        notices.into_iter().map(|notice| notice.step).collect()
    }
}

fn later(bench: &Bench, seconds: u64) -> Moment {
    let (now, time) = (bench.now(), Duration::from_secs(seconds));
    Moment {
        at: now.at + time,
        wall: now.wall + time,
    }
}

/// All flows of the first uplink.
fn all_of_fiber() -> std::collections::BTreeSet<Forget> {
    [
        Forget::Uplink(id(1), Family::Ipv4),
        Forget::Uplink(id(1), Family::Ipv6),
        Forget::Unmarked("198.18.11.2".parse().unwrap()),
        Forget::Unmarked("fd00:18:11::2".parse().unwrap()),
    ]
    .into()
}

fn binds(decision: &Decision, source: &str) -> bool {
    let source: IpAddr = source.parse().unwrap();
    let mut rules = decision.wanted.routing.rules.iter();
    rules.any(|rule| rule.selector == Selector::from(source))
}

fn is_closed(decision: &Decision) -> bool {
    let mut rules = decision.wanted.routing.rules.iter();
    rules.any(|rule| rule.selector == Selector::ALL && rule.action == Action::Unreachable)
}

#[test]
fn a_disabled_uplink_is_left_at_once_and_only_its_flows_are_forgotten() {
    let mut bench = up(YAML);
    assert!(binds(&bench.decide(), "198.18.11.2"));
    bench.order("fiber", Order::Disable);
    assert!(bench.engine.is_stale());
    let decision = bench.decide();
    for family in Family::ALL {
        assert_eq!(bench.members(family), [2]);
    }
    assert_eq!(decision.forget, all_of_fiber());
    assert!(!binds(&decision, "198.18.11.2"));
    assert!(binds(&decision, "198.18.12.2"));
    assert_eq!(bench.decide().forget, Default::default(), "once");
    assert_eq!(bench.steps(), [Step::Disabled]);
    let told = bench.engine.take_notices();
    assert_eq!(told.len(), 2);
    assert!(told.iter().all(|notice| notice.to == State::Disabled));
    assert!(
        bench
            .engine
            .irreplaceable(&"fiber".parse().unwrap())
            .is_empty()
    );

    // It is asked on, and says how it would fare.
    bench.rounds(5, &both(1));
    assert_eq!(bench.decide().forget, Default::default());
    let fiber = bench.status("fiber");
    assert_eq!((fiber.state, fiber.ipv4.share), (State::Disabled, 0.0));
    assert!(
        fiber
            .reason
            .starts_with("disabled by hand since 1970-01-01T00:00:00Z; 0 of 2 targets answer"),
        "{}",
        fiber.reason
    );
    assert_eq!(fiber.ipv4.rtt_ms, None);
    assert_eq!(bench.engine.take_notices(), []);

    // And takes part again as its probes say.
    bench.order("fiber", Order::Enable);
    bench.decide();
    assert_eq!(bench.members(Family::Ipv4), [2]);
    assert_eq!(bench.status("fiber").state, State::Down);
    bench.order("fiber", Order::Disable);
    bench.rounds(10, &[]);
    bench.order("fiber", Order::Enable);
    assert_eq!(bench.decide().forget, Default::default());
    assert_eq!(bench.members(Family::Ipv4), [1, 2], "at once");
    assert_eq!(bench.status("fiber").by_hand, None);
    assert_eq!(
        bench.steps(),
        [Step::Enabled, Step::Disabled, Step::Enabled]
    );
}

#[test]
fn flows_that_are_to_be_kept_stay_on_a_disabled_uplink() {
    let mut bench = up(&format!("{YAML}flows: {{on_down: keep}}\n"));
    bench.order("fiber", Order::Disable);
    assert_eq!(bench.decide().forget, Default::default());
    assert_eq!(bench.members(Family::Ipv4), [2]);
}

#[test]
fn a_disabled_uplink_is_no_last_resort() {
    let mut bench = up(YAML);
    bench.rounds(5, &[both(2), both(3)].concat());
    bench.decide();
    assert_eq!(bench.members(Family::Ipv4), [1]);
    bench.order("fiber", Order::Disable);
    let decision = bench.decide();
    assert_eq!(bench.members(Family::Ipv4), [2, 3]);
    assert_eq!(
        decision.forget,
        Default::default(),
        "nobody has their place"
    );
    assert!(!is_closed(&decision));
    let alone = bench.engine.irreplaceable(&"fiber".parse().unwrap());
    assert_eq!(alone, Family::ALL);

    // They are as soon as there is one, though the disabled uplink answers.
    bench.rounds(5, &both(3));
    let forget = bench.decide().forget;
    assert_eq!(bench.members(Family::Ipv4), [2]);
    assert!(all_of_fiber().is_subset(&forget), "{forget:?}");
}

#[test]
fn what_has_no_other_way_than_a_disabled_uplink_does_not_leave_by_main() {
    let mut bench = up(YAML);
    for name in ["wan2", "wan3"] {
        bench.view.links.remove(&name.parse().unwrap());
    }
    bench.look();
    assert!(!is_closed(&bench.decide()));
    bench.order("fiber", Order::Disable);
    let decision = bench.decide();
    assert!(bench.members(Family::Ipv4).is_empty());
    assert!(is_closed(&decision));
    // Another way out that is none of ours is the user's business.
    let mut own = bench.view.default_routes[0].clone();
    own.interface.0 = 9;
    own.metric = 0;
    bench.view.default_routes.push(own);
    bench.look();
    let decision = bench.decide();
    let closed = |family| {
        let mut rules = decision.wanted.routing.rules.iter();
        rules.any(|rule| {
            rule.family == family
                && rule.selector == Selector::ALL
                && rule.action == Action::Unreachable
        })
    };
    assert_eq!(Family::ALL.map(closed), [false, true]);
    bench.order("fiber", Order::Enable);
    assert!(!is_closed(&bench.decide()));
    assert_eq!(bench.members(Family::Ipv4), [1]);
}

#[test]
fn a_draining_uplink_gets_nothing_new_and_keeps_what_it_has() {
    let mut bench = up(YAML);
    bench.order("fiber", ENDLESS);
    let decision = bench.decide();
    assert_eq!(bench.members(Family::Ipv4), [2]);
    assert_eq!(decision.forget, Default::default());
    assert!(binds(&decision, "198.18.11.2"));
    let fiber = bench.status("fiber");
    assert_eq!((fiber.state, fiber.draining), (State::Up, true));
    assert_eq!(fiber.ipv4.draining_until, None);
    assert!(
        fiber
            .reason
            .starts_with("draining by hand since 1970-01-01T00:00:00Z; 2 of 2 "),
        "{}",
        fiber.reason
    );

    // It works: where nothing else does it is used.
    bench.rounds(5, &both(2));
    bench.decide();
    assert_eq!(bench.members(Family::Ipv4), [3]);
    bench.rounds(5, &[both(2), both(3)].concat());
    bench.decide();
    assert_eq!(
        bench.members(Family::Ipv4),
        [1],
        "before those that are down"
    );
    let alone = bench.engine.irreplaceable(&"fiber".parse().unwrap());
    assert_eq!(alone, Family::ALL);
    bench.rounds(5, &both(2));
    assert_eq!(bench.decide().forget, Default::default());
    assert_eq!(bench.members(Family::Ipv4), [3]);
    // It dies as any other.
    bench.rounds(5, &[both(1), both(2)].concat());
    assert!(all_of_fiber().is_subset(&bench.decide().forget));
    assert_eq!(bench.steps(), [Step::Draining]);
}

#[test]
fn rules_find_another_way_than_by_what_is_out_of_use() {
    let mut bench = up(&format!(
        "{YAML}rules:
  - {{name: mail, match: {{protocol: tcp, ports: [25]}}, via: [fiber]}}
  - {{name: calls, match: {{protocol: udp}}, via: [fiber, lte]}}
"
    ));
    let members = |bench: &Bench| -> Vec<Option<Vec<u8>>> {
        let pools = bench.engine.situation().rule_pools;
        let of = |rule: &RulePool| {
            let pool = rule.pools.get(Family::Ipv4).as_ref()?;
            Some(pool.members.keys().map(|id| id.get()).collect())
        };
        pools.iter().map(of).collect()
    };
    assert_eq!(members(&bench), [Some(vec![1]), Some(vec![1])]);
    for order in [ENDLESS, Order::Disable] {
        bench.order("fiber", order);
        bench.decide();
        assert_eq!(members(&bench), [None, Some(vec![3])], "{order:?}");
    }
    bench.order("fiber", Order::Enable);
    bench.order("fiber", ENDLESS);
    bench.rounds(5, &[both(2), both(3)].concat());
    bench.decide();
    assert_eq!(members(&bench), [Some(vec![1]), Some(vec![1])], "no other");
}

#[test]
fn when_its_time_is_over_a_draining_uplink_is_disabled() {
    let mut bench = up(YAML);
    bench.order("fiber", minutes(10));
    bench.decide();
    let end = later(&bench, 600);
    assert_eq!(bench.engine.look_again(), Some(end.at));
    let fiber = bench.status("fiber");
    assert_eq!(fiber.ipv4.draining_until, Some(end.wall));
    let view = bench.view.clone();
    bench.engine.network(view.clone(), later(&bench, 599));
    assert!(!bench.engine.is_stale());
    bench.engine.network(view, end);
    assert!(bench.engine.is_stale());
    let decision = bench.engine.decide(end);
    assert_eq!(decision.forget, all_of_fiber());
    assert_eq!(bench.steps(), [Step::Draining, Step::Drained]);
    let expected = ByHand {
        what: Measure::Disable,
        since: end.wall,
        until: None,
    };
    assert_eq!(bench.status("fiber").by_hand, Some(expected));
    assert_eq!(bench.engine.look_again(), None);
}

#[test]
fn a_second_order_sets_the_time_anew_or_changes_nothing() {
    let mut bench = up(YAML);
    let start = bench.now().wall;
    let first = bench.order("fiber", minutes(10));
    assert_eq!(first.before, None);
    assert_eq!(
        first.now.unwrap().until,
        Some(start + Duration::from_secs(600))
    );
    let at = later(&bench, 60);
    let second = bench.order_at("fiber", minutes(1), at);
    assert_eq!(second.before, first.now);
    assert_eq!(
        second.now.unwrap().until,
        Some(start + Duration::from_secs(120))
    );
    let endless = bench.order_at("fiber", ENDLESS, at);
    assert_eq!(endless.now.unwrap().until, None);
    let again = bench.order_at("fiber", ENDLESS, later(&bench, 90));
    assert_eq!((again.before, again.now), (endless.now, endless.now));
    bench.order_at("fiber", Order::Disable, at);
    let again = bench.order_at("fiber", Order::Disable, later(&bench, 90));
    assert_eq!(again.before, again.now);
    assert_eq!(again.now.unwrap().since, at.wall);
    let refused = bench
        .engine
        .by_hand(&"fiber".parse().unwrap(), ENDLESS, at)
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "fiber is disabled by hand since 1970-01-01T00:01:00Z, so nothing is left to drain; \
         `failover enable fiber` brings it back"
    );
    bench.order("fiber", Order::Enable);
    let again = bench.order("fiber", Order::Enable);
    assert_eq!((again.before, again.now), (None, None));
    assert_eq!(
        bench.steps(),
        [
            Step::Draining,
            Step::Draining,
            Step::Draining,
            Step::Disabled,
            Step::Enabled
        ]
    );
    let unknown = bench
        .engine
        .by_hand(&"fibre".parse().unwrap(), Order::Disable, at)
        .unwrap_err();
    assert_eq!(
        unknown.to_string(),
        "there is no uplink `fibre`; the uplinks are fiber, cable, lte"
    );
}

/// A daemon that knows what the last one knew, and begins so many seconds after it was ordered.
fn restarted(bench: &Bench, seconds: i64) -> (Bench, Moment) {
    let health: RememberedHealth = bench.engine.remembered();
    let mut next = Bench::with(YAML, view(), &health);
    let wall = bench.now().wall.as_second() + seconds;
    let now = Moment {
        at: next.now().at,
        wall: Timestamp::from_second(wall).unwrap(),
    };
    next.engine
        .resume_by_hand(&bench.engine.remembered_by_hand(), now);
    (next, now)
}

fn left(bench: &Bench, now: Moment) -> Option<u64> {
    let end = bench.engine.look_again()?;
    Some(end.duration_since(now.at).as_secs())
}

#[test]
fn the_next_daemon_does_as_this_one_was_told() {
    let mut bench = up(YAML);
    bench.order("fiber", Order::Disable);
    bench.order("cable", minutes(10));
    let health = bench.engine.remembered();
    let verdict = *health
        .get(&"fiber".parse().unwrap())
        .unwrap()
        .get(Family::Ipv4);
    assert_eq!(verdict, Health::Up, "that of its probes");

    let (mut next, now) = restarted(&bench, 120);
    let decision = next.engine.decide(now);
    assert_eq!(next.members(Family::Ipv4), [3]);
    assert_eq!(left(&next, now), Some(480));
    assert_eq!(next.engine.take_notices(), [], "it was told");
    assert_eq!(next.steps(), []);
    assert_eq!(
        next.engine.remembered_by_hand(),
        bench.engine.remembered_by_hand()
    );
    // The last daemon may have ended before it could.
    assert_eq!(decision.forget, all_of_fiber());

    let (mut late, now) = restarted(&bench, 601);
    late.engine.decide(now);
    assert_eq!(late.status("cable").state, State::Disabled);
    assert_eq!(late.steps(), [Step::Drained]);

    let (past, now) = restarted(&bench, -100_000_000);
    assert_eq!(left(&past, now), Some(600), "no longer than it was given");
    let cable = past.status("cable").by_hand.unwrap();
    assert_eq!(cable.until, Some(now.wall + Duration::from_secs(600)));
    assert_eq!(past.status("fiber").state, State::Disabled);
}

#[test]
fn the_end_of_a_drain_follows_a_clock_that_is_set() {
    let mut bench = up(YAML);
    bench.order("fiber", minutes(10));
    bench.decide();
    let view = bench.view.clone();
    let mut now = later(&bench, 60);
    now.wall += Duration::from_secs(100_000);
    bench.engine.network(view.clone(), now);
    assert!(bench.engine.is_stale(), "it is to be written down");
    let fiber = bench.status("fiber").by_hand.unwrap();
    assert_eq!(fiber.until, Some(now.wall + Duration::from_secs(540)));
    bench.engine.decide(now);
    let end = later(&bench, 600).at;
    assert_eq!(bench.engine.look_again(), Some(end));
    now.wall += Duration::from_secs(50);
    bench.engine.network(view, now);
    assert!(!bench.engine.is_stale(), "clocks differ a little");
}

#[test]
fn a_reload_leaves_alone_what_was_done_by_hand() {
    let mut bench = up(YAML);
    bench.order("fiber", Order::Disable);
    bench.order("cable", ENDLESS);
    bench.reload(&YAML.replace("id: 1}", "id: 1, weight: 3}"));
    assert_eq!(bench.members(Family::Ipv4), [3]);
    // The name is the identity, as over a restart.
    let mut elsewhere = bench.view.clone();
    let link = elsewhere
        .links
        .get(&"wan1".parse().unwrap())
        .cloned()
        .unwrap();
    elsewhere.links.insert("wan9".parse().unwrap(), link);
    bench.view = elsewhere;
    bench.look();
    bench.reload(&YAML.replace("wan1", "wan9"));
    assert_eq!(bench.status("fiber").state, State::Disabled);
    assert_eq!(bench.members(Family::Ipv4), [3]);
    bench.reload(&YAML.replace("fiber:", "glass:"));
    bench.rounds(5, &[]);
    bench.decide();
    assert_eq!(bench.members(Family::Ipv4), [1], "nobody disabled that one");
    let kept = bench.engine.remembered_by_hand();
    let names: Vec<&str> = kept.keys().map(UplinkName::as_str).collect();
    assert_eq!(names, ["cable"]);
}

#[test]
fn a_disabled_uplink_is_asked_as_one_that_nobody_needs() {
    let mut bench = up(YAML);
    let interval = |bench: &Bench, uplink| {
        let plans = bench.engine.probe_plans();
        plans.get(&(id(uplink), Family::Ipv4)).unwrap().interval
    };
    let usual = interval(&bench, 1);
    bench.order("fiber", Order::Disable);
    bench.decide();
    assert_eq!(interval(&bench, 1), usual * 5);
    bench.rounds(10, &[both(2), both(3)].concat());
    bench.decide();
    assert_eq!(interval(&bench, 1), usual * 5, "whatever becomes of others");
    bench.order("fiber", Order::Enable);
    bench.decide();
    assert_eq!(interval(&bench, 1), usual);
}

#[test]
fn to_enable_a_better_uplink_is_a_return_like_any_other() {
    let yaml = "
uplinks:
  fiber: {interface: wan1, id: 1}
  lte: {interface: wan2, id: 2, priority: 2, flows: {on_up: {drain: 60s}}}
probe: {targets: [icmp://203.0.113.1, 'icmp://fd00:203::1']}
";
    let mut bench = up(yaml);
    bench.order("fiber", Order::Disable);
    bench.decide();
    assert_eq!(bench.members(Family::Ipv4), [2]);
    bench.order("fiber", Order::Enable);
    bench.decide();
    assert_eq!(bench.members(Family::Ipv4), [1]);
    let lte = bench.status("lte");
    assert!(lte.draining && lte.by_hand.is_none());
    assert_ne!(bench.engine.remembered_drains(), RememberedDrains::new());
}
