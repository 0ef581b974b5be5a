//! What `init` writes runs as it is: a lab's daemon starts with it, an uplink is lost, and users go on.

use std::time::Duration;

use failover::family::Family;
use failover_tests::daemon::State;
use failover_tests::{Failover, Lab, LabBuilder, Output, ProgramSpec, Protocol, Tally, Traffic};

use crate::{CONFIG, SystemTest, TestResult};

/// How long anything may take that is waited for.
const LIMIT: Duration = Duration::from_secs(30);
/// How long an answer may take that must come.
const PATIENT: Duration = Duration::from_secs(5);
/// New flows of each family.
const FLOWS: usize = 40;

/// The targets of a configuration that names none are hosts of the lab's internet.
const TARGETS: [&str; 4] = [
    "ip address add 1.1.1.1/32 dev lo",
    "ip address add 9.9.9.9/32 dev lo",
    "ip -6 address add 2606:4700:4700::1111/128 dev lo nodad",
    "ip -6 address add 2620:fe::fe/128 dev lo nodad",
];

pub(crate) fn tests() -> Vec<SystemTest> {
    vec![
        SystemTest::new("init/lines_of_their_own", || {
            let lab = Lab::builder()
                .downlinks([1, 1, 1])
                .uplink_without(2, Family::Ipv6);
            runs(lab, &Family::ALL, "downlinks: [lan0, lan1, lan2]")
        }),
        SystemTest::new("init/gateways_in_one_network", || {
            let lab = Lab::builder().shared_uplinks();
            runs(lab, &Family::ALL, "gateway: 198.18.10.102")
        }),
        SystemTest::new("init/one_arm", || {
            runs(
                Lab::builder().one_arm(),
                &[Family::Ipv4],
                "downlinks: [lan0]",
            )
        }),
        SystemTest::new("init/leaves_a_file_alone", leaves_alone),
        SystemTest::new("init/a_host_without_default_routes", nothing_leads_out),
    ]
}

async fn init(
    lab: &Lab,
    binary: &std::path::Path,
    options: &[&str],
) -> Result<Output, failover_tests::LabError> {
    let spec = ProgramSpec::new(binary)
        .arguments(["init"])
        .arguments(options);
    lab.gateway().node().output(spec).await
}

async fn runs(lab: LabBuilder, lost_in: &[Family], words: &str) -> TestResult {
    let lab = lab.build().await?;
    for command in TARGETS {
        lab.internet()
            .node()
            .must(ProgramSpec::line(command))
            .await?;
    }
    let failover = Failover::new(&lab, CONFIG)?;
    let written = init(&lab, failover.binary(), &["--output", "-"]).await?;
    assert!(written.status.success(), "{written:?}");
    let text = written.stdout;
    assert!(text.contains(words), "{text}");
    failover.rewrite(&text)?;
    let checked = failover.command("check").await?;
    assert_eq!(checked.stdout, "ok\n", "{checked:?}");
    assert_eq!(checked.stderr, "", "{checked:?}");
    let daemon = failover.run().await?;
    // As the daemon names them: the first of the file is the first of the lab.
    daemon
        .wait_until("all uplinks are up", LIMIT, |status| {
            status.uplinks.len() == 2 && status.all(State::Up)
        })
        .await?;
    for family in Family::ALL {
        let tally = new_flows(&lab, family).await?;
        assert_eq!(tally.answered(), FLOWS, "{family}: {tally}\n{text}");
    }
    lab.uplink(1)?.black_hole().await?;
    for family in lost_in {
        daemon
            .wait_until("the first uplink is down", LIMIT, |status| {
                status.uplinks.iter().any(|uplink| {
                    let found = match family {
                        Family::Ipv4 => &uplink.ipv4,
                        Family::Ipv6 => &uplink.ipv6,
                    };
                    found.state == State::Down
                })
            })
            .await?;
    }
    // IPv4 is on both uplinks in each of the labs.
    let tally = new_flows(&lab, Family::Ipv4).await?;
    assert_eq!(tally.on(2), FLOWS, "{tally}\n{text}");
    Ok(())
}

async fn new_flows(lab: &Lab, family: Family) -> Result<Tally, failover_tests::LabError> {
    let traffic = Traffic::new(Protocol::Tcp, family, FLOWS).within(PATIENT);
    Ok(Tally::of(&lab.client(1)?.burst(traffic).await?))
}

async fn leaves_alone() -> TestResult {
    let lab = Lab::builder().build().await?;
    let failover = Failover::new(&lab, CONFIG)?;
    let file = lab.files().join("made").join("failover.yaml");
    let path = file.display().to_string();
    let output = ["--output", path.as_str()];
    let first = init(&lab, failover.binary(), &output).await?;
    assert!(
        first.status.success() && first.stderr.contains(&path),
        "{first:?}"
    );
    std::fs::write(&file, "mine\n")?;
    let second = init(&lab, failover.binary(), &output).await?;
    assert_eq!(second.status.code(), Some(1), "{second:?}");
    assert!(second.stderr.contains("--force"), "{second:?}");
    assert_eq!(std::fs::read_to_string(&file)?, "mine\n");
    let forced = init(
        &lab,
        failover.binary(),
        &["--output", path.as_str(), "--force"],
    )
    .await?;
    assert!(forced.status.success(), "{forced:?}");
    assert!(std::fs::read_to_string(&file)?.contains("interface: wan1"));
    Ok(())
}

async fn nothing_leads_out() -> TestResult {
    let lab = Lab::builder().default_routes(false).build().await?;
    let failover = Failover::new(&lab, CONFIG)?;
    let output = init(&lab, failover.binary(), &["--output", "-"]).await?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(
        output.stdout.is_empty() && output.stderr.contains("default route"),
        "{output:?}"
    );
    Ok(())
}
