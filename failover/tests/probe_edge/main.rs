//! Probes through real sockets, in namespaces of their own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; clippy does not know a test without the standard harness"
)]

mod gateway;
mod kinds;
mod leaving;
mod network;
mod programs;
mod servers;
mod serving;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use failover::config::Target;
use failover::family::Family;
use failover::health::{Failure, Outcome, Round};
use failover::interface::InterfaceIndex;
use failover::mark::MarkMask;
use failover::probe::{ProbePlan, Prober, Report};
use failover::uplink::UplinkId;
use libtest_mimic::{Arguments, Failed, Trial};
use network::{ANSWERING, Network, REFUSED, SILENT, provider, source};
use tokio::sync::mpsc;

const INTERVAL: Duration = Duration::from_millis(20);
const TIMEOUT: Duration = Duration::from_millis(100);
/// Longer than any test waits: what comes before it did not come by timeout.
const NEVER: Duration = Duration::from_secs(60);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let mut trials = Vec::new();
    for (name, test) in [
        (
            "answers_come_through_the_right_interface_with_the_mark",
            marked as fn(usize),
        ),
        (
            "a_silent_target_is_a_timeout_and_the_other_target_is_not_kept_waiting",
            silent,
        ),
        ("every_answer_is_told_before_all_is_known", gathered),
        ("an_icmp_error_is_a_failure_at_once", refused),
        (
            "an_interface_that_is_made_anew_is_probed_by_the_next_plan",
            made_anew,
        ),
        (
            "a_plan_that_can_send_nothing_says_why_and_goes_on",
            unsendable,
        ),
        ("tcp_connections", kinds::tcp),
        ("pages", kinds::http),
        ("pages_over_tls", kinds::https),
        ("questions_to_name_servers", kinds::dns),
        ("names_are_resolved_through_the_uplink", kinds::names),
        (
            "a_resolver_that_the_uplink_does_not_lead_to_is_asked_directly",
            kinds::local_resolver,
        ),
        (
            "the_gateway_is_asked_on_its_link",
            gateway::asked_on_its_link,
        ),
        (
            "the_gateway_answers_again_after_its_interface_was_down",
            gateway::returns,
        ),
        ("programs_answer_by_their_status", programs::answering),
        (
            "programs_that_hang_are_killed_with_all_that_they_began",
            programs::hanging,
        ),
        (
            "one_program_of_a_target_runs_at_a_time",
            programs::one_at_a_time,
        ),
    ] {
        for (place, family) in Family::ALL.into_iter().enumerate() {
            trials.push(Trial::test(format!("{name}::{family}"), move || {
                as_root(|| test(place))
            }));
        }
    }
    trials.push(Trial::test("two_hundred_replacements_leak_nothing", || {
        as_root(replaced)
    }));
    trials.push(Trial::test(
        "plans_that_end_in_the_middle_of_every_kind_leave_nothing_open",
        || as_root(leaving::dropped),
    ));
    trials.push(Trial::test("an_equal_plan_is_left_alone", || {
        as_root(left_alone)
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn as_root(test: impl FnOnce()) -> Result<(), Failed> {
    if !nix::unistd::geteuid().is_root() {
        return Err("this test makes network namespaces: run it as root".into());
    }
    test();
    Ok(())
}

fn uplink(number: u8) -> UplinkId {
    UplinkId::try_from(number).unwrap()
}

/// A plan for `wan1`.
fn plan(index: InterfaceIndex, place: usize, targets: &[IpAddr], timeout: Duration) -> ProbePlan {
    ProbePlan {
        uplink: uplink(1),
        name: "fiber".parse().unwrap(),
        family: Family::ALL[place],
        interface: "wan1".parse().unwrap(),
        index,
        source: source(1)[place],
        gateway: None,
        mark: MarkMask::DEFAULT.probe(uplink(1)),
        targets: targets.iter().copied().map(Target::Icmp).collect(),
        interval: INTERVAL,
        timeout,
        required: 1,
        down_after: 3,
        rest: None,
    }
}

fn plans(plan: ProbePlan) -> BTreeMap<(UplinkId, Family), ProbePlan> {
    BTreeMap::from([((plan.uplink, plan.family), plan)])
}

/// A prober and what it reports.
fn prober() -> (Prober, mpsc::Receiver<Report>) {
    let (sender, receiver) = mpsc::channel(16);
    (Prober::new(sender, None), receiver)
}

/// The next round of which `wanted` holds.
async fn next(reports: &mut mpsc::Receiver<Report>, wanted: impl Fn(&Round) -> bool) -> Round {
    within_5_s("such a round comes", async {
        loop {
            let report = reports.recv().await.expect("the prober runs");
            if wanted(&report.round) {
                return report.round;
            }
        }
    })
    .await
}

async fn within_5_s<T>(what: &str, event: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(Duration::from_secs(5), event).await;
    waited.unwrap_or_else(|_| panic!("{what} within 5 s"))
}

fn whole(round: &Round) -> bool {
    round.is_settled()
}

fn marked(place: usize) {
    let network = Network::new();
    let index = network.index("wan1");
    network.on_gateway(async || {
        let (mut prober, mut reports) = prober();
        // The default route leads elsewhere, and targets of the other family are left out.
        let often = plan(index, place, &ANSWERING, NEVER);
        let begin = Instant::now();
        // The first round does not wait for its turn.
        prober.set_plans(plans(ProbePlan {
            interval: NEVER,
            ..often.clone()
        }));
        next(&mut reports, whole).await;
        prober.set_plans(BTreeMap::new());
        prober.set_plans(plans(often));
        for sequence in 0..5 {
            let round = next(&mut reports, whole).await;
            assert_eq!(round.sequence, sequence);
            assert_eq!((round.asked(), round.answered()), (1, 1), "{round:?}");
            assert!(round.quickest().unwrap() < begin.elapsed());
        }
    });
    let (right, all) = network.requests();
    assert!(right >= 5, "{right} of {all}");
    assert_eq!(right, all);
}

fn silent(place: usize) {
    let network = Network::new();
    let index = network.index("wan1");
    network.on_gateway(async || {
        let (mut prober, mut reports) = prober();
        let targets = [SILENT[place], ANSWERING[place]];
        prober.set_plans(plans(plan(index, place, &targets, NEVER)));
        let early = next(&mut reports, |round| round.answered() == 1).await;
        assert!(matches!(early.outcomes[1], Outcome::Answered { .. }));
        prober.set_plans(plans(plan(index, place, &targets, TIMEOUT)));
        let late = next(&mut reports, whole).await;
        assert_eq!(late.outcomes[0], Outcome::Failed(Failure::Timeout));
        assert!(late.sent_at.elapsed() >= TIMEOUT);
    });
}

/// The first makes the round good, and the second changes nothing.
fn gathered(place: usize) {
    let network = Network::new();
    let index = network.index("wan1");
    network.on_gateway(async || {
        let (mut prober, mut reports) = prober();
        let targets = [ANSWERING[place], provider(1)[place], SILENT[place]];
        prober.set_plans(plans(ProbePlan {
            interval: NEVER,
            ..plan(index, place, &targets, NEVER)
        }));
        let round = next(&mut reports, |round| round.answered() == 2).await;
        assert_eq!(round.outcomes[2], Outcome::Outstanding);
    });
}

fn refused(place: usize) {
    let network = Network::new();
    let index = network.index("wan1");
    network.on_gateway(async || {
        let (mut prober, mut reports) = prober();
        prober.set_plans(plans(plan(index, place, &[REFUSED[place]], NEVER)));
        let round = next(&mut reports, whole).await;
        let expected = format!("port unreachable, says {}", REFUSED[place]);
        assert_eq!(round.outcomes[0], Outcome::Failed(Failure::Icmp(expected)));
    });
}

fn made_anew(place: usize) {
    let network = Network::new();
    let old = network.index("wan1");
    network.on_gateway(async || {
        let (mut prober, mut reports) = prober();
        let targets = [ANSWERING[place]];
        prober.set_plans(plans(plan(old, place, &targets, TIMEOUT)));
        let before = next(&mut reports, |round| round.answered() == 1).await;

        network.remove(1);
        next(&mut reports, |round| round.answered() == 0).await;
        network.connect(1);
        let new = network.index("wan1");
        assert_ne!(old, new);
        // The plan is for an interface that is gone, whatever its successor is called.
        for _ in 0..5 {
            let round = next(&mut reports, whole).await;
            assert_eq!(round.answered(), 0);
        }

        prober.set_plans(plans(plan(new, place, &targets, TIMEOUT)));
        let after = next(&mut reports, |round| round.answered() == 1).await;
        assert!(after.plan > before.plan);
        assert_eq!(
            prober.plan_number(uplink(1), Family::ALL[place]),
            Some(after.plan)
        );
    });
}

fn unsendable(place: usize) {
    let network = Network::new();
    let index = network.index("wan1");
    network.on_gateway(async || {
        let (mut prober, mut reports) = prober();
        let mut foreign = plan(index, place, &[ANSWERING[place]], NEVER);
        foreign.source = REFUSED[place];
        prober.set_plans(plans(foreign));
        for sequence in 0..3 {
            let round = next(&mut reports, |_| true).await;
            assert_eq!(round.sequence, sequence);
            let Outcome::Failed(Failure::NotSent(why)) = &round.outcomes[0] else {
                panic!("{round:?}");
            };
            assert!(
                why.contains("Cannot assign requested address"),
                "the reason is told: {why}"
            );
        }
    });
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The tasks of this runtime that have not ended.
fn alive_tasks() -> usize {
    let runtime = tokio::runtime::Handle::current();
    runtime.metrics().num_alive_tasks()
}

fn replaced() {
    let network = Network::new();
    let index = network.index("wan1");
    network.on_gateway(async || {
        let (mut prober, mut reports) = prober();
        let mut make = |number: u32| {
            // Each is another plan; the silent target leaves requests open in every one.
            let timeout = NEVER + Duration::from_millis(number.into());
            prober.set_plans(plans(plan(index, 0, &[ANSWERING[0], SILENT[0]], timeout)));
            prober.plan_number(uplink(1), Family::Ipv4).unwrap()
        };
        let first = make(0);
        next(&mut reports, |round| round.answered() == 1).await;
        let descriptors = open_descriptors();
        let mut last = first;
        for number in 1..=200 {
            last = make(number);
            next(&mut reports, |round| {
                round.plan == last && round.answered() == 1
            })
            .await;
        }
        assert_eq!(last.0, first.0 + 200);
        prober.set_plans(BTreeMap::new());
        within_5_s("all tasks end", async {
            while alive_tasks() > 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        assert!(
            open_descriptors() < descriptors,
            "the last plan's socket is closed as well"
        );
    });
}

fn left_alone() {
    let network = Network::new();
    let index = network.index("wan1");
    network.on_gateway(async || {
        let (mut prober, mut reports) = prober();
        let wanted = plans(plan(index, 0, &[ANSWERING[0]], NEVER));
        prober.set_plans(wanted.clone());
        let number = prober.plan_number(uplink(1), Family::Ipv4);
        for sequence in 0..10 {
            prober.set_plans(wanted.clone());
            assert_eq!(next(&mut reports, whole).await.sequence, sequence);
        }
        assert_eq!(prober.plan_number(uplink(1), Family::Ipv4), number);
        drop(prober);
        within_5_s("probing ends with the prober", async {
            while reports.recv().await.is_some() {}
        })
        .await;
    });
}
