//! The kernel refuses a program at an interface that comes while the daemon runs: it is said, the
//! interface's flows go on, and the program hangs there as soon as it can.

use std::time::Duration;

use aya::programs::TcAttachType;
use failover::dataplane::ebpf::object::EMBEDDED;
use failover::family::Family;
use failover_tests::daemon::{State, Status};
use failover_tests::programs::{Counter, Order, ProgramsError};
use failover_tests::{Lab, LabError, Node, ProgramSpec, Protocol, Tally, Traffic};

use crate::hanging::{downlink, places, until, usual, wanted};
use crate::{CONFIG, Hook, SystemTest, TestResult, VERDICT, started};

pub(crate) fn tests(hook: Hook) -> Vec<SystemTest> {
    let mut tests = vec![SystemTest::new(
        format!("{hook}_an_interface_that_takes_no_program_goes_on_without"),
        move || without(hook),
    )];
    if hook == Hook::Tcx {
        tests.push(SystemTest::new(
            "tcx_that_is_full_makes_room_by_clsact",
            full,
        ));
    }
    tests
}

/// How many programs the kernel takes at a side of an interface (`bpf_mprog_max` in
/// include/linux/bpf_mprog.h).
const MOST: usize = 63;
/// Longer than the longest wait for another try.
const RETRY: Duration = Duration::from_secs(40);

/// What keeps ours from the ingress of `lan1`: programs of others, as many as there can be, and the
/// older qdisc in the place of `clsact`.
#[derive(Default)]
struct Obstacle {
    programs: Vec<Counter>,
}

impl Obstacle {
    /// What the daemon says of it; ERANGE is what `bpf_mprog_attach` in kernel/bpf/mprog.c answers.
    const fn reasons(hook: Hook) -> &'static [&'static str] {
        const OTHER_QDISC: &str = "the ingress qdisc is in its place";
        match hook {
            Hook::Tcx => &["Numerical result out of range", OTHER_QDISC],
            Hook::Clsact => &[OTHER_QDISC],
        }
    }

    /// To be put while the interface has another name.
    async fn put(hook: Hook, gateway: &Node) -> Result<Self, Box<dyn std::error::Error>> {
        let add = "tc qdisc add dev spare handle ffff: ingress";
        gateway.must(ProgramSpec::line(add)).await?;
        match hook {
            Hook::Tcx => Ok(Self {
                programs: fill(gateway, "spare").await?,
            }),
            Hook::Clsact => Ok(Self::default()),
        }
    }

    async fn lift(self, gateway: &Node) -> Result<(), LabError> {
        drop(self.programs);
        let command = "tc qdisc del dev lan1 ingress";
        gateway.must(ProgramSpec::line(command)).await.map(drop)
    }
}

/// Attaches as many programs as there can be to the ingress of an interface.
async fn fill(
    gateway: &Node,
    interface: &'static str,
) -> Result<Vec<Counter>, Box<dyn std::error::Error>> {
    let index = gateway.interface_index(interface).await?;
    let all = gateway
        .run(move || async move {
            let mut all = Vec::new();
            for _ in 0..MOST {
                let mut counter = Counter::new(EMBEDDED, index)?;
                counter.attach(interface, TcAttachType::Ingress, Order::Last)?;
                all.push(counter);
            }
            Ok::<_, ProgramsError>(all)
        })
        .await??;
    Ok(all)
}

/// Where there is no room for ours, it hangs on the other hook.
async fn full() -> TestResult {
    let lab = Lab::builder().build().await?;
    let gateway = lab.gateway().node();
    let programs = fill(gateway, "lan0").await?;
    let daemon = Hook::Tcx.start(&lab).await?;
    let log = daemon.log();
    let said = |line: &str| line.contains("WARN") && line.contains("out of range");
    assert!(log.lines().any(said), "{log}");
    let ours = |hook, place| wanted(hook, &[place]);
    let [lan_in, lan_out] = downlink("lan0");
    let found = places(gateway).await?;
    assert!(found.is_superset(&ours(Hook::Clsact, lan_in)), "{found:?}");
    assert!(found.is_superset(&ours(Hook::Tcx, lan_out)), "{found:?}");
    for family in Family::ALL {
        let traffic = Traffic::new(Protocol::Udp, family, 60);
        let tally = Tally::of(&lab.client(1)?.burst(traffic).await?);
        assert_eq!(tally.answered(), 60, "{tally}");
        assert!(tally.on(1) > 10 && tally.on(2) > 10, "{tally}");
    }
    let failover = daemon.failover().clone();
    daemon.terminate().await?;

    // With room again, the next daemon takes it.
    drop(programs);
    let daemon = started(&failover).await?;
    until(gateway, VERDICT, &usual(Hook::Tcx)).await?;
    daemon.terminate().await?;
    let output = failover.command("clean").await?;
    assert!(output.status.success(), "{output:?}");
    let qdiscs = gateway.must(ProgramSpec::line("tc qdisc show")).await?;
    assert!(!qdiscs.contains("clsact"), "{qdiscs}");
    Ok(())
}

async fn rename(gateway: &Node, from: &str, to: &str) -> Result<(), LabError> {
    for command in [
        format!("ip link set {from} down"),
        format!("ip link set {from} name {to}"),
        format!("ip link set {to} up"),
    ] {
        gateway.must(ProgramSpec::line(&command)).await?;
    }
    gateway.settled().await
}

async fn without(hook: Hook) -> TestResult {
    let lab = Lab::builder().downlinks([1, 1]).build().await?;
    let gateway = lab.gateway().node();
    gateway
        .set_sysctl("net/ipv6/conf/lan1/keep_addr_on_down", "1")
        .await?;
    // The base layer spreads as the kernel does: by ports too, so that a few flows are enough.
    for family in ["ipv4", "ipv6"] {
        let policy = format!("net/{family}/fib_multipath_hash_policy");
        gateway.set_sysctl(&policy, "1").await?;
    }
    rename(gateway, "lan1", "spare").await?;
    let obstacle = Obstacle::put(hook, gateway).await?;
    let config = CONFIG.replace("[lan0]", "[lan0, lan1]");
    let daemon = started(&hook.failover(&lab, &config)?).await?;
    assert_eq!(daemon.status().await?.problem, None);

    rename(gateway, "spare", "lan1").await?;
    let reasons = Obstacle::reasons(hook);
    let told = |text: &str| {
        text.contains("lan1 ingress") && reasons.iter().all(|reason| text.contains(reason))
    };
    let problem = |status: &Status| status.problem.as_deref().is_some_and(told);
    daemon
        .wait_until("the status tells of lan1", VERDICT, problem)
        .await?;
    let status = daemon.failover().command("status").await?;
    assert!(told(&status.stdout), "{}", status.stdout);
    assert!(places(gateway).await?.is_superset(&usual(hook)));

    // Both downlinks' flows are spread and stay where they are, and a failover is one.
    for (client, has_program) in lab.clients().iter().zip([true, false]) {
        for family in Family::ALL {
            for protocol in Protocol::ALL {
                let flows = client.open(Traffic::new(protocol, family, 40)).await?;
                let first = flows.ask(VERDICT).await?;
                let tally = Tally::of(&first);
                assert_eq!(tally.answered(), 40, "{protocol} {family}: {tally}");
                // The kernel knows no more of an echo than its addresses.
                assert!(
                    (protocol == Protocol::Icmp && !has_program)
                        || (tally.on(1) > 5 && tally.on(2) > 5),
                    "{protocol} {family}: {tally}"
                );
                for _ in 0..2 {
                    for (first, next) in first.iter().zip(flows.ask(VERDICT).await?) {
                        assert_eq!(next?.seen, first.clone()?.seen, "{protocol} {family}");
                    }
                }
            }
        }
    }
    lab.uplink(1)?.black_hole().await?;
    let down = |status: &Status| status.is("one", State::Down);
    daemon.wait_until("one is down", VERDICT, down).await?;
    let traffic = Traffic::new(Protocol::Udp, Family::Ipv4, 40);
    let tally = Tally::of(&lab.client(2)?.burst(traffic).await?);
    assert_eq!(tally.on(2), 40, "{tally}");
    lab.uplink(1)?.heal().await?;
    let up = |status: &Status| status.all(State::Up);
    daemon.wait_until("one is up", VERDICT, up).await?;

    let log = daemon.log();
    // For each family, and not again with each try at the program.
    let forgotten = log.matches("forgot flows that others took").count();
    assert_eq!(forgotten, 2, "{log}");
    let warned = log
        .lines()
        .filter(|line| line.contains("WARN") && line.contains("place=lan1 ingress") && told(line));
    assert_eq!(warned.count(), 1, "it is said once: {log}");

    obstacle.lift(gateway).await?;
    let all = &usual(hook) | &wanted(hook, &downlink("lan1"));
    until(gateway, RETRY, &all).await?;
    let fine = |status: &Status| status.problem.is_none();
    daemon
        .wait_until("nothing is wrong any more", VERDICT, fine)
        .await?;
    daemon.terminate().await?;
    Ok(())
}
