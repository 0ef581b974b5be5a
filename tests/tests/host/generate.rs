//! What `generate` prints is loaded as it is, beside a daemon that does not translate: users reach the
//! internet by both uplinks, and by the other when one dies.

use std::time::Duration;

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Failover, Lab, ProgramSpec, Protocol, Tally, Traffic};

use crate::{CONFIG, SystemTest, TestResult};

const LIMIT: Duration = Duration::from_secs(30);
const PATIENT: Duration = Duration::from_secs(5);
const FLOWS: usize = 60;

/// What loads the rules from a file.
#[derive(Clone, Copy)]
enum Loader {
    Nft,
    /// `iptables-PART-restore` and `ip6tables-PART-restore`.
    Iptables(&'static str),
}

pub(crate) fn tests() -> Vec<SystemTest> {
    let mut tests: Vec<SystemTest> = [
        ("nftables/classic", Loader::Nft, "classic"),
        ("nftables/ebpf", Loader::Nft, "ebpf"),
        (
            "iptables_legacy/classic",
            Loader::Iptables("legacy"),
            "classic",
        ),
        ("iptables_nft/ebpf", Loader::Iptables("nft"), "ebpf"),
    ]
    .map(|(name, loader, mode)| {
        SystemTest::new(format!("generate/{name}"), move || works(loader, mode))
    })
    .into();
    tests.push(SystemTest::new("generate/nothing_to_do", nothing_to_do));
    tests
}

async fn load(lab: &Lab, failover: &Failover, loader: Loader) -> TestResult {
    let gateway = lab.gateway().node();
    let generate = |arguments: &'static [&'static str]| {
        let spec = ProgramSpec::new(failover.binary())
            .arguments(["generate"])
            .arguments(arguments)
            .arguments(["--config"])
            .arguments([failover.config()]);
        gateway.must(spec)
    };
    match loader {
        Loader::Nft => {
            let rules = generate(&["nftables"]).await?;
            // A second time it replaces itself.
            gateway.nft(rules.clone()).await?;
            gateway.nft(rules).await?;
        }
        Loader::Iptables(part) => {
            for (program, arguments) in [
                ("iptables", &["iptables"][..]),
                ("ip6tables", &["iptables", "--ipv6"][..]),
            ] {
                let rules = generate(arguments).await?;
                let restore = ProgramSpec::new(format!("{program}-{part}-restore"))
                    .arguments(["--noflush"])
                    .input(rules);
                gateway.must(restore).await?;
            }
        }
    }
    Ok(())
}

async fn works(loader: Loader, mode: &str) -> TestResult {
    let lab = Lab::builder().build().await?;
    let failover = Failover::new(&lab, &format!("{CONFIG}nat: none\nmode: {mode}\n"))?;
    let daemon = failover.run().await?;
    let all_up = daemon.wait_until("all are up", LIMIT, |status| status.all(State::Up));
    all_up.await?;
    load(&lab, &failover, loader).await?;
    for family in Family::ALL {
        let tally = new_flows(&lab, family).await?;
        assert_eq!(tally.answered(), FLOWS, "{family}: {tally}");
        assert!(tally.on(1) > 0 && tally.on(2) > 0, "{family}: {tally}");
    }
    lab.uplink(1)?.black_hole().await?;
    daemon
        .wait_until("the first uplink is down", LIMIT, |status| {
            let uplink = status.uplink("one");
            uplink.is_some_and(|uplink| {
                uplink.ipv4.state == State::Down && uplink.ipv6.state == State::Down
            })
        })
        .await?;
    for family in Family::ALL {
        let tally = new_flows(&lab, family).await?;
        assert_eq!(tally.on(2), FLOWS, "{family}: {tally}");
    }
    Ok(())
}

async fn new_flows(lab: &Lab, family: Family) -> Result<Tally, failover_tests::LabError> {
    let traffic = Traffic::new(Protocol::Tcp, family, FLOWS).within(PATIENT);
    Ok(Tally::of(&lab.client(1)?.burst(traffic).await?))
}

async fn nothing_to_do() -> TestResult {
    let lab = Lab::builder().build().await?;
    let failover = Failover::new(&lab, CONFIG)?;
    let spec = ProgramSpec::new(failover.binary())
        .arguments(["generate", "nftables", "--config"])
        .arguments([failover.config()]);
    let output = lab.gateway().node().output(spec).await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        output.stdout.is_empty() && output.stderr.contains("nat: none"),
        "{output:?}"
    );
    Ok(())
}
